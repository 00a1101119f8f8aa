"""The list of rights: it names what the code reads and writes, and what is printed of it ClickHouse can read."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from orgstats.cli.app import app
from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.cells import FAMILIES
from orgstats.query import sql
from orgstats.query.clickhouse import SENT_SETTINGS, Database
from orgstats.query.params import StatsQuery
from orgstats.query.series import Buckets
from orgstats.schemas.grants import ROLES, Place, RoleName, privileges, statements
from orgstats.schemas.tables import TABLES

ROOT = Path(__file__).parents[2]
PLACES = [Place("orgstats"), Place("orgstats", cloud=True), Place("orgstats", "counters")]
CELLS = {family.table for family in FAMILIES}
REPLACED = {family.replaced for family in FAMILIES}
PLACES_IN_TEXT = {"{family.table}": CELLS, "{table}": {"counts", "hourly"}}
_USES = re.compile(r"\b(FROM|JOIN|INTO)\s+\(?(\w+|\{(?:family\.)?table\})")
_INSERTS = re.compile(
    r"\b(?:insert|insert_rows|_insert)\(\s*(?:[\w.]+,\s+)?\"(\w+)\"|^ +\(\"(\w+)\", rows\.", re.MULTILINE
)


def used(files: Iterable[Path]) -> dict[str, set[str]]:
    """Which tables the statements in these files read and insert into."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in files:
        text = file.read_text(encoding="utf-8")
        for word, name in _USES.findall(text):
            for table in PLACES_IN_TEXT.get(name, {name} & TABLES.keys()):
                found["INSERT" if word == "INTO" else "SELECT"].add(table)
        found["INSERT"] |= {name for names in _INSERTS.findall(text) for name in names if name in TABLES}
        if "family.replaced" in text:
            found["SELECT" if "FROM {family.replaced}" in text else "INSERT"] |= REPLACED
        if "(family.table" in text or "family.table, rows" in text:
            found["INSERT"] |= CELLS
    return found


def test_the_consumers_list_is_what_its_statements_name() -> None:
    """Neither a table that it does not use, nor one that it does not say; it may audit as it counts."""
    counting = (path for path in (ROOT / "consumer").rglob("*.py") if "ops" not in path.parts)
    found = used([*counting, *(ROOT / "consumer/ops" / name for name in ("audit.py", "kept_audits.py"))])
    assert found["SELECT"] == ROLES["consumer"].reads
    assert found["INSERT"] == ROLES["consumer"].inserts


def test_the_apis_list_is_what_its_statements_read() -> None:
    """What the query side inserts, operators' commands do."""
    found = used(path for path in (ROOT / "query").rglob("*.py") if path.name != "ops_sql.py")
    assert found["SELECT"] == ROLES["api"].reads
    assert found["INSERT"] == {"organizations", "projects", "retired_topics", "tokens"}
    assert found["INSERT"] <= ROLES["operator"].inserts
    assert ROLES["api"].inserts == frozenset()


def test_the_operators_pages_list_is_what_its_statements_read() -> None:
    """Apart from the API's: dead letters are of all organizations."""
    found = used([ROOT / "query/ops_sql.py", ROOT / "schemas/dead_letter_actions.py"])
    assert found["SELECT"] == ROLES["ops"].reads
    assert ROLES["ops"].inserts == frozenset()


def test_operators_insert_what_their_commands_do() -> None:
    """They read everything."""
    commands = used(
        (*(ROOT / "consumer/ops").rglob("*.py"), *(ROOT / "query").rglob("*.py"), ROOT / "consumer/store/rules.py")
    )
    assert commands["INSERT"] <= ROLES["operator"].inserts
    assert ROLES["operator"].reads == TABLES.keys()


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("role", get_args(RoleName))
def test_the_engine_reads_every_statement(role: RoleName, place: Place, clickhouse_server: str) -> None:
    """One server, a cluster, the cloud."""
    with connect(clickhouse_server, client_name="tests") as client:
        for statement in statements(role, place, "orgstats_role", sorted(SENT_SETTINGS)):
            assert client.execute(f"EXPLAIN AST {statement}")


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("role", get_args(RoleName))
def test_the_engine_answers_whether_a_privilege_is_there(role: RoleName, place: Place, clickhouse_server: str) -> None:
    """So the doctor can ask for each of them; the user of the tests has all that there are."""
    with connect(clickhouse_server, client_name="tests") as client:
        for access, on in privileges(role, place):
            assert client.execute(f"CHECK GRANT {access} ON {on}") == [(1,)], (access, on)


def test_on_a_cluster_the_table_that_has_the_rows_is_named_too() -> None:
    """Both are asked for, and whoever catches up may say so to all servers."""
    found = set(privileges("consumer", Place("o", "counters")))
    assert {("SELECT, INSERT", "o.counts"), ("SELECT, INSERT", "o.counts_local")} <= found
    assert {
        ("SYSTEM SYNC REPLICA", "o.counts_local"),
        ("SYSTEM SYNC REPLICA", "o.progress"),
        ("CLUSTER", "*.*"),
    } <= found
    api = set(privileges("api", Place("o", "counters")))
    assert {access for access, _ in api} == {"SELECT"}
    assert ("REMOTE", "*.*") in set(privileges("migrate", Place("o", "counters")))


def test_the_settings_that_are_allowed_are_those_that_are_sent() -> None:
    """By the API's connections, and with each of its statements."""
    hour = Buckets(0, 3600, 1)
    queries = [StatsQuery(1, "received", hour), StatsQuery(1, "received", hour, projects=(1,))]
    asked = [sql.topics(), sql.sources(), sql.is_replicated(), *(sql.series(query) for query in queries)]
    with Database("clickhouse://u:p@h/d") as database:
        sent = set(database._clients[0].settings)
    assert sent | {name for statement in asked for name in statement.settings} == SENT_SETTINGS


def test_the_command_prints_what_the_list_says() -> None:
    """By role; the name of a role begins with the database's, so that two databases have different ones."""
    printed = CliRunner().invoke(app, ["grants", "--role", "api", "--database", "counts_eu"]).stdout
    wanted = statements("api", Place("counts_eu"), "counts_eu_api", sorted(SENT_SETTINGS))
    assert [line for line in printed.splitlines() if not line.startswith("--")] == [f"{one};" for one in wanted]
    assert "INSERT" not in printed
    everybody = CliRunner().invoke(app, ["grants", "--database", "d", "--cluster", "c"]).stdout
    assert all(f"CREATE ROLE IF NOT EXISTS d_{role} ON CLUSTER 'c';" in everybody for role in ROLES)


@pytest.mark.parametrize(
    "words", [["--role", "reader"], ["--database", "a b"], ["--cluster", "c'"], ["--cluster", "c", "--cloud"], []]
)
def test_what_cannot_be_is_refused(words: list[str]) -> None:
    """An unknown role, names that would have to be quoted, a cluster in the cloud, no database."""
    database = ["--database", "d"] if words and "--database" not in words else []
    assert CliRunner().invoke(app, ["grants", *words, *database]).exit_code == 2
