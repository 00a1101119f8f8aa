"""The pool of connections: bounded, lent to one at a time, whole again after a failure."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orgstats.errors import OrgstatsError, Unavailable
from orgstats.query.clickhouse import Database
from orgstats.query.params import InvalidQuery
from orgstats.query.sql import Statement

SLEEP = Statement("SELECT sleep(2)")


def test_a_connection_serves_one_at_a_time(database: Database) -> None:
    """Many threads over two connections each get the answer to their own question."""

    def ask(number: int) -> int:
        return int(database.read(Statement("SELECT {n:UInt32}", {"n": number}))[0][0])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(200))) == list(range(200))
    assert database.in_use == 0


def test_busy_pool_is_unavailable_after_the_timeout(clickhouse_url: str) -> None:
    """Who gets none within the time is told that asking again may help."""
    with Database(clickhouse_url, size=1, timeout_seconds=0.5) as database, ThreadPoolExecutor(1) as threads:
        started = threading.Event()

        def hold() -> None:
            with database._client():
                started.set()
                finished.wait(30)

        finished = threading.Event()
        holding = threads.submit(hold)
        started.wait(10)
        assert database.in_use == 1
        with pytest.raises(Unavailable, match="all 1 connections"):
            database.read(Statement("SELECT 1"))
        finished.set()
        holding.result(10)
        assert database.read(Statement("SELECT 1")) == [(1,)]


def test_slow_statement_is_cancelled(clickhouse_url: str) -> None:
    """The time that is set ends it, and the connection after it works."""
    with Database(clickhouse_url, size=1, timeout_seconds=1) as database:
        with pytest.raises(Unavailable):
            database.read(SLEEP)
        assert database.in_use == 0
        assert database.read(Statement("SELECT 1")) == [(1,)]


def test_more_rows_than_asked_for_are_an_error(database: Database) -> None:
    """A result that is longer than its limit fails instead of being cut."""
    with pytest.raises((InvalidQuery, OrgstatsError)):
        database.read(Statement("SELECT number FROM numbers(100000)", settings={"max_result_rows": 10}))


def test_errors_do_not_show_statements(database: Database) -> None:
    """The server's code and first line, without the statement or its parameters."""
    with pytest.raises(OrgstatsError) as failed:
        database.read(
            Statement("SELECT missing_column FROM counts WHERE reason = {secret:String}", {"secret": "hunter2"})
        )
    assert "ClickHouse error 47" in str(failed.value)
    assert "hunter2" not in str(failed.value)
    assert database.read(Statement("SELECT 1")) == [(1,)]
