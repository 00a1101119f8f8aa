"""The drill: backed up under load, the store lost, restored, and every cell equal to one pass over the log.

chDB has no BACKUP. So the tables are copied one after the other in the order that `orgstats backup-plan` prints, each
while consumers store more.
"""

from collections.abc import Sequence

from orgstats.clickhouse.connect import connect
from orgstats.consumer.ops.connections import open_connections
from orgstats.consumer.ops.findings import Finding
from orgstats.consumer.ops.restored import restore_check
from orgstats.consumer.settings import ConsumerSettings
from orgstats.schemas.backup import ORDER
from orgstats.schemas.migrate import migrate
from tests.faults.round import Round
from tests.support.wait import wait_for

TABLES = [table for table in ORDER if table != "migrations"]


def run(one: Round, *statements: str) -> None:
    """Statements on the round's database."""
    with connect(one.url, client_name="tests") as client:
        for statement in statements:
            client.execute(statement)


def back_up(one: Round, order: Sequence[str]) -> None:
    """A copy of each table in a database of its own; between two of them consumers store more."""
    run(one, f"CREATE DATABASE {one.database}_copy")
    for table in order:
        run(
            one,
            f"CREATE TABLE {one.database}_copy.{table} AS {table}",
            f"INSERT INTO {one.database}_copy.{table} SELECT * FROM {table}",
        )
        if table in TABLES[12:]:
            continue  # of these no cell depends on the order
        counted = sum(one.progress().values())
        wait_for(lambda counted=counted: sum(one.progress().values()) > counted, 60, poll_seconds=0.02)  # type: ignore[misc]


def lose_and_restore(one: Round) -> None:
    """The database is gone with all that is in it; the copy comes back into an empty one."""
    run(one, f"DROP DATABASE {one.database} SYNC")
    migrate(one.url, retention_days=0)
    run(one, *(f"INSERT INTO {table} SELECT * FROM {one.database}_copy.{table}" for table in reversed(TABLES)))


def checked(one: Round) -> list[Finding]:
    """What restore-check says."""
    settings = ConsumerSettings(
        bootstrap_servers=one.site.bootstrap_servers, topic=(one.topic,), clickhouse_url=one.url,
        group=f"group-{one.topic}",
    )  # fmt: skip
    connections = open_connections(settings)
    try:
        return list(restore_check(connections))
    finally:
        connections.store.close()


def drill(one: Round, order: Sequence[str]) -> None:
    """Until the copy is in place of what was lost; more was counted since, and more waits in the log."""
    one.traffic.start(2_000)
    for name in ("a", "b"):
        one.start(name)
    wait_for(lambda: len(one.progress()) == one.partitions, 60, poll_seconds=0.1)
    back_up(one, order)
    one.traffic.stop()
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one.kill_all()
    lose_and_restore(one)


def test_a_store_that_was_backed_up_under_load_heals_by_itself(one: Round) -> None:
    """Nothing to act on; consumers go back to the progress and count from there; every cell is equal to the oracle."""
    try:
        drill(one, TABLES)
        found = checked(one)
        assert [finding for finding in found if finding.level == "act"] == []
        assert sum("is restored up to" in finding.what for finding in found) == one.partitions
        assert any("beyond that" in finding.what for finding in found), "the copy was made under load"
        assert any("tokens that were revoked are valid again" in finding.what for finding in found)
        one.drain()
        one.compare()
    finally:
        run(one, f"DROP DATABASE IF EXISTS {one.database}_copy SYNC")


def test_a_copy_in_another_order_is_told(one: Round) -> None:
    """With progress last it claims more than the counts hold, and nobody counts that again."""
    try:
        drill(one, TABLES[::-1])
        acts = [finding for finding in checked(one) if finding.level == "act"]
        assert acts
        assert all("orgstats backup-plan" in finding.remedy for finding in acts)
    finally:
        run(one, f"DROP DATABASE IF EXISTS {one.database}_copy SYNC")


def test_what_retention_has_deleted_since_is_told(one: Round) -> None:
    """Offsets between the restored progress and the start of the log are lost, which consumers list as a gap."""
    try:
        one.traffic.produce(1_000)
        one.drain()
        counted = one.progress()
        run(one, f"CREATE DATABASE {one.database}_copy")
        for table in TABLES:
            copy = f"{one.database}_copy.{table}"
            run(one, f"CREATE TABLE {copy} AS {table}", f"INSERT INTO {copy} SELECT * FROM {table}")
        one.traffic.produce(1_000)
        one.stop_all()
        lows = {partition: end - 10 for partition, end in one.ends().items()}
        one.delete_below(lows)
        lose_and_restore(one)
        acts = [finding.what for finding in checked(one) if finding.level == "act"]
        assert len(acts) == one.partitions
        for partition, low in lows.items():
            assert any(f"/{partition}: offsets {counted[partition]:,} to {low:,} are deleted" in what for what in acts)
        one.gaps = [(partition, counted[partition], low) for partition, low in lows.items()]
        one.drain()
        one.compare()
    finally:
        run(one, f"DROP DATABASE IF EXISTS {one.database}_copy SYNC")
