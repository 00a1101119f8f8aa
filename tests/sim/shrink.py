"""From a history that fails to a short one that still does: steps are left out, many at first, then one by one."""

import re
from collections.abc import Callable

from tests.sim.plan import Plan

_NUMBER = re.compile(r"(?<![\d/])-?\d+")
_MOST_CHARACTERS = 120
"""After these comes how many others differ."""


def kind_of(detail: str) -> str:
    """What went wrong, in which partition and which table, without the numbers that are others in a shorter plan."""
    return _NUMBER.sub("#", detail)[:_MOST_CHARACTERS]


def shrink(plan: Plan, fails: Callable[[Plan], bool], most_tries: int = 400) -> Plan:
    """The shortest that was found; `fails` says whether a plan still does."""
    size, tries = max(1, len(plan.steps) // 2), 0
    while tries < most_tries:
        at, shorter = 0, False
        while at < len(plan.steps) and tries < most_tries:
            less = Plan(plan.world, plan.steps[:at] + plan.steps[at + size :])
            tries += 1
            if fails(less):
                plan, shorter = less, True
            else:
                at += size
        if size == 1 and not shorter:
            return plan
        size = max(1, size // 2)
    return plan
