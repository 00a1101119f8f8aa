"""What the directory goes by when it changes something, on a server that may be behind the others."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.query.topics import retire, take_back
from tests.support.replicas import Statements

NOW = 1_584_824_400.0
THEN = datetime.fromtimestamp(NOW, UTC)
STORED: dict[str, Sequence[tuple[Any, ...]]] = {
    "FROM tokens": [("0" * 64, "token", "", 1, False, ["org:read"], None, 0, False, 0)],
    "FROM sources": [("outcomes", 1, 0, THEN, False, THEN, False)],
    "WHERE org_id IN (SELECT": [(1, "acme", "Acme")],
    "FROM organizations": [(1, "acme", "Acme", 0)],
    "FROM projects": [(7, "pump", "Pump", 0)],
}
"""What is there, by a part of the statement that asks for it; counts are of nobody."""

CHANGES: dict[str, Callable[[Database], object]] = {
    "the next free id": lambda database: Directory(database).add_organization(Wanted("second"), NOW),
    "the owner of a slug": lambda database: Directory(database).add_organization(Wanted("acme", "A", rename=True), NOW),
    "an organization to remove": lambda database: Directory(database).remove_organization("acme", NOW),
    "the next free id of a project": lambda database: Directory(database).add_project(1, Wanted("valve"), NOW),
    "a token to revoke": lambda database: Directory(database).revoke("token", NOW),
    "a topic to retire": lambda database: retire(database, "outcomes"),
    "a topic to wait for again": lambda database: take_back(database, "outcomes"),
}


def stored(query: str) -> Sequence[tuple[Any, ...]]:
    """The rows of STORED that a statement asks for."""
    return next((rows for part, rows in STORED.items() if part in query and not query.startswith("INSERT")), [])


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    """What is said to a server that has STORED."""
    return Statements(monkeypatch, stored)


@pytest.fixture
def replica() -> Database:
    """A database that nobody connects to."""
    return Database("clickhouse://127.0.0.1:1/none", size=1)


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_change_goes_by_is_read_after_catching_up(what: str, statements: Statements, replica: Database) -> None:
    """An id is not given away twice, nor a token left valid, because the server that was asked is behind."""
    CHANGES[what](replica)
    assert statements.inserts >= 1
    assert statements.too_early == []


def test_whose_token_is_made_is_read_after_catching_up(statements: Statements, replica: Database) -> None:
    """A slug that was given to another organization a moment ago does not give the token to the old one."""
    assert Directory(replica).organization_to_change("acme").org_id == 1
    assert statements.too_early == []


def test_what_is_only_shown_waits_for_nobody(statements: Statements, replica: Database) -> None:
    """Lists, and the organization of a query, take what the server has, as requests do."""
    directory = Directory(replica)
    assert [one.slug for one in directory.organizations()] == ["acme"]
    assert directory.organization("acme").org_id == 1
    assert [one.token_id for one in directory.tokens()] == ["token"]
    assert not any(one.startswith("SYSTEM") for one in statements.sent)
