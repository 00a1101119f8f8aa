"""Kinds of rounds that go on for as long as they are told; `make soak ONLY=kind MINUTES=10` plays one for long."""

from collections.abc import Callable
from typing import Final

from tests.faults import clocks, cutting, upgrade
from tests.faults.disk_full import disk_full
from tests.faults.plan import Plan
from tests.faults.transactions import transactions

Campaign = Callable[[Plan, float], None]
"""Plays a round for so many seconds, and compares every cell in it and in the end; raises Unequal."""


def _transactions(plan: Plan, seconds: float) -> None:
    plan.play(lambda one: transactions(plan, one, seconds))


def _upgrade(plan: Plan, seconds: float) -> None:
    plan.play(lambda one: upgrade.upgrade(one, seconds), **upgrade.SESSION)


def _membership(plan: Plan, seconds: float) -> None:
    plan.play(lambda one: plan.storm(one, seconds), ORGSTATS_KAFKA__GROUP_PROTOCOL="consumer")


def _cuts_of_the_log(plan: Plan, seconds: float) -> None:
    broker = plan.broker
    if broker is None:
        raise ValueError("cuts of the log need a broker that can be stopped")
    plan.play(lambda one: cutting.cuts_of_the_log(broker, one, seconds), **cutting.SESSION)


def _clocks(plan: Plan, seconds: float) -> None:
    plan.play(lambda one: clocks.clocks(one, seconds), **clocks.SESSION)


CAMPAIGNS: Final[dict[str, Campaign]] = {
    "clocks": _clocks,
    "cuts_of_the_log": _cuts_of_the_log,
    "disk_full": disk_full,
    "membership": _membership,
    "transactions": _transactions,
    "upgrade": _upgrade,
}
