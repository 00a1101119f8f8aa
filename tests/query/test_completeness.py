"""How far counts can be trusted, from what the sources and their progress say."""

from typing import Any

from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.completeness import CountedState, SourceState, complete_until, counted_state
from tests.query.seeding import Counted, insert_sources


def source(source_id: int, **changes: Any) -> SourceState:
    fields: dict[str, Any] = {
        "topic": "outcomes",
        "incarnation": "a",
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


def test_only_the_newest_incarnation_of_a_topic_counts() -> None:
    """A topic made anew, here with fewer partitions, leaves its old partitions behind."""
    old = [source(1, partitions=2, complete_until_ms=1_000), source(2, partition=1, partitions=2)]
    new = source(3, incarnation="b", registered_ms=2, complete_until_ms=200_000)
    assert complete_until([*old, new]) == 200


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
