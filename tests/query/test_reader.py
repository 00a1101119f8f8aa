"""What the reader keeps: large answers too, as long as all together are not too many."""

import asyncio
import threading

import pytest

from orgstats.query.clickhouse import Database
from orgstats.query.ops import Operating
from orgstats.query.params import StatsQuery
from orgstats.query.reader import Reader
from orgstats.query.series import Buckets
from orgstats.query.sql import Statement
from orgstats.schemas.outcomes import Stat
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources

DAY = Buckets(1_600_041_600, 10, 8_640)


def test_a_day_in_the_finest_buckets_is_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the dashboard shows of a day is read once for all who look, until the progress has moved."""
    insert_counts(database, [Cell(1, start, start % 1_000 + 1) for start in DAY])
    insert_sources(database, [Counted()])
    asked: list[str] = []
    read = database.read

    def reading(statement: Statement) -> list[tuple[object, ...]]:
        asked.append(statement.name)
        return read(statement)

    monkeypatch.setattr(database, "read", reading)

    async def scenario() -> None:
        reader = Reader(database, timeout_seconds=10, token_seconds=1)
        try:
            state = await reader.state()
            stats: tuple[Stat, ...] = ("received", "rejected", "received", "rejected")
            bodies = [await reader.series(StatsQuery(1, stat, DAY), state) for stat in stats]
        finally:
            reader.close()
        assert len(bodies[0].content) > 150_000
        assert bodies[2] is bodies[0]
        assert bodies[3] is bodies[1]

    asyncio.run(scenario())
    assert asked.count("series") == 2


def test_what_operators_look_at_keeps_no_request_waiting(
    clickhouse_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ClickHouse takes for it, and though there is one connection for requests only."""
    insert_sources(database, [Counted()])
    asked, answered = threading.Event(), threading.Event()

    def read_slowly(_: Database) -> Operating:
        asked.set()
        assert answered.wait(60)
        return Operating(1)

    monkeypatch.setattr("orgstats.query.reader.read_operating", read_slowly)

    async def scenario() -> None:
        reader = Reader(Database(clickhouse_url, size=1), timeout_seconds=60, token_seconds=1)
        try:
            operating = asyncio.create_task(reader.operating())
            await asyncio.to_thread(asked.wait, 60)
            assert (await asyncio.wait_for(reader.state(), 30)).complete_until
            assert not operating.done()
            answered.set()
            assert b'"findings"' in (await operating).content
        finally:
            answered.set()
            reader.close()

    asyncio.run(scenario())
