"""A database of the query side for one test."""

from collections.abc import Iterator

import pytest

from orgstats.query.clickhouse import Database


@pytest.fixture
def database(clickhouse_url: str) -> Iterator[Database]:
    """A pool of two connections to a database of this test's own."""
    with Database(clickhouse_url, size=2, timeout_seconds=10) as database:
        yield database
