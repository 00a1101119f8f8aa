"""A server that answers for its tables as a replica would, to see what is waited for before it is read.

No replica runs here. What is shown is which statements are sent, and in which order.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from clickhouse_driver import Client

from orgstats.schemas.tables import TABLES

_READ = re.compile(r"\b(?:FROM|JOIN) (\w+)")
_SYNC = re.compile(r"SYSTEM SYNC REPLICA (\w+) LIGHTWEIGHT")


class Statements:
    """Every statement that any client sends from now on; `answer` gives its rows, and no server is asked.

    Each table is said to be replicated whole.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], Sequence[tuple[Any, ...]]]) -> None:
        self.sent: list[str] = []

        def recorded(_client: Client, query: str, *_args: Any, **_kwargs: Any) -> Any:
            if "FROM system.tables" in query:
                return [(name, f"ReplicatedReplacingMergeTree('/{name}', 'a')") for name in TABLES]
            self.sent.append(query)
            return [] if _SYNC.match(query) else answer(query)

        monkeypatch.setattr(Client, "execute", recorded)

    @property
    def inserts(self) -> int:
        """How many statements wrote."""
        return sum(one.startswith("INSERT") for one in self.sent)

    @property
    def too_early(self) -> list[str]:
        """Statements that read a table whose replica was not made to catch up right before."""
        early: list[str] = []
        synced: set[str] = set()
        for one in self.sent:
            if found := _SYNC.match(one):
                synced.add(found[1])
                continue
            if not set(_READ.findall(one)) <= synced:
                early.append(one)
            synced = set()
        return early
