"""The kinds of rounds that have a length (campaigns.py), each for half a minute."""

from collections import Counter

import pytest

from tests.conftest import IN_CI
from tests.faults import disk_full
from tests.faults.campaigns import CAMPAIGNS
from tests.faults.conftest import Place
from tests.faults.plan import Plan
from tests.faults.transactions import ENOUGH
from tests.support import stepped_clock

pytestmark = pytest.mark.campaign


@pytest.fixture
def plan(place: Place) -> Plan:
    """A plan at the tests' site."""
    return Plan(place.site, place.broker, 7, Counter())


@pytest.mark.timeout(540)
def test_open_and_aborted_transactions_change_no_count(plan: Plan) -> None:
    """Ended in every way there is, some held open, while consumers are killed and inserts go wrong."""
    CAMPAIGNS["transactions"](plan, 30)
    assert all(plan.done[kind] for kind in (*ENOUGH, "records compared"))


@pytest.mark.timeout(540)
def test_consumers_of_two_fingerprints_side_by_side_mix_no_chunk(plan: Plan) -> None:
    """Upgraded one after another under load, there and back; a repair then counts all of it in one way."""
    CAMPAIGNS["upgrade"](plan, 30)
    assert plan.done["members upgraded"] >= 6
    assert plan.done["records compared"] > 0


@pytest.mark.timeout(540)
def test_logs_that_are_cut_back_again_and_again_are_made_good(plan: Plan) -> None:
    """By a broker with an older disk, under consumers that run, stand still, are stopped or killed."""
    CAMPAIGNS["cuts_of_the_log"](plan, 30)
    assert plan.done["logs cut back"] >= 4
    assert plan.done["vanished ranges listed"] > 0
    assert plan.done["records compared"] > 0


@pytest.mark.timeout(540)
def test_clocks_that_step_by_an_hour_stop_neither_counting_nor_completeness(plan: Plan) -> None:
    """Each of two consumers has its own, and partitions pass between them."""
    if reason := stepped_clock.missing():
        (pytest.fail if IN_CI else pytest.skip)(reason)
    CAMPAIGNS["clocks"](plan, 30)
    assert plan.done["clocks stepped"] >= 6
    assert plan.done["records compared"] > 0


@pytest.mark.timeout(540)
def test_a_full_disk_is_waited_out_again_and_again(plan: Plan) -> None:
    """Nothing is committed that is not stored; consumers that were killed meanwhile count what they had again."""
    if reason := disk_full.missing(plan.site.directory):
        pytest.skip(reason)
    CAMPAIGNS["disk_full"](plan, 30)
    assert plan.done["disks filled"] >= 3
    assert plan.done["records compared"] > 0
