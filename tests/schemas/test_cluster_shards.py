"""Two real shards behind Distributed tables: the same counts as on one server, whatever is repeated or away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client

from orgstats.clickhouse.cluster import look_up
from orgstats.clickhouse.connect import INSERT_SETTINGS, connect
from orgstats.consumer.ops.rights import place_of, rights
from orgstats.consumer.store.rows import Flush, ProgressUpdate
from orgstats.consumer.store.store import Store
from orgstats.errors import ConfigurationError, Refused, Unavailable
from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.params import StatsQuery, window
from orgstats.schemas.grants import Place
from orgstats.schemas.migrate import migrate
from orgstats.schemas.retention import retained_days
from orgstats.schemas.tables import insert
from tests.support import shards as cluster
from tests.support.flushes import Flushed, Traffic, flushes
from tests.support.shards import NAME, Shards

START = 1_700_000_000
BUSIEST = 1


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    """Two shards with the tables of the cluster form."""
    with cluster.running(tmp_path_factory.mktemp("shards")) as running:
        yield running


@pytest.fixture(scope="module")
def made() -> list[Flush]:
    """Six flushes of two partitions, with progress."""
    traffic = Traffic(events_per_second=100, seconds=3, organizations=50, partitions=2, keyed=False)
    return [
        Flush([changes], "fingerprint", START * 1000, [ProgressUpdate(changes.source, changes.next_offset, 0, 0, 2, 0)])
        for _, changes in flushes(traffic, Flushed())
    ]


def write(url: str, made: list[Flush]) -> None:
    """Store flushes as a consumer does."""
    store = Store(lambda: connect(url, client_name="tests"))
    for flush in made:
        store.write(flush)
    store.close()


def ask(url: str, text: str) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    with connect(url, client_name="tests") as client:
        rows: list[tuple[Any, ...]] = client.execute(text)
    return rows


def cells(table: str, *urls: str) -> list[tuple[Any, ...]]:
    """Every row of a table that readers see, of all these servers."""
    return sorted(row for url in urls for row in ask(url, f"SELECT * FROM {table} FINAL"))


def shards_hold(shards: Shards, table: str) -> list[tuple[Any, ...]]:
    """The rows of a split table; asked one by one, since chDB as a shard cannot answer a part of a query."""
    return cells(f"{table}_local", *(server.url for server in shards.servers))


def copy_tables(shards: Shards, client: Client, *tables: str) -> None:
    """Make split tables as the server in front of the shards has them."""
    for table in tables:
        for name in (table, f"{table}_local"):
            ((definition,),) = ask(shards.url, f"SHOW CREATE TABLE {name}")
            client.execute(definition)


def series(url: str, org_id: int) -> list[tuple[Any, ...]]:
    """What the endpoint reads of an organization."""
    with Database(url, size=1) as database:
        return sorted(database.read(sql.series(StatsQuery(org_id, "received", window(START, START + 60, 10)))))


def test_two_shards_hold_what_one_server_holds(shards: Shards, made: list[Flush], clickhouse_url: str) -> None:
    """Flushes, repeated and in another order, give the same cells and series, each organization on one shard."""
    write(clickhouse_url, made)
    write(shards.url, [*made, *reversed(made), *made[::3]])
    for table in ("counts", "hourly", "totals"):
        assert shards_hold(shards, table) == cells(table, clickhouse_url) != []
        split = [ask(one.url, f"SELECT DISTINCT org_id FROM {table}_local") for one in shards.servers]
        assert all(split)
        assert not set(split[0]) & set(split[1])
    for org_id in range(50):
        assert series(shards.url, org_id) == series(clickhouse_url, org_id)
    assert series(shards.url, BUSIEST) != []


def test_a_shard_that_is_away_stops_the_flush_and_no_one_elses_series(shards: Shards, made: list[Flush]) -> None:
    """With a shard dead the insert fails and may be repeated; organizations of the other shard are still answered."""
    write(shards.url, made)
    before = shards_hold(shards, "counts")
    ((here,), *_) = ask(shards.servers[1].url, "SELECT DISTINCT org_id FROM counts_local ORDER BY org_id")
    ((away,), *_) = ask(shards.servers[0].url, "SELECT DISTINCT org_id FROM counts_local ORDER BY org_id")
    known = series(shards.url, here)
    shards.servers[0].kill()
    with pytest.raises(Unavailable):
        write(shards.url, made)
    with pytest.raises(Unavailable):
        series(shards.url, away)
    assert series(shards.url, here) == known
    shards.restart(0)
    write(shards.url, made)
    assert shards_hold(shards, "counts") == before


def test_dead_letters_are_joined_on_their_shard(shards: Shards) -> None:
    """A table that is split can be joined with one that every server has; with another one that is split it may not."""
    joined = (
        "SELECT d.offset FROM dead_letters AS d FINAL LEFT JOIN (SELECT * FROM {} FINAL) AS a"
        " ON a.source_id = d.source_id"
    )
    with connect(shards.url, client_name="tests") as client:
        client.execute(f"EXPLAIN {joined.format('dead_letter_actions')}")
        with pytest.raises(Exception, match="denied"):
            client.execute(joined.format("counts"))


def test_a_shard_that_is_added_gets_no_rows_of_others(shards: Shards, tmp_path: Path) -> None:
    """The tables know how many shards they are split over, so one more in the configuration changes nothing."""
    more = cluster.front(tmp_path, [*shards.ports, 1])
    rows = [("r", 9, 0, org_id, START, 5, 0, 1, 0, "", 1, 1) for org_id in range(100)]
    try:
        with connect(more.url, client_name="tests") as client:
            assert look_up(client, NAME, "default").shards == 3
            copy_tables(shards, client, "counts", "replaced_counts")
            assert look_up(client, NAME, "default").shards == 2
            client.execute(insert("replaced_counts"), rows, settings=INSERT_SETTINGS)
    finally:
        more.kill()
    placed = shards_hold(shards, "replaced_counts")
    assert len(placed) == 100
    with connect(shards.url, client_name="tests") as client:
        client.execute(insert("replaced_counts"), rows, settings=INSERT_SETTINGS)
    assert shards_hold(shards, "replaced_counts") == placed


def test_a_database_keeps_its_form(shards: Shards) -> None:
    """Tables of a cluster are not migrated as those of one server, and retention is read from what is stored."""
    with pytest.raises(Refused, match="made for the cluster counters, and ORGSTATS_CLUSTER is empty"):
        migrate(shards.url, retention_days=0)
    with connect(shards.url, client_name="tests") as client:
        assert retained_days(client)["counts"] == 0
        assert retained_days(client, look_up(client, NAME, "default"))["counts"] == 0


def test_fewer_shards_than_rows_are_split_over_are_refused(shards: Shards, tmp_path: Path) -> None:
    """A cluster that lost a shard from its configuration would send its rows to others."""
    fewer = cluster.front(tmp_path, shards.ports[:1])
    try:
        with connect(fewer.url, client_name="tests") as client:
            copy_tables(shards, client, "counts")
            with pytest.raises(ConfigurationError, match="has 1 shards, and the tables were split over 2"):
                look_up(client, NAME, "default")
    finally:
        fewer.kill()


def test_the_doctor_asks_for_the_rights_of_a_cluster(shards: Shards) -> None:
    """It sees from the tables that they are split, and looks for the tables behind them too."""
    store = Store(lambda: connect(shards.url, client_name="tests"))
    try:
        assert place_of(store) == Place("default", NAME)
        (found,) = rights(store, "consumer")
        assert found.level == "ok"
    finally:
        store.close()
