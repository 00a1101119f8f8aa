"""What `orgstats backup-plan` prints: every table once, in the order that heals, as ClickHouse reads it."""

import pytest
from typer.testing import CliRunner

from orgstats.cli.app import app
from orgstats.clickhouse.connect import connect
from orgstats.schemas.backup import ORDER, backup, restore
from orgstats.schemas.tables import TABLES


def printed(*words: str) -> list[str]:
    """The statements of the command."""
    return CliRunner().invoke(app, ["backup-plan", "night", "--database", "orgstats", *words]).stdout.splitlines()


def test_every_table_is_copied_once_progress_first_and_what_tells_of_counts_after_them() -> None:
    """A table that is added to the schema has to be given its place."""
    assert sorted(ORDER) == sorted(TABLES)
    assert ORDER[0] == "progress"
    for told in ("chunk_days", "chunks", "repairs", "flushes", "rules"):
        assert all(ORDER.index(cells) < ORDER.index(told) for cells in ("counts", "hourly", "totals", "dead_letters"))


@pytest.mark.parametrize("cluster", ["", "counters"])
def test_the_engine_reads_every_statement(cluster: str, clickhouse_server: str) -> None:
    """Whole and incremental, there and back, on one server and on a cluster."""
    elsewhere = "S3(backups, '{name}/{table}')"
    statements = [
        *backup("o", cluster, "n"),
        *backup("o", cluster, "n", elsewhere, "before"),
        *restore("o", cluster, "n"),
    ]
    with connect(clickhouse_server, client_name="tests") as client:
        for statement in statements:
            assert client.execute(f"EXPLAIN AST {statement}")


def test_the_way_back_is_the_other_way_round() -> None:
    """So that a restore that ends halfway has no progress."""
    there, back = printed(), printed("--restore")
    assert there[0] == "BACKUP TABLE orgstats.progress TO Disk('backups', 'night/progress');"
    assert back[0] == "CREATE DATABASE IF NOT EXISTS orgstats;"
    assert back[-1] == "RESTORE TABLE orgstats.progress FROM Disk('backups', 'night/progress');"
    assert len(back) == len(there) + 1 == len(TABLES) + 1


def test_on_a_cluster_the_tables_with_the_rows_are_copied() -> None:
    """On all servers at once."""
    found = printed("--cluster", "counters", "--base", "before")
    assert (
        "BACKUP TABLE orgstats.counts_local ON CLUSTER 'counters' TO Disk('backups', 'night/counts')"
        " SETTINGS base_backup = Disk('backups', 'before/counts');"
    ) in found


@pytest.mark.parametrize("to", ["Disk('backups', '{name}')", "Disk('{name}/{table}/{what}')", "{name}{table}{"])
def test_a_destination_without_places_is_refused(to: str) -> None:
    """Tables would go to one place, or to none."""
    result = CliRunner().invoke(app, ["backup-plan", "night", "--database", "o", "--to", to])
    assert result.exit_code == 2
