"""Replays against a real Kafka and the engine: every cell against the oracle, whatever was lost or mistaken."""

import json
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver.errors import ServerException
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.cells import COUNTS, FAMILIES, CountKey, Key, TotalKey
from orgstats.consumer.kafka.topics import Topics
from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.ops.connections import Connections, locate
from orgstats.consumer.ops.recount import Pace
from orgstats.consumer.ops.replay import PreparedReplay, ReplayRequest, TimeRange, apply, plan, prepare
from orgstats.consumer.ops.summary import Summary, counts_now
from orgstats.consumer.ops.undo import undo
from orgstats.consumer.store.rules import void
from orgstats.errors import OrgstatsError, Refused
from tests.ops import traffic
from tests.ops.conftest import Run, World, orgstats_runner
from tests.ops.traffic import DAY, RECORDS
from tests.support import oracle, stored
from tests.support.daemon import Daemon
from tests.support.oracle import CHUNK
from tests.support.servers import Kafka
from tests.support.wait import wait_for

Ask = Callable[..., list[tuple[Any, ...]]]
TABLES = (
    "counts",
    "hourly",
    "totals",
    "chunk_days",
    "dead_letters",
    "repairs",
    "progress",
    "replays",
    "replaced_counts",
)


def look(connections: Connections, **asked: Any) -> tuple[Summary, list[ChunkDifference]]:
    """A plan over everything retained, with its changes."""
    changes: list[ChunkDifference] = []
    return plan(ready(connections, **asked), changes.append), changes


def ready(connections: Connections, **asked: Any) -> PreparedReplay:
    """A replay of everything retained."""
    return prepare(connections, ReplayRequest(connections.settings.topic, **asked), TimeRange())


def act(connections: Connections, **asked: Any) -> Summary:
    """A replay, applied."""
    return apply(ready(connections, **asked), "tests", lambda: False)


def rows(ask: Ask) -> dict[str, int]:
    """Rows by table, all versions."""
    return {table: ask(f"SELECT count() FROM {table}")[0][0] for table in TABLES}


def cells(ask: Ask) -> set[tuple[Any, ...]]:
    """Every cell of the three tables by chunk, and every dead letter, as a reader sees them; zeros are no cells."""
    found = ask(
        "SELECT 'counts', chunk, org_id, bucket, project_id, key_id, category, outcome, toString(reason), quantity,"
        " events, 0 FROM counts FINAL WHERE events > 0"
        " UNION ALL SELECT 'hourly', chunk, org_id, bucket, project_id, 0, category, outcome, toString(reason),"
        " quantity, events, 0 FROM hourly FINAL WHERE events > 0"
        " UNION ALL SELECT 'totals', chunk, org_id, bucket, width, 0, 0, 0, '', accepted, filtered, rate_limited"
        " FROM totals FINAL WHERE accepted + filtered + rate_limited > 0"
        " UNION ALL SELECT 'dead_letters', offset, 0, kafka_timestamp, 0, 0, 0, 0, concat(reason, error, payload), 1,"
        " 1, 1 FROM dead_letters FINAL WHERE NOT withdrawn"
    )
    return set(found)


def test_a_plan_finds_nothing_where_nothing_is_wrong_and_writes_nothing(connections: Connections, ask: Ask) -> None:
    """A plan reads both closed chunks, finds no difference with or without repair, and leaves every table alone."""
    before = rows(ask)
    for repair in (False, True):
        summary, changes = look(connections, repair=repair)
        assert (summary.tally.chunks, summary.tally.records, changes, summary.left) == (2, 2 * CHUNK, [], 0)
    assert rows(ask) == before


def test_an_emptied_day_comes_back(world: World, connections: Connections, url: str, ask: Ask) -> None:
    """After a day was deleted from every table, a replay without repair restores each cell, as its plan said."""
    day = f"toDateTime({world.first_ms // 1000}, 'UTC')"
    for family in FAMILIES:
        ask(f"DELETE FROM {family.table} WHERE bucket >= {day} AND bucket < {day} + {DAY}")
    ask(f"DELETE FROM dead_letters WHERE kafka_timestamp < {day} + {DAY}")
    assert set(stored.differences(url, world.truth)) == {"counts", "hourly", "totals", "dead_letters"}
    planned, changes = look(connections)
    assert planned.left == 0
    now = counts_now(connections.store, planned.touched)
    assert act(connections).changes == planned.changes == sum(one.count for one in changes)
    assert stored.differences(url, world.truth) == {}
    assert counts_now(connections.store, planned.touched) == {w: now[w] + planned.by_hour[w] for w in planned.touched}
    assert ask("SELECT count() FROM repairs") == [(0,)]


def test_roll_ups_that_alone_were_lost_or_spoilt_come_back(
    world: World, connections: Connections, url: str, ask: Ask
) -> None:
    """They are cells like others: where they are gone they are filled in, and a wrong one wants a repair."""
    for table in ("hourly", "totals"):
        ask(f"ALTER TABLE {table} DELETE WHERE chunk = 0 SETTINGS mutations_sync = 1")
    assert set(stored.differences(url, world.truth)) == {"hourly", "totals"}
    planned, changes = look(connections)
    assert planned.changes == sum(one.count for one in changes) > 0
    assert not any(one.cells[COUNTS] for one in changes)
    assert act(connections).changes == planned.changes
    assert stored.differences(url, world.truth) == {}
    ask(
        "INSERT INTO totals SELECT * REPLACE (filtered + 1 AS filtered, version + 1 AS version) FROM totals FINAL"
        f" WHERE chunk = {CHUNK} LIMIT 3"
    )
    assert set(stored.differences(url, world.truth)) == {"totals"}
    assert dict(look(connections)[0].conflicts) == {"cells with another count": 3}
    assert act(connections, repair=True).changes == 3
    assert stored.differences(url, world.truth) == {}


def test_a_part_that_clickhouse_cannot_read_is_detached_and_replayed(
    world: World, connections: Connections, url: str, ask: Ask, daemon: Callable[[], Daemon]
) -> None:
    """As a merge on a full disk leaves it: its columns are empty files.

    Older rows of its cells may be in other parts, and hold again once it is detached; so it takes a repair. What was
    of the open chunk is written again by a consumer that starts.
    """
    rows = f"(SELECT * REPLACE (quantity + 1 AS quantity, version - 1 AS version) FROM counts WHERE chunk = {CHUNK})"
    ask("SYSTEM STOP MERGES counts")
    ask(f"INSERT INTO counts SELECT * FROM {rows}")
    ours = "database = currentDatabase() AND table = 'counts' AND active"
    [(name, path)] = ask(f"SELECT name, path FROM system.parts WHERE {ours} ORDER BY rows DESC LIMIT 1")
    if not Path(path).is_dir():
        pytest.skip("needs ClickHouse's files on this machine")
    for file in Path(path).iterdir():
        if file.suffix == ".bin" or "mrk" in file.suffix:
            os.truncate(file, 0)
    ask("SYSTEM DROP MARK CACHE")
    with pytest.raises(ServerException):
        ask("SELECT sum(events), any(reason) FROM counts FINAL")
    with pytest.raises(OrgstatsError):
        act(connections)
    ask(f"ALTER TABLE counts DETACH PART '{name}'")
    ask("SYSTEM START MERGES counts")  # the next test may get this database, and mutations wait for them, too
    assert set(stored.differences(url, world.truth)) == {"counts"}
    planned, _ = look(connections)
    assert act(connections).changes == planned.changes > 0
    assert dict(look(connections)[0].conflicts)["cells with another count"] > 0
    act(connections, repair=True)
    daemon()
    wait_for(lambda: stored.differences(url, world.truth) == {}, 60)


def test_chunks_of_no_length_are_taken_back(world: World, connections: Connections, url: str, ask: Ask) -> None:
    """What was counted by another chunk length is there twice, until a repair; afterwards consumers start again."""
    for table in ("counts", "hourly", "totals", "chunk_days"):
        rows_of_one = f"(SELECT * FROM {table} WHERE chunk = {CHUNK})"
        ask(f"INSERT INTO {table} SELECT * REPLACE (chunk + {CHUNK // 2} AS chunk) FROM {rows_of_one}")
    assert set(stored.differences(url, world.truth)) == {"counts", "hourly", "totals"}
    (source,) = [one.source for one in locate(connections)]
    grids = connections.store.grids([source.source_id])
    assert connections.store.misplaced_chunks(grids) == {source.source_id: CHUNK + CHUNK // 2}
    assert look(connections)[0].changes == 0
    planned, _ = look(connections, repair=True)
    assert act(connections, repair=True).changes == planned.changes > 0
    assert stored.differences(url, world.truth) == {}
    assert connections.store.misplaced_chunks(grids) == {}
    assert look(connections, repair=True)[0].changes == 0


@pytest.mark.parametrize("repair", [False, True])
def test_what_a_plan_says_comes_after_is_what_comes_after(connections: Connections, ask: Ask, repair: bool) -> None:
    """Cell by cell, the state after an apply is the one before with the plan's changes, also where it holds back."""
    ask(
        "ALTER TABLE counts DELETE WHERE org_id = 1 AND modulo(toUnixTimestamp(bucket), 180) = 0"
        " SETTINGS mutations_sync = 1"
    )
    ask(
        "INSERT INTO counts SELECT * REPLACE (quantity + 5 AS quantity, version + 1 AS version)"
        f" FROM counts FINAL WHERE org_id = 3 AND chunk = {CHUNK} LIMIT 7"
    )
    before = {row[:9]: row[9:] for row in cells(ask)}
    summary, changes = look(connections, repair=repair)
    assert bool(summary.left) is not repair
    act(connections, repair=repair)
    expected = dict(before)
    for one in changes:
        for family, changed in one.cells.items():
            for key, (_, after) in changed.items():
                expected[_cell(family.table, one.counted.chunk, key)] = (*after, 0)[:3]
    found = {row[:9]: row[9:] for row in cells(ask)}
    assert found == {key: value for key, value in expected.items() if any(value)}


def _cell(table: str, chunk: int, key: Key) -> tuple[Any, ...]:
    moment = datetime.fromtimestamp(key.bucket, UTC)
    if isinstance(key, TotalKey):
        return table, chunk, key.org_id, moment, key.width, 0, 0, 0, ""
    key_id = key.key_id if isinstance(key, CountKey) else 0
    return table, chunk, key.org_id, moment, key.project_id, key_id, key.category, key.outcome, key.reason


def test_another_log_with_the_same_counts_needs_a_repair(connections: Connections, ask: Ask) -> None:
    """A chunk of which the log has other records is not filled; a repair counts it again and notes the log it is of."""
    ask(
        "INSERT INTO chunks SELECT * REPLACE (chain + 1 AS chain, version + 1 AS version) FROM chunks FINAL"
        " WHERE chunk = 0"
    )
    before = rows(ask)
    for summary in (look(connections)[0], act(connections)):
        assert (summary.changes, summary.left) == (0, 1)
        assert dict(summary.conflicts) == {"log with other records than those that were counted": 1}
    assert rows(ask) == {**before, "replays": before["replays"] + 2}
    assert (
        look(connections, repair=True)[0].chunks[0]["why"]["log with other records than those that were counted"] == 1
    )
    act(connections, repair=True)
    assert look(connections, repair=True)[0].changes == 0


@pytest.mark.parametrize("repair", [False, True])
def test_a_compacted_topic_is_not_replayed(
    connections: Connections, ask: Ask, monkeypatch: pytest.MonkeyPatch, repair: bool
) -> None:
    """What the log does not give any more may have been compacted: a plan shows it, and nothing is written."""
    monkeypatch.setattr(Topics, "cleanup_policy", lambda *_: "compact")
    before = rows(ask)
    with pytest.raises(Refused, match=r"is compacted.*would take back what was counted"):
        act(connections, repair=repair)
    assert rows(ask) == before
    assert look(connections, repair=repair)[0].changes == 0


def test_another_value_needs_a_repair(connections: Connections, url: str, world: World, ask: Ask) -> None:
    """Without --repair a chunk that holds other counts is left whole, and said; with it every cell is right."""
    ask(
        "INSERT INTO counts SELECT * REPLACE (bucket + 7200 AS bucket, concat('stale cell-', reason) AS reason,"
        " 9 AS quantity, 9 AS events) FROM counts FINAL WHERE chunk = 0 LIMIT 3"
    )
    before = cells(ask)
    summary = act(connections)
    assert (summary.changes, summary.left, dict(summary.conflicts)) == (0, 3, {"cells that the log does not give": 3})
    assert cells(ask) == before
    act(connections, repair=True)
    assert stored.differences(url, world.truth) == {}
    assert ask("SELECT chunk, revision FROM repairs") == [(0, 1)]


@pytest.mark.campaign
def test_a_voided_mistake_is_repaired_while_consumers_run(
    world: World, connections: Connections, url: str, orgstats: Run, daemon: Callable[[], Daemon]
) -> None:
    """The mistake is found with explain, voided, and repaired beside a running consumer: as if it never was."""
    running = daemon()
    wait_for(lambda: "assigned" in running.child.tail(), 60)
    second = min(c.bucket for c in world.truth.quantity if c.reason == "bad-deploy")
    explained = orgstats("explain", "2", "--stat", "blacklisted", "--bucket", str(second))
    assert explained.returncode == 0, explained.stderr
    assert "bad-deploy" in explained.stdout
    assert "rules void 1" in explained.stderr
    voided = orgstats("rules", "void", "1", "--execute")
    assert voided.returncode == 0, voided.stderr
    repair = next(line for line in (voided.stdout + voided.stderr).splitlines() if "replay apply" in line)
    applied = orgstats(*repair.split()[1:])
    assert applied.returncode == 0, applied.stderr
    groups = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers}).list_consumer_groups().result(10).valid
    assert not [one.group_id for one in groups if "replay" in one.group_id]
    assert running.child.stop(grace_seconds=30) == 0
    assert stored.differences(url, world.truth_without_mistake()) == {}
    assert orgstats("replay", "plan").returncode == 0


@pytest.mark.campaign
def test_an_apply_killed_five_times_goes_on(
    world: World, connections: Connections, url: str, orgstats: Run, ask: Ask
) -> None:
    """Killed at each step of its writing and started again, a repair ends with every cell right, as one replay."""
    connections.store.run(lambda client: void(client, "1"))
    command = ("replay", "apply", "--repair", "--chunks-at-once", "1")
    ask(f"ALTER TABLE counts DELETE WHERE chunk = {CHUNK} SETTINGS mutations_sync = 1")
    undone_changes = look(connections, repair=True)[0].changes
    failpoints = ("replay_replaced", "replay_begun", "replay_recorded", "replay_torn", "replay_written")
    for failpoint in failpoints:
        killed = orgstats(*command, ORGSTATS_FAILPOINTS=f"{failpoint}=kill")
        assert killed.returncode == -signal.SIGKILL, (failpoint, killed.stderr)
    finished = orgstats(*command, "--json")
    assert finished.returncode == 0, finished.stderr
    assert ask("SELECT count(), max(step) FROM replays FINAL") == [(1, 1)]
    assert ask("SELECT max(revision) FROM repairs") == [(1,)]
    truth = world.truth_without_mistake()
    assert {k: v for k, v in stored.differences(url, truth).items() if not _open_only(v, world)} == {}
    assert undone_changes > 0
    assert json.loads(finished.stdout)["needs_repair"] == {}


def _open_only(differing: Any, world: World) -> bool:
    """Whether all of it lies in the open chunk, which a replay leaves to the consumers."""
    first_open = world.records[2 * CHUNK].timestamp_ms // 240_000 * 240
    return all(cell.bucket >= first_open for cell in differing)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("INSERT INTO rules SELECT * REPLACE (now64(3) AS voided_at) FROM rules FINAL", "the rules changed"),
        (
            "INSERT INTO progress SELECT * REPLACE ('x' AS fingerprint, version + 1 AS version) FROM progress FINAL",
            "other settings",
        ),
        (
            f"INSERT INTO repairs SELECT source_id, {CHUNK}, 1, 0, 'other', 'replay 1', now64(3) FROM progress FINAL",
            f"chunk {CHUNK} was repaired since",
        ),
    ],
)
def test_a_repair_stops_when_it_is_no_longer_the_newest(
    world: World, connections: Connections, ask: Ask, statement: str, words: str
) -> None:
    """Rules voided, settings changed, or a chunk repaired while it runs: it writes nothing more, and says why."""
    prepared = ready(connections, repair=True)
    ask(f"ALTER TABLE counts DELETE WHERE chunk IN (0, {CHUNK}) SETTINGS mutations_sync = 1")

    def meanwhile() -> bool:
        ask(statement)
        return False

    with pytest.raises(Refused, match=words):
        apply(prepared, "tests", meanwhile, Pace(chunks_at_once=1))
    assert ask("SELECT DISTINCT chunk FROM replay_chunks") == [(0,)]
    assert ask(f"SELECT count() FROM counts WHERE chunk = {CHUNK}") == [(0,)]


def test_undo_takes_back_the_last_repair(world: World, connections: Connections, ask: Ask) -> None:
    """After undo every cell and dead letter is as before the repair; repairing again gives the same again."""
    connections.store.run(lambda client: void(client, "1"))
    ask("INSERT INTO dead_letters SELECT * REPLACE (1 AS offset) FROM (SELECT * FROM dead_letters WHERE offset = 1000)")
    ask("ALTER TABLE dead_letters DELETE WHERE offset = 2000 SETTINGS mutations_sync = 1")
    before = cells(ask)
    done = act(connections, repair=True)
    after = cells(ask)
    assert after != before
    for _ in range(2):  # an undo whose answer was lost is asked again
        undo(connections, done.replay_id, execute=True)
        assert cells(ask) == before
        ask("ALTER TABLE replays DELETE WHERE step = 2 SETTINGS mutations_sync = 1")
    act(connections, repair=True)
    assert cells(ask) == after
    with pytest.raises(Refused, match="counted again since"):
        undo(connections, done.replay_id, execute=True)


@pytest.mark.parametrize("healing", ["rewind", "consumers"])
def test_a_log_that_was_cut_back_is_recounted(
    world: World, connections: Connections, url: str, ask: Ask, daemon: Callable[[], Daemon], healing: str
) -> None:
    """Where the store has counted more than the log holds, consumers set it right, and so does a rewind."""
    beyond = 3 * CHUNK
    for family in FAMILIES:
        table, value = family.table, family.values[0]
        ask(
            f"INSERT INTO {table} SELECT * REPLACE (chunk + {CHUNK} AS chunk, version + {CHUNK} AS version)"
            f" FROM (SELECT * FROM {table} FINAL WHERE chunk = {2 * CHUNK})"
        )
        ask(
            f"INSERT INTO {table} SELECT * REPLACE ({value} + 1 AS {value}, {beyond} AS version)"
            f" FROM {table} FINAL WHERE chunk = {2 * CHUNK} AND org_id = 2"
        )
    ask(f"INSERT INTO chunk_days SELECT source_id, chunk + {CHUNK}, day FROM chunk_days WHERE chunk = {2 * CHUNK}")
    ask(
        f"INSERT INTO dead_letters SELECT * REPLACE (offset + {beyond} AS offset)"
        " FROM (SELECT * FROM dead_letters FINAL WHERE offset < 5000)"
    )
    ask(
        f"INSERT INTO progress SELECT * REPLACE ({beyond + 9} AS next_offset, {beyond + 9} AS version)"
        " FROM progress FINAL"
    )
    if healing == "consumers":
        running = daemon()
        wait_for(lambda: stored.differences(url, world.truth) == {}, 60)
        assert stored.progress(url) == {0: RECORDS}
        assert running.child.stop(grace_seconds=30) == 0
        return
    prepared = prepare(
        connections, ReplayRequest((world.topic,), (0,), repair=True, rewind=True), TimeRange(), wait=True
    )
    began: list[float] = []

    def stopping() -> bool:
        began.append(time.time())
        return False

    apply(prepared, "tests", stopping)
    ((complete_until,),) = ask("SELECT toUnixTimestamp64Milli(complete_until) / 1000 FROM progress FINAL")
    assert isinstance(complete_until, float)
    assert complete_until < began[0]  # what is acknowledged while it counts is not in it
    assert stored.progress(url) == {0: RECORDS}
    assert stored.differences(url, world.truth) == {}
    running = daemon()
    wait_for(lambda: "assigned" in running.child.tail(), 60)
    assert running.child.stop(grace_seconds=30) == 0
    assert stored.differences(url, world.truth) == {}


def test_what_is_stored_of_a_deleted_head_stays(
    kafka: Kafka, make_topic: Callable[..., str], clickhouse_url: str, tmp_path: Path
) -> None:
    """With --head keep a lost cell gets what the log still has, and nothing becomes smaller; drop lists the gap."""
    if not kafka.real:
        pytest.skip("needs a real Kafka, which can delete records")
    topic, first_ms = make_topic(1), 1_700_000_000_000
    traffic.produce(kafka.bootstrap_servers, topic, first_ms, CHUNK + 10)
    daemon = Daemon("head", tmp_path, kafka.bootstrap_servers, topic, clickhouse_url)
    try:
        wait_for(lambda: stored.progress(clickhouse_url) == {0: CHUNK + 10}, 60)
    finally:
        assert daemon.child.stop(grace_seconds=30) == 0
    run = orgstats_runner(kafka.bootstrap_servers, topic, f"group-{topic}", clickhouse_url)
    before = stored.counts(clickhouse_url)
    low = CHUNK - 1_000
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_records([TopicPartition(topic, 0, low)])[TopicPartition(topic, 0)].result(30)
    assert run("replay", "plan", "--from-offset", "0").returncode == 78
    assert run("replay", "plan", "--from-offset", "0", "--head", "keep").returncode == 0
    with connect(clickhouse_url, client_name="tests") as client:
        # The cells of two times are lost; the log still has the records of the first of them only.
        there, gone = (at // 240_000 * 240 for at in (first_ms + (low + 900) * traffic.EVERY_MS, first_ms))
        lost = [there, gone]
        client.execute("DELETE FROM counts WHERE chunk = 0 AND toUnixTimestamp(bucket) IN %(lost)s", {"lost": lost})
    applied = run("replay", "apply", "--from-offset", "0", "--head", "keep")
    assert applied.returncode == 0, applied.stderr
    after = stored.counts(clickhouse_url)
    assert {cell: value for cell, value in before.items() if cell.bucket != gone} == after
    dropped = run("replay", "apply", "--from-offset", "0", "--head", "drop", "--repair")
    assert dropped.returncode == 0, dropped.stderr
    assert stored.differences(clickhouse_url, oracle.count(oracle.read(kafka.bootstrap_servers, topic))).keys() <= {
        "dead_letters"
    }
    assert stored.gaps(clickhouse_url) == [(0, 0, low)]
