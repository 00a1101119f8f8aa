"""How old the copy of the rules is, when it is read anew, and what is told of entries that came too late."""

import pytest
from structlog.testing import capture_logs

from orgstats.consumer.counting.rule_history import RuleHistory, RulesEntry
from orgstats.consumer.rules_copy import RULES_SECONDS, RulesCopy
from orgstats.consumer.store.rules import STALE_SECONDS
from orgstats.errors import Unavailable
from tests.sim.clickhouse import SimClickHouse
from tests.sim.store import SimStore
from tests.sim.time import SimClock


@pytest.fixture
def server() -> SimClickHouse:
    """A store without rules."""
    return SimClickHouse(SimClock())


@pytest.fixture
def copy(server: SimClickHouse) -> RulesCopy:
    """A copy that was read once more already."""
    copy = RulesCopy(SimStore(server), server.clock)
    copy.refresh(-1)
    return copy


def test_it_is_read_every_few_seconds(server: SimClickHouse, copy: RulesCopy) -> None:
    """In between nobody is asked."""
    server.rules = RuleHistory([RulesEntry(9_000, 1, ())])
    server.clock.sleep(RULES_SECONDS - 0.1)
    assert copy.refresh(-1) is None
    server.clock.sleep(0.1)
    assert copy.refresh(-1) is server.rules
    assert copy.history is server.rules


def test_without_an_answer_it_becomes_stale_and_is_asked_for_each_second(
    server: SimClickHouse, copy: RulesCopy
) -> None:
    """Its age counts from the last answer."""
    server.away = True
    while server.clock.monotonic() < STALE_SECONDS:
        assert not copy.stale
        assert copy.refresh(-1) is None
        server.clock.sleep(1.0)
    server.clock.sleep(0.1)
    assert copy.stale
    server.away = False
    server.clock.sleep(1.0)
    assert copy.refresh(-1) is server.rules
    assert not copy.stale


def test_a_process_that_was_stopped_finds_it_stale_at_once(server: SimClickHouse, copy: RulesCopy) -> None:
    """Nobody looked meanwhile; asked to hurry it looks at once."""
    server.clock.sleep(STALE_SECONDS + 1)
    assert copy.stale
    assert copy.refresh(-1) is not None
    server.clock.sleep(1.0)
    assert copy.refresh(-1) is None
    copy.hurry()
    assert copy.refresh(-1) is not None


@pytest.mark.parametrize(("classified_ms", "late"), [(8_999, False), (9_000, True)])
def test_an_entry_that_came_too_late_is_told(
    server: SimClickHouse, copy: RulesCopy, classified_ms: int, late: bool
) -> None:
    """Records of its time were classified without it, so another pass would count differently."""
    server.rules = RuleHistory([RulesEntry(9_000, 1, ())])
    copy.hurry()
    with capture_logs() as logs:
        copy.refresh(classified_ms)
    assert [line["version"] for line in logs if line["log_level"] == "error"] == [1] * late


def test_a_store_that_does_not_answer_gives_no_first_copy(server: SimClickHouse) -> None:
    """Nothing has been joined by then."""
    server.away = True
    with pytest.raises(Unavailable):
        RulesCopy(SimStore(server), server.clock)
