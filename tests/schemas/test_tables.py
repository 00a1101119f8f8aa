"""What is read from the SQL files, and the row types, are what the migrated server has: every column, in order."""

import pytest

from orgstats.clickhouse.connect import connect
from orgstats.schemas.retention import RETAINED
from orgstats.schemas.tables import TABLES, columns, insert


def test_every_table_is_declared(clickhouse_url: str) -> None:
    """Each table of the server has a row type, and each row type a table, with the columns that one writes in order."""
    with connect(clickhouse_url, client_name="tests") as client:
        found: dict[str, dict[str, str]] = {}
        for table, name, type_ in client.execute(
            "SELECT table, name, type FROM system.columns WHERE database = currentDatabase()"
            " AND default_kind != 'MATERIALIZED' ORDER BY table, position"
        ):
            found.setdefault(table, {})[name] = type_
    declared = {table: columns(table) for table in TABLES}
    assert declared == found
    assert {table: list(row) for table, row in declared.items()} == {table: list(row) for table, row in found.items()}
    assert {table: row._fields for table, row in TABLES.items()} == {table: tuple(row) for table, row in found.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("table", "engine", "key"),
    [
        ("counts", "version", "org_id, bucket, project_id, key_id, category, outcome, reason, source_id, chunk"),
        ("hourly", "version", "org_id, bucket, project_id, category, outcome, reason, source_id, chunk"),
        ("totals", "version", "org_id, width, bucket, source_id, chunk"),
        ("progress", "version", "source_id"),
        ("dead_letters", "version", "source_id, offset"),
        ("repairs", "at", "source_id, chunk, revision"),
    ],
)
def test_the_keys_that_the_guarantee_rests_on(clickhouse_url: str, table: str, engine: str, key: str) -> None:
    """Rows of one key are one fact, and of them the highest version is it."""
    with connect(clickhouse_url, client_name="tests") as client:
        found = client.execute(
            "SELECT sorting_key, engine_full FROM system.tables WHERE database = currentDatabase() AND name = %(name)s",
            {"name": table},
        )
    assert found[0][0] == key
    assert found[0][1].startswith(f"ReplacingMergeTree({engine}) ")


def test_what_expires_is_dropped_in_whole_parts_and_a_cell_is_in_one_of_them(clickhouse_url: str) -> None:
    """Partitions are weeks; of all but dead letters, which FINAL makes one, a week is a function of the key."""
    with connect(clickhouse_url, client_name="tests") as client:
        found = client.execute(
            "SELECT name, partition_key, sorting_key, engine_full FROM system.tables"
            " WHERE database = currentDatabase() AND partition_key != '' ORDER BY name"
        )
    assert {name for name, *_ in found} == set(RETAINED)
    for name, partition, key, engine in found:
        assert partition == f"toMonday({RETAINED[name]})"
        assert "ttl_only_drop_parts = 1" in engine
        assert (RETAINED[name] in key.split(", ")) == (name not in ("dead_letters", "replaced_dead_letters")), name


def test_every_column_of_counts_is_compressed_as_declared(clickhouse_url: str) -> None:
    """No column of the large tables is left to the server's default codec."""
    with connect(clickhouse_url, client_name="tests") as client:
        bare = client.execute(
            "SELECT table, name FROM system.columns WHERE database = currentDatabase() "
            "AND table IN ('counts', 'hourly', 'totals') AND compression_codec = ''"
        )
    assert bare == []


def test_an_insert_names_every_column() -> None:
    """A row type's fields are the columns of its INSERT, in order."""
    assert insert("gaps") == "INSERT INTO gaps (source_id, from_offset, to_offset, why, seen_at) VALUES"
