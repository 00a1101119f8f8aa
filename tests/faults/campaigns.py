"""Kinds of rounds that go on for as long as they are told; `make soak ONLY=kind MINUTES=10` plays one for long."""

from collections.abc import Callable
from typing import Final

from tests.faults.plan import Plan
from tests.faults.transactions import transactions

Campaign = Callable[[Plan, float], None]
"""Plays a round for so many seconds, and compares every cell in the end; raises Unequal."""


def _transactions(plan: Plan, seconds: float) -> None:
    plan.play(lambda one: transactions(plan, one, seconds))


def _membership(plan: Plan, seconds: float) -> None:
    plan.play(lambda one: plan.storm(one, seconds), ORGSTATS_KAFKA__GROUP_PROTOCOL="consumer")


CAMPAIGNS: Final[dict[str, Campaign]] = {"membership": _membership, "transactions": _transactions}
