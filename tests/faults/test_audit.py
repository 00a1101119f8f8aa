"""`orgstats audit`: silent where only retention has been, and loud where a cell was corrupted."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.cells import FAMILIES
from orgstats.deploy.local.paths import free_ports
from orgstats.schemas.migrate import migrate
from tests.faults.round import Round
from tests.support.oracle import CHUNK
from tests.support.wait import wait_for

ORGSTATS = str(Path(sys.executable).with_name("orgstats"))


def close_a_chunk(one: Round, partition: int = 0) -> None:
    """Put records into a partition, its first chunk's rest of aborted ones, and count them."""
    one.traffic._partitions = 1
    one.traffic.produce(1_000)
    one.traffic.transaction(CHUNK, partition, keep=False)
    one.traffic.produce(500)
    one.drain()


def audit(one: Round, *flags: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings of the command."""
    env = {
        **os.environ,
        **one.env,
        "ORGSTATS_BOOTSTRAP_SERVERS": one.site.bootstrap_servers,
        "ORGSTATS_TOPIC": one.topic,
        "ORGSTATS_CLICKHOUSE_URL": one.url,
    }
    done = subprocess.run(
        [ORGSTATS, "audit", "--json", *flags], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def execute(one: Round, sql: str) -> list[Any]:
    """Run a statement on the round's database."""
    client = connect(one.url, client_name="tests")
    try:
        return list(client.execute(sql))
    finally:
        client.disconnect()


def corrupt(one: Round, columns: str) -> None:
    """One cell of the first chunk, of those that the endpoint shows, gets a newer row that differs."""
    execute(
        one,
        f"INSERT INTO counts SELECT * REPLACE({columns}, version + 1 AS version) FROM counts FINAL"
        " WHERE chunk = 0 AND events > 0 AND category IN (0, 1, 3) AND outcome IN (0, 1, 2) ORDER BY ALL LIMIT 1",
    )


def tables(found: list[dict[str, Any]]) -> list[str]:
    """Where the first chunk differs."""
    return [difference["table"] for difference in found[0]["differences"]]


def counted(one: Round, column: str = "next_offset") -> int:
    """How far the first partition is counted."""
    return int(execute(one, f"SELECT max({column}) FROM progress FINAL")[0][0])


def test_hourly_is_audited_as_far_as_it_is_written(new_round: Callable[..., Round]) -> None:
    """What it lacks beyond that is no difference; what it lacks before is."""
    one = new_round(ORGSTATS_HOURLY_SECONDS="600")
    one.traffic._partitions = 1
    one.traffic.produce(1_000)
    one.start("one")
    wait_for(lambda: counted(one) == 1_000, 60)
    one.traffic.produce(500)
    wait_for(lambda: counted(one) == 1_500, 60)
    one.kill_all()
    assert 0 < counted(one, "hourly_offset") < 1_500
    for flags in ((), ("--recount",)):
        assert audit(one, *flags)[0] == 0
    execute(one, "TRUNCATE TABLE hourly")
    assert set(tables(audit(one, "--recount")[1])) == {"hourly"}


@pytest.mark.parametrize("flags", [(), ("--recount",)])
def test_a_closed_chunk_with_holes_balances(one: Round, flags: tuple[str, ...]) -> None:
    """Events, dead letters and offsets without a record make up the chunk; every cell is as counted again."""
    close_a_chunk(one)
    code, found = audit(one, *flags)
    assert (code, [(c["partition"], c["chunk"], c["open"], c["log"], c["cells"]) for c in found]) == (
        0,
        [(0, 0, False, "whole", bool(flags)), (0, CHUNK, True, "whole", bool(flags))],
    )
    assert 900 < found[0]["accounted"] <= 1_000 + 2


def test_an_open_chunk_is_audited_as_far_as_it_is_stored(one: Round) -> None:
    """A cell that no record stands behind is found while its chunk is still being counted, and beside a torn flush."""
    one.traffic._partitions = 1
    one.traffic.produce(1_000)
    one.drain()
    assert audit(one, "--recount")[0] == 0
    one.stop_all()
    one.traffic.produce(10)  # in the log and not stored
    code, found = audit(one, "--recount")
    assert (code, [(c["open"], c["accounted"], c["cells"]) for c in found]) == (0, [(True, 1_000, True)])
    for table, columns in {
        "counts": "60 AS quantity, 60 AS events, 0 AS outcome, 1 AS category",
        "hourly": "60 AS quantity, 60 AS events, 0 AS outcome, 1 AS category, toStartOfHour(bucket) AS bucket",
    }.items():
        but = "EXCEPT key_id " * (table == "hourly")
        values = f"SELECT * {but}REPLACE(42 AS org_id, {columns}) FROM counts FINAL ORDER BY ALL LIMIT 1"
        execute(one, f"INSERT INTO {table} {values}")
    execute(
        one,
        "INSERT INTO totals SELECT 42, width, if(width = 10, bucket, toStartOfHour(bucket)), source_id, chunk, 60, 0,"
        " 0, version FROM counts ARRAY JOIN [10, 3600] AS width WHERE org_id = 42",
    )
    assert tables(audit(one)[1]) == ["conservation"]
    code, found = audit(one, "--recount")
    assert (code, tables(found)) == (1, ["conservation", "counts", "hourly", "totals", "totals"])
    assert "org_id=42" in found[0]["differences"][1]["key"]


def test_a_lost_or_doubled_event_breaks_the_conservation_check(one: Round) -> None:
    """A cell with one event more than the log has is found without a recount."""
    close_a_chunk(one)
    corrupt(one, "events + 1 AS events")
    code, found = audit(one)
    assert (code, tables(found)) == (1, ["hourly", "conservation"])


def test_a_corrupted_cell_is_found_and_named(one: Round) -> None:
    """A quantity that is wrong by one is not that of the roll-ups; the recount names the cell and both values."""
    close_a_chunk(one)
    assert audit(one)[0] == 0
    corrupt(one, "quantity + 1 AS quantity")
    assert tables(audit(one)[1]) == ["hourly", "totals", "totals"]
    code, found = audit(one, "--recount")
    assert (code, tables(found)) == (1, ["hourly", "totals", "totals", "counts"])
    difference = found[0]["differences"][-1]
    assert "org_id=" in difference["key"]
    stored, wanted = (int(difference[side].split(" / ")[0]) for side in ("stored", "wanted"))
    assert stored == wanted + 1


@pytest.mark.parametrize("table", ["hourly", "totals"])
def test_a_roll_up_that_was_lost_is_found(one: Round, table: str) -> None:
    """Where only one table was deleted, each of its cells is named, with and without a recount."""
    close_a_chunk(one)
    execute(one, f"TRUNCATE TABLE {table}")
    for flags in ((), ("--recount",)):
        code, found = audit(one, *flags)
        assert (code, set(tables(found))) == (1, {table})


def test_retention_and_gaps_are_no_differences(one: Round) -> None:
    """A head that retention took, and a listed gap, leave less to compare, and nothing to complain of."""
    one.traffic._partitions = 1
    one.traffic.produce(500)
    one.drain()
    one.stop_all()
    one.traffic.produce(500)
    one.delete_below({0: 700})
    close_a_chunk(one)
    code, found = audit(one, "--recount")
    assert (code, found[0]["log"], found[0]["cells"]) == (0, "head gone", True)
    corrupt(one, "quantity - quantity AS quantity, events - events AS events")
    one.delete_below({0: CHUNK + 10})
    code, found = audit(one, "--recount")
    assert (code, found[0]["log"]) == (0, "gone")


def test_rows_that_clickhouse_has_deleted_by_age_are_no_differences(one: Round) -> None:
    """What ORGSTATS_RETENTION_DAYS deletes is not missed."""
    one.traffic._partitions = 1
    old = '{"timestamp": %d, "org_id": 1, "outcome": 0}'
    now = int(execute(one, "SELECT toUnixTimestamp(now())")[0][0])
    for days in (0, 5, 10):
        one.traffic._plain.produce(one.topic, (old % (now - days * 86_400)).encode(), partition=0)
    close_a_chunk(one)
    migrate(one.url, retention_days=2, shorten=True)
    for family in FAMILIES:
        execute(one, f"OPTIMIZE TABLE {family.table} FINAL")
    assert execute(one, "SELECT count() FROM counts WHERE bucket < now() - INTERVAL 4 DAY") == [(0,)]
    assert audit(one)[0] == 0
    assert audit(one, "--recount")[0] == 0


def test_the_daemon_audits_while_it_counts(new_round: Callable[..., Round]) -> None:
    """With ORGSTATS_AUDIT_SECONDS it recounts closed chunks and tells of what it found in metrics."""
    (port,) = free_ports(1)
    one = new_round(ORGSTATS_AUDIT_SECONDS="0.2", ORGSTATS_METRICS_LISTEN=f"127.0.0.1:{port}")
    one.traffic._partitions = 1
    one.start("a")

    def metric(name: str) -> float:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0
        return float(next((line.split()[1] for line in lines if line.startswith(name)), 0))

    one.traffic.produce(1_000)
    one.traffic.transaction(CHUNK, 0, keep=False)
    one.traffic.produce(100)
    wait_for(lambda: metric("orgstats_audited_chunks_total") > 0, 60, poll_seconds=0.2)
    assert metric("orgstats_audit_mismatched_total") == 0
    corrupt(one, "quantity + 1 AS quantity")
    wait_for(lambda: metric("orgstats_audit_mismatched_total") > 0, 60, poll_seconds=0.2)
