"""The seeded plan, small: every kind of fault happens to real processes, and then every cell is compared."""

import os
from collections import Counter

import pytest

from tests.faults.conftest import Place
from tests.faults.plan import Plan
from tests.faults.round import FAILPOINTS, READING, Round

SEED = 7


@pytest.fixture
def plan(place: Place) -> Plan:
    """A plan at the tests' site."""
    return Plan(place.site, place.broker, SEED, Counter())


@pytest.mark.timeout(540)
@pytest.mark.campaign
def test_a_storm_of_rebalances_kills_and_zombies_changes_no_count(plan: Plan) -> None:
    """For a minute members join and leave every two seconds, kill themselves at failpoints, are stopped and go on."""
    done = plan.done

    def enough() -> bool:
        kills = done["killed"] + done["killed at a failpoint"]
        everywhere = all(done[f"killed {name}"] for name in FAILPOINTS)
        return everywhere and kills >= 20 and done["zombie"] >= 3

    def storm(one: Round) -> None:
        plan.storm(one, seconds=60, enough=enough)

    plan.play(storm)
    assert done["records compared"] > 0
    assert done["seconds of storm"] >= 60
    for way in READING:
        assert done[f"started, reads {way}"] > 0 or "ORGSTATS_READING" in os.environ


@pytest.mark.timeout(400)
@pytest.mark.campaign
def test_lost_answers_and_doubled_inserts_change_no_count(plan: Plan) -> None:
    """Twenty inserts of which nobody hears that they are stored, and twenty that are stored twice."""
    plan.play(plan.mischief)
    assert plan.done["insert: swallow"] >= 20
    assert plan.done["insert: double"] + plan.done["insert: late"] >= 20


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["cuts", "gap", "recreate", "away", "fingerprint", "offsets", "broker_restart"])
@pytest.mark.campaign
def test_a_round_of_one_kind_changes_no_count(plan: Plan, kind: str) -> None:
    """Retention, topics made anew, ClickHouse away, another fingerprint, offsets set by hand, a killed broker."""
    plan.play(getattr(plan, kind))
    assert plan.done["rounds"] == 1
    assert plan.done["records compared"] > 0
