"""Queries read together: each gets what it would get alone, and nothing of another's."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orgstats.clickhouse.connect import connect
from orgstats.query import metrics
from orgstats.query.batch import WindowBatch
from orgstats.query.clickhouse import Database
from orgstats.query.completeness import CountedState
from orgstats.query.http import Body, body_of_series
from orgstats.query.params import MAX_BUCKETS, InvalidQuery, StatsQuery
from orgstats.query.reader import Reader
from orgstats.query.series import RESOLUTIONS, Buckets
from orgstats.query.stats import read_series, read_together
from tests.query.seeding import Cell, insert_counts

NOTHING_COUNTED = CountedState(frozenset(), None, None)


def of(org_id: int, first: int, length: int, width: int = 10) -> StatsQuery:
    """A query of so many buckets, the first so many widths after 1970."""
    return StatsQuery(org_id, "received", Buckets(first * width, width, length))


windows = st.tuples(st.integers(1, 2000), st.integers(0, 400), st.integers(1, 400))


@given(st.lists(windows, min_size=1, max_size=60))
def test_a_batch_costs_no_more_than_one_request(asked: list[tuple[int, int, int]]) -> None:
    """It reads at most as many buckets as one request may ask for, and twice as many as any that joined."""
    batch = WindowBatch(of(*asked[0]))
    joined = [of(*asked[0]), *(of(*one) for one in asked[1:] if batch.join(of(*one)))]
    assert batch.queries == joined
    first, end = min(one.buckets.first for one in joined), max(one.buckets.last for one in joined) + 10
    length = (end - first) // 10
    assert length <= 2 * min(one.buckets.length for one in joined) or len(joined) == 1
    assert length * len({one.org_id for one in joined}) <= MAX_BUCKETS


def test_many_queries_join_one_batch() -> None:
    """The same day of 400 organizations is one batch; one more day of theirs is another."""
    batch = WindowBatch(of(0, 0, 24, 3_600))
    assert all(batch.join(of(org_id, 0, 24, 3_600)) for org_id in range(400))
    assert not batch.join(of(1, 48, 24, 3_600))
    assert not batch.join(of(1, 0, 1, 3_600))


queries = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=12)


@pytest.mark.parametrize("width", sorted(RESOLUTIONS.values()))
def test_rows_are_dealt_to_their_queries(width: int, database: Database) -> None:
    """For any organizations and windows one statement gives each what a statement of its own gives."""
    insert_counts(database, [Cell(org_id, n * width, 1_000 * org_id + n) for org_id in range(1, 6) for n in range(41)])

    @settings(max_examples=15, deadline=None)
    @given(queries)
    def compare(asked: list[tuple[int, int, int]]) -> None:
        together = [of(*one, width) for one in asked]
        assert read_together(database, together) == {query: read_series(database, query) for query in together}

    compare()


def asked_at_once(database: Database, asked: list[StatsQuery]) -> dict[StatsQuery, Body]:
    """What a reader answers to queries that come at the same moment."""

    async def scenario() -> list[Body]:
        reader = Reader(database, timeout_seconds=10, token_seconds=1)
        try:
            return await asyncio.gather(*(reader.series(query, NOTHING_COUNTED) for query in asked))
        finally:
            reader.close()

    return dict(zip(asked, asyncio.run(scenario()), strict=True))


def statements() -> float:
    """Statements read so far."""
    return metrics.REGISTRY.get_sample_value("orgstats_clickhouse_read_seconds_count") or 0.0


def test_waiting_queries_share_a_statement(database: Database) -> None:
    """Forty organizations asked for at once need a few statements, and each gets its own numbers."""
    insert_counts(database, [Cell(org_id, 10 * org_id, 1_000 + org_id) for org_id in range(40)])
    asked = [of(org_id, 0, 45) for org_id in range(40)]
    before = statements()
    answers = asked_at_once(database, asked)
    assert statements() - before <= 4
    assert answers == {query: body_of_series(read_series(database, query)[query.org_id]) for query in asked}
    assert b"[390.0, 1039]" in answers[asked[39]].content


def test_project_queries_are_not_batched(database: Database) -> None:
    """A query for projects is answered beside those of organizations, with the projects' numbers."""
    alone = StatsQuery(1, "received", Buckets(0, 10, 2), (5,))
    assert asked_at_once(database, [of(1, 0, 2), alone])[alone].content == b"[[0.0, 0], [10.0, 0]]"


def test_a_limit_of_rows_holds_for_each_alone(clickhouse_url: str) -> None:
    """Together they read more rows than one request may: then each is read by itself, and answered."""
    with connect(clickhouse_url, client_name="tests") as client:
        client.execute(
            "INSERT INTO totals SELECT intDiv(number, 1000), 3600, number % 1000 * 3600, 1, 0, 7, 0, 0, 1"
            " FROM numbers(40000)"
        )
    asked = [of(org_id, 0, 24, 3_600) for org_id in range(40)]
    with Database(clickhouse_url, size=1, max_rows_to_read=1_000) as database, pytest.raises(InvalidQuery):
        read_together(database, asked)
    with Database(clickhouse_url, size=2, max_rows_to_read=1_000) as database:
        answers = asked_at_once(database, asked)
    assert {answer.content.count(b", 7]") for answer in answers.values()} == {24}
