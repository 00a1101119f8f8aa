"""Kinds of rounds that have a length (campaigns.py), for half a minute."""

from collections import Counter

import pytest

from tests.faults.campaigns import CAMPAIGNS
from tests.faults.conftest import Place
from tests.faults.plan import Plan
from tests.faults.transactions import ENOUGH

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
