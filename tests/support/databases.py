"""Databases with the tables that tests take one after the other: making all tables costs half a second of processor."""

import uuid
from collections import deque
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from clickhouse_driver import Client

from orgstats.clickhouse.connect import connect
from orgstats.schemas.migrate import migrate

REST: Final = 3
"""So many others are taken first: what a killed consumer has sent may still be on its way into the one it used."""


class _Made(NamedTuple):
    """A database and what its tables looked like when they were made."""

    url: str
    tables: object


class Databases:
    """Gives each test a database as if it were new: emptied, and only where nothing but rows was changed in it."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._rested: deque[_Made] = deque()
        self._taken: dict[str, _Made] = {}

    def take(self) -> str:
        """The URL of one with empty tables."""
        while len(self._rested) > REST:
            made = self._rested.popleft()
            if self._emptied(made):
                break
        else:
            made = self._make()
        self._taken[made.url] = made
        return made.url

    def give_back(self, url: str) -> None:
        """Nobody needs it any more."""
        self._rested.append(self._taken.pop(url))

    def close(self) -> None:
        """Drop what was given back; a database that a failed test has kept stays."""
        for made in self._rested:
            self._drop(made)

    def _make(self) -> _Made:
        database = f"test_{uuid.uuid4().hex[:12]}"
        url = urlsplit(self._server_url)._replace(path=f"/{database}").geturl()
        with connect(self._server_url, client_name="tests") as client:
            client.execute(f"CREATE DATABASE {database}")
            migrate(url, retention_days=0)
            return _Made(url, _tables(client, database))

    def _emptied(self, made: _Made) -> bool:
        """Whether it is as new now; else it is gone."""
        database = urlsplit(made.url).path[1:]
        with connect(self._server_url, client_name="tests") as client:
            if _tables(client, database) != made.tables:
                self._drop(made)
                return False
            filled = client.execute(
                "SELECT name FROM system.tables WHERE database = %(of)s AND total_rows > 0 AND name != 'migrations'",
                {"of": database},
            )
            for (name,) in filled:
                client.execute(f"TRUNCATE TABLE {database}.{name}")
        return True

    def _drop(self, made: _Made) -> None:
        with connect(self._server_url, client_name="tests") as client:
            client.execute(f"DROP DATABASE {urlsplit(made.url).path[1:]} SYNC")


def _tables(client: Client, database: str) -> object:
    """All that is not rows of the product; mutations too, since what they did is listed for as long as the table is."""
    of = {"of": database}
    made = client.execute(
        "SELECT name, replaceAll(create_table_query, %(of)s, ''),"
        " (SELECT count() FROM system.mutations WHERE database = %(of)s)"
        " FROM system.tables WHERE database = %(of)s ORDER BY name",
        of,
    )
    there = ("migrations",) in [row[:1] for row in made]
    return made, client.execute(f"SELECT * FROM {database}.migrations ORDER BY ALL") if there else None
