"""The cluster form of every statement: what it becomes, and that ClickHouse can read it."""

import re

import pytest

from orgstats.clickhouse.cluster import SHARDED_BY, Cluster, spread, waits
from orgstats.clickhouse.connect import connect
from orgstats.errors import ConfigurationError, Refused
from orgstats.schemas.migrate import Servers, load, migrate, refuse_engine, render
from orgstats.schemas.retention import MAX_RETENTION_DAYS, RETAINED, retention_statements
from orgstats.schemas.tables import TABLES

PLACE = Cluster("counters", "orgstats", 3)
SINGLE = [render(statement) for migration in load() for statement in migration.statements] + [
    statement
    for now, wanted in ((0, MAX_RETENTION_DAYS), (90, 0))
    for statements in retention_statements(dict.fromkeys(RETAINED, now), wanted).values()
    for statement in statements
]


def test_the_engine_reads_every_statement_in_both_forms(clickhouse_server: str) -> None:
    """Whatever a migration runs, on one server or on a cluster, is a statement that ClickHouse parses."""
    statements = SINGLE + [one for statement in SINGLE for one in spread(statement, PLACE)]
    assert len(statements) > 2 * len(TABLES)
    with connect(clickhouse_server, client_name="tests") as client:
        for statement in statements:
            client.execute("SELECT formatQuery(%(text)s)", {"text": statement})


def test_a_large_table_is_split_by_the_key_of_its_cells() -> None:
    """`counts` is replicated within each shard and shown by a table that sends an organization to one shard."""
    stored, shown = spread(
        "CREATE TABLE IF NOT EXISTS counts\n(\n a UInt8\n)\nENGINE = ReplacingMergeTree(v)\nX", PLACE
    )
    assert stored == (
        "CREATE TABLE IF NOT EXISTS counts_local ON CLUSTER 'counters'\n(\n a UInt8\n)\n"
        "ENGINE = ReplicatedReplacingMergeTree("
        "'/clickhouse/tables/counters/{shard}/orgstats/counts_local', '{replica}', v)\nX"
    )
    assert shown == (
        "CREATE TABLE IF NOT EXISTS counts ON CLUSTER 'counters' AS orgstats.counts_local\n"
        "ENGINE = Distributed('counters', 'orgstats', 'counts_local', sipHash64(org_id) % 3)"
    )


def test_a_small_table_is_whole_on_every_server() -> None:
    """`progress` has one path in Keeper for all shards, so each server is a replica of all of it."""
    (made,) = spread("CREATE TABLE IF NOT EXISTS progress\n(a UInt8)\nENGINE = ReplacingMergeTree\nX", PLACE)
    assert made == (
        "CREATE TABLE IF NOT EXISTS progress ON CLUSTER 'counters'\n(a UInt8)\n"
        "ENGINE = ReplicatedReplacingMergeTree("
        "'/clickhouse/tables/counters/all/orgstats/progress', '{shard}-{replica}')\nX"
    )


def test_a_split_table_is_split_by_a_column_of_its_key() -> None:
    """Rows of one key are always on one shard, or its highest version could not be told there."""
    keys = {s.split()[5]: s.split("ORDER BY ")[1] for s in SINGLE if s.startswith("CREATE")}
    assert all(column in keys[table].strip("()").split(", ") for table, column in SHARDED_BY.items())


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        (
            "ALTER TABLE counts ADD COLUMN IF NOT EXISTS a UInt8",
            [
                "ALTER TABLE counts_local ON CLUSTER 'counters' ADD COLUMN IF NOT EXISTS a UInt8",
                "ALTER TABLE counts ON CLUSTER 'counters' ADD COLUMN IF NOT EXISTS a UInt8",
            ],
        ),
        (
            "ALTER TABLE counts DROP COLUMN IF EXISTS a",
            [
                "ALTER TABLE counts ON CLUSTER 'counters' DROP COLUMN IF EXISTS a",
                "ALTER TABLE counts_local ON CLUSTER 'counters' DROP COLUMN IF EXISTS a",
            ],
        ),
        ("ALTER TABLE counts REMOVE TTL", ["ALTER TABLE counts_local ON CLUSTER 'counters' REMOVE TTL"]),
        ("ALTER TABLE rules REMOVE TTL", ["ALTER TABLE rules REMOVE TTL"]),
        (
            "DROP TABLE IF EXISTS counts",
            [
                "DROP TABLE IF EXISTS counts ON CLUSTER 'counters' SYNC",
                "DROP TABLE IF EXISTS counts_local ON CLUSTER 'counters' SYNC",
            ],
        ),
        ("DROP TABLE IF EXISTS rules", ["DROP TABLE IF EXISTS rules ON CLUSTER 'counters' SYNC"]),
        (
            "KILL MUTATION WHERE database = currentDatabase() AND table = 'counts' AND x",
            ["KILL MUTATION ON CLUSTER 'counters' WHERE database = 'orgstats' AND table = 'counts_local' AND x"],
        ),
    ],
)
def test_a_change_reaches_what_is_stored_and_what_is_shown(statement: str, wanted: list[str]) -> None:
    """Changes of split tables go to every shard; a column is never shown where it is not stored."""
    assert list(spread(statement, PLACE)) == wanted


@pytest.mark.parametrize("statement", ["OPTIMIZE TABLE counts", "CREATE TABLE IF NOT EXISTS a (b UInt8) ENGINE = Log"])
def test_what_has_no_cluster_form_is_refused(statement: str) -> None:
    """A statement nobody has thought about on a cluster is not run there."""
    with pytest.raises(ValueError, match="no form for a cluster"):
        spread(statement, PLACE)


def test_what_is_read_has_caught_up_on_whatever_server_is_asked(clickhouse_server: str) -> None:
    """A whole table is waited for where it is read; with a split one among them, each of them on all servers."""
    (engine,) = re.findall(r"ENGINE = (Distributed.*)", spread(SINGLE[0], PLACE)[1])
    whole = ("repairs", "ReplicatedReplacingMergeTree('/x', 'a', at)")
    alone, both = waits([whole]), waits([("counts", engine), whole])
    assert alone == ["SYSTEM SYNC REPLICA repairs LIGHTWEIGHT"]
    assert both == [
        "SYSTEM SYNC REPLICA ON CLUSTER 'counters' orgstats.counts_local LIGHTWEIGHT",
        "SYSTEM SYNC REPLICA ON CLUSTER 'counters' orgstats.repairs LIGHTWEIGHT",
    ]
    with connect(clickhouse_server, client_name="tests") as client:
        for statement in alone + both:
            client.execute("SELECT formatQuery(%(text)s)", {"text": statement})


def test_two_clusters_of_one_keeper_have_no_path_in_common() -> None:
    """Their tables would become replicas of each other, and count twice."""
    statement = "CREATE TABLE IF NOT EXISTS counts\n(a UInt8)\nENGINE = ReplacingMergeTree(v)\nX"
    paths = {
        re.findall(r"'(/clickhouse/[^']+)'", spread(statement, PLACE._replace(name=name))[0])[0]
        for name in ("counters", "counters_2")
    }
    assert len(paths) == 2


def test_tables_of_clickhouse_cloud_catch_up_like_replicas() -> None:
    """A shared table is waited for where it is read, without the form for a cluster."""
    assert waits([("progress", "SharedReplacingMergeTree('/x', '{replica}', version)")]) == [
        "SYSTEM SYNC REPLICA progress LIGHTWEIGHT"
    ]


@pytest.mark.parametrize(
    ("engine", "cluster", "told"),
    [
        ("Replicated", "", "engine Atomic"),
        ("Replicated", "counters", "engine Atomic"),
        ("Shared", "c", "leave it empty"),
    ],
)
def test_databases_that_replicate_by_themselves_are_refused(engine: str, cluster: str, told: str) -> None:
    """The rows would be on one server only, or the statements would not be taken."""
    with pytest.raises(Refused, match=told):
        refuse_engine(engine, cluster)


@pytest.mark.parametrize(
    ("engine", "cluster"), [("Atomic", ""), ("Atomic", "counters"), ("Shared", ""), ("Memory", "")]
)
def test_other_databases_are_taken(engine: str, cluster: str) -> None:
    """Those of a server, of a cluster and of ClickHouse Cloud."""
    refuse_engine(engine, cluster)


def test_a_cluster_that_the_server_does_not_know_is_refused(clickhouse_url: str) -> None:
    """Every fault of the server's configuration is told at once, before anything is made."""
    with pytest.raises(ConfigurationError) as refused:
        migrate(clickhouse_url, retention_days=0, servers=Servers("counters"))
    assert "knows no cluster counters" in str(refused.value)
    with pytest.raises(ConfigurationError, match="letters, digits"):
        migrate(clickhouse_url, retention_days=0, servers=Servers("a'b"))
