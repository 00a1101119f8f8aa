"""How far counts can be trusted, from what the sources and their progress say."""

import asyncio
import time
from typing import Any

import pytest

from orgstats.clickhouse.connect import connect
from orgstats.query import completeness, sql
from orgstats.query.clickhouse import Database
from orgstats.query.completeness import CountedState, SettledHistory, SourceState, complete_until, counted_state
from orgstats.query.params import StatsQuery
from orgstats.query.reader import Reader
from orgstats.query.series import Buckets
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
        "hourly_until_ms": 90_000,
        "hourly_offset": 1,
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
    assert counted_state(rows).versions != counted_state([source(1), source(2, partition=1, hourly_offset=2)]).versions


def test_what_is_read_from_hourly_is_complete_as_far_as_that_is_written() -> None:
    """Its own time, which is an earlier one."""
    state = counted_state([source(1), source(2, partition=1, hourly_until_ms=80_000)])
    assert (state.complete_until, state.hourly_until) == (100, 80)


def test_the_state_comes_out_of_the_tables(database: Database) -> None:
    """Newest rows of sources and progress, also of a source that has no progress yet."""
    insert_sources(database, [Counted(1, complete_until=1_500.5), Counted(2, partition=1, complete_until=None)])
    insert_sources(database, [Counted(1, complete_until=1_600.5, next_offset=9)])
    rows = [SourceState(*row) for row in database.read(sql.sources())]
    assert sorted(rows) == [
        SourceState(1, "outcomes", "a", 0, 1_000, 9, 1, 1_600_500, 1_600_500, 9),
        SourceState(2, "outcomes", "a", 1, 1_000, 0, 0, 0, 0, 0),
    ]
    assert counted_state(rows) == CountedState(frozenset({(1, 9, 9), (2, 0, 0)}), None, None)


def test_on_a_cluster_only_what_was_said_a_minute_ago_is_told() -> None:
    """Before that some replica may lack counts that progress has; who has not looked for so long knows nothing."""
    history = SettledHistory()
    told = [history.complete_until(1_000 + second, float(second)) for second in range(200)]
    assert told == [None] * 60 + [1_000 + second for second in range(140)]


def test_on_a_cluster_looks_that_are_far_apart_tell_the_latest_that_is_old_enough() -> None:
    """After an hour without a look the last one holds, until there is a newer one of a minute ago."""
    history = SettledHistory()
    looks = [(0.0, 1_000), (30.0, 1_030), (3_600.0, 4_600), (3_630.0, 4_630), (3_660.0, 4_660)]
    assert [history.complete_until(said, now) for now, said in looks] == [None, None, 1_030, 1_030, 4_600]


def test_on_a_cluster_what_was_taken_back_meanwhile_counts() -> None:
    """The mark went back, or became unknown, and forward again: what made it whole may not be everywhere yet."""
    back, unknown = SettledHistory(), SettledHistory()
    assert [back.complete_until(said, 30.0 * n) for n, said in enumerate([900, 500, 950, 960, 970])] == [
        *(None, None, 500, 500),
        950,
    ]
    assert [unknown.complete_until(said, 30.0 * n) for n, said in enumerate([900, None, 950, 960, 970])] == [
        *(None, None, None, None),
        950,
    ]


class Recorded(Database):
    """A database that nobody connects to: what it was asked, in order, and whether it says that there are replicas."""

    def __init__(self, *, replicated: bool) -> None:
        super().__init__("clickhouse://127.0.0.1:1/none", size=1)
        self.asked: list[str] = []
        self._replicated = replicated

    def read(self, statement: sql.Statement) -> list[tuple[Any, ...]]:
        """Answers of an organization without events, counted up to 1,500 s."""
        self.asked.append(statement.name)
        rows: dict[str, list[tuple[Any, ...]]] = {
            "progress": [tuple(source(1, complete_until_ms=1_500_000))],
            "is_replicated": [(1,)] * self._replicated,
        }
        return rows.get(statement.name, [])


@pytest.mark.parametrize(
    ("replicated", "seconds", "told"), [(False, 60.0, 1_500), (True, 60.0, None), (True, 0.0, 1_500)]
)
def test_progress_is_read_before_counts_and_has_to_be_old_where_there_are_replicas(
    replicated: bool, seconds: float, told: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server's progress follows its counts; of several, the counts may come from one that is behind."""
    monkeypatch.setattr(completeness, "SETTLED_SECONDS", seconds)
    database = Recorded(replicated=replicated)

    async def ask() -> int | None:
        reader = Reader(database, timeout_seconds=10, token_seconds=1)
        try:
            state = await reader.state()
            await reader.series(StatsQuery(1, "received", Buckets(0, 10, 1)), state)
        finally:
            reader.close()
        return state.complete_until

    assert asyncio.run(ask()) == told
    assert database.asked == ["progress", "is_replicated", "series"]


def test_counts_of_a_single_server_are_not_replicated(database: Database, clickhouse_url: str) -> None:
    """Whatever stands in front of counts instead, the mark has to be old."""
    assert database.read(sql.is_replicated()) == []
    with connect(clickhouse_url, client_name="tests") as client:
        client.execute("RENAME TABLE counts TO counts_local")
        client.execute("CREATE TABLE counts AS counts_local ENGINE = Merge(currentDatabase(), '^counts_local$')")
    assert database.read(sql.is_replicated()) == [(1,)]
