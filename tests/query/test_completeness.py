"""How far counts can be trusted, from what the sources and their progress say."""

import time
from typing import Any

import pytest

from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.completeness import CountedState, SourceState, complete_until, counted_state
from tests.query.seeding import Counted, insert_sources
from tests.query.test_commands import Command


@pytest.fixture
def orgstats(clickhouse_url: str) -> Command:
    return Command(clickhouse_url)


def source(source_id: int, **changes: Any) -> SourceState:
    fields: dict[str, Any] = {
        "topic": "outcomes",
        "topic_id": "a",
        "partition": 0,
        "registered_ms": 1,
        "version": 1,
        "partitions": 1,
        "complete_until_ms": 100_999,
    }
    return SourceState(source_id, **{**fields, **changes})


def test_the_slowest_partition_decides() -> None:
    """The least of all partitions and topics counts, cut to whole seconds."""
    assert complete_until([source(1)]) == 100
    two = {"partitions": 2}
    partitions = [source(1, complete_until_ms=300_000, **two), source(2, partition=1, **two)]
    assert complete_until(partitions) == 100
    assert complete_until([*partitions, source(3, topic="billing", complete_until_ms=5_000)]) == 5


def test_nothing_is_known_without_sources() -> None:
    """Before the first consumer there is no time up to which anything was counted."""
    assert complete_until([]) is None


def test_a_partition_without_progress_makes_it_unknown() -> None:
    """Registered but not counted yet, or known only by the number of partitions: unknown."""
    uncounted = source(2, partition=1, version=0, partitions=0, complete_until_ms=0)
    assert complete_until([source(1, partitions=2), uncounted]) is None
    assert complete_until([source(1, partitions=2)]) is None
    assert complete_until([uncounted]) is None


def test_only_the_newest_topic_id_of_a_topic_counts() -> None:
    """A topic made anew, here with fewer partitions, leaves its old partitions behind."""
    old = [source(1, partitions=2, complete_until_ms=1_000), source(2, partition=1, partitions=2)]
    new = source(3, topic_id="b", registered_ms=2, complete_until_ms=200_000)
    assert complete_until([*old, new]) == 200


def test_complete_until_is_unknown_before_the_first_end() -> None:
    """A partition that is still being caught up for the first time has not been complete at any time."""
    assert complete_until([source(1, complete_until_ms=0)]) is None
    assert complete_until([source(1, partitions=2), source(2, partition=1, complete_until_ms=0)]) is None


def test_retired_topic_does_not_hold_complete_until_back() -> None:
    """Taken out it no longer counts, unless something of it was registered afterwards."""
    old = [source(1, topic="old", complete_until_ms=5_000, retired=True)]
    assert complete_until([source(2), *old]) == 100
    assert complete_until([source(2), *old, source(3, topic="old", partition=1, complete_until_ms=7_000)]) == 5
    assert complete_until(old) is None


def test_complete_until_is_never_in_the_future(database: Database) -> None:
    """A consumer whose clock was an hour ahead has written what is not yet; ClickHouse's clock is the limit."""
    ahead = time.time() + 3_600
    insert_sources(database, [Counted(1, complete_until=ahead)])
    (row,) = [SourceState(*row) for row in database.read(sql.sources())]
    assert row.complete_until_ms < (ahead - 1_800) * 1000


def test_topics_are_retired_and_taken_back(database: Database, orgstats: Command) -> None:
    """A topic that nobody counts can be taken out by its name; one that is counted, or never was, cannot."""
    insert_sources(
        database,
        [Counted(1, topic="old", complete_until=1_500.0), Counted(2, complete_until=time.time())],
    )

    def complete() -> int | None:
        return counted_state(SourceState(*row) for row in database.read(sql.sources())).complete_until

    assert complete() == 1_500
    orgstats("topics", "retire", "old")
    assert complete() > 1_500  # type: ignore[operator]
    assert [line.split("\t")[::3] for line in orgstats("topics", "ls").splitlines()] == [
        ["topic", "state"],
        ["old", "retired"],
        ["outcomes", "counted"],
    ]
    orgstats("topics", "unretire", "old")
    assert complete() == 1_500
    orgstats("topics", "retire", "outcomes", exit_code=2)
    assert "stop its consumers" in orgstats.stderr
    orgstats("topics", "retire", "nonesuch", exit_code=2)
    assert "topics ls" in orgstats.stderr


def test_a_retired_topic_that_is_made_again_is_waited_for(database: Database, orgstats: Command) -> None:
    """What is registered after the topic was retired counts, whatever the name."""
    insert_sources(database, [Counted(1, complete_until=1_500.0), Counted(2, topic="other", complete_until=1_600.0)])
    orgstats("topics", "retire", "outcomes")
    again = Counted(3, topic_id="b", registered=time.time() + 60, complete_until=None)
    insert_sources(database, [again])
    assert counted_state(SourceState(*row) for row in database.read(sql.sources())).complete_until is None


def test_states_are_equal_when_nothing_was_counted_between() -> None:
    """The versions of all progress tell one state from another, whatever the order of the rows."""
    rows = [source(1), source(2, partition=1)]
    assert counted_state(rows).versions == counted_state(rows[::-1]).versions
    assert counted_state(rows).versions != counted_state([source(1), source(2, partition=1, version=2)]).versions


def test_the_state_comes_out_of_the_tables(database: Database) -> None:
    """Newest rows of sources and progress, also of a source that has no progress yet."""
    insert_sources(database, [Counted(1, complete_until=1_500.5), Counted(2, partition=1, complete_until=None)])
    insert_sources(database, [Counted(1, complete_until=1_600.5, next_offset=9)])
    rows = [SourceState(*row) for row in database.read(sql.sources())]
    assert sorted(rows) == [
        SourceState(1, "outcomes", "a", 0, 1_000, 9, 1, 1_600_500),
        SourceState(2, "outcomes", "a", 1, 1_000, 0, 0, 0),
    ]
    assert counted_state(rows) == CountedState(frozenset({(1, 9), (2, 0)}), None)
