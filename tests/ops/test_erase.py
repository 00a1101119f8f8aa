"""An organization is erased: from every table, whatever interrupts that, and when its records are read again."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.cells import erased_mark
from orgstats.consumer.counting.decode import named_organizations
from orgstats.consumer.ops import erase
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.ops.dead_letters import SENDABLE, Filter, find, mark
from orgstats.consumer.store.rules import KNOWN_SECONDS
from orgstats.errors import Refused, Unavailable
from orgstats.schemas.tables import columns, insert
from tests.ops import traffic
from tests.ops.conftest import Run, World, orgstats_runner
from tests.support import oracle, stored
from tests.support.daemon import Daemon
from tests.support.oracle import Cell, Truth
from tests.support.servers import Kafka
from tests.support.wait import wait_for

ERASED = 2
DAY = 86_400
Ask = Callable[..., list[tuple[object, ...]]]


def without(truth: Truth, org_id: int, mark: int) -> Truth:
    """The truth when only the day is known of an organization's events."""

    def moved(counts: Counter[Cell]) -> Counter[Cell]:
        found: Counter[Cell] = Counter()
        for cell, number in counts.items():
            day = cell.bucket // DAY * DAY
            found[Cell(0, day, mark, 0, 255, 0, "erased") if cell.org_id == org_id else cell] += number
        return found

    return replace(truth, quantity=moved(truth.quantity), events=moved(truth.events))


def mark_of(ask: Ask) -> int:
    """What stands for the erased organization: one number, beyond every project's."""
    [(mark,)] = ask("SELECT DISTINCT project_id FROM counts WHERE org_id = 0 AND category = 255")
    assert isinstance(mark, int)
    assert mark >= 1 << 63
    return mark


def traces(ask: Ask, org_id: int, slug: str) -> list[tuple[str, str]]:
    """Every table and column in which the id or the slug still stands, but for the tombstone."""
    columns = ask(
        "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() AND table != 'erasures'"
    )
    found = []
    for table, name, kind in columns:
        if name == "org_id":
            where = f"{name} = %(org)s" + (" AND NOT all_orgs" if table == "tokens" else "")
        elif "String" in str(kind):
            where = f"position(toString({name}), %(slug)s) > 0 OR position(toString({name}), %(json)s) > 0"
        else:
            continue
        values = {"org": org_id, "slug": slug, "json": f'"org_id":{org_id},'}
        if ask(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", **values):
            found.append((str(table), str(name)))
    return found


def name_it(orgstats: Run) -> None:
    """A slug, a project and a token."""
    assert orgstats("orgs", "add", "doomed", "--id", str(ERASED)).returncode == 0
    assert orgstats("projects", "add", "doomed", "doomed-web", "--id", "1").returncode == 0
    assert orgstats("tokens", "create", "--org", "doomed", "--name", "doomed-token").returncode == 0


def begun_before(url: str, org_id: int = ERASED) -> None:
    """A run that was interrupted once its tombstone was stored, five minutes ago."""
    with connect(url, client_name="tests") as client:
        at = datetime.now(UTC) - timedelta(minutes=5)
        client.execute(insert("erasures"), [(org_id, "tests", at, False)])


def counted_again(ask: Ask, org_id: int = ERASED) -> bool:
    """Whether no chunk that is being counted holds events of it."""
    return not ask(f"SELECT 1 FROM counts FINAL WHERE org_id = {org_id} AND chunk = 2 * {oracle.CHUNK} AND events > 0")


def test_nothing_is_erased_without_being_told_to(orgstats: Run, url: str, world: World) -> None:
    """The preview says how much would go; a name that there is not is refused."""
    name_it(orgstats)
    shown = orgstats("orgs", "erase", "doomed")
    assert shown.returncode == 0, shown.stderr
    events = sum(number for cell, number in world.truth.events.items() if cell.org_id == ERASED)
    assert f"Organization {ERASED}: {events:,} events" in shown.stderr
    assert "Nothing was erased" in shown.stderr
    assert not stored.differences(url, world.truth)
    assert orgstats("orgs", "erase", "nobody", "--execute").returncode == 2


@pytest.mark.parametrize("failpoint", ["erase_torn", "erase_torn@2", "erase_moved", "erase_deleting@2"])
def test_killed_anywhere_and_asked_again_it_ends_alike(
    world: World, orgstats: Run, url: str, ask: Ask, daemon: Callable[[], Daemon], failpoint: str
) -> None:
    """Every cell of the others is as it was, every day of the erased one has its number, and nothing else is left."""
    name_it(orgstats)
    begun_before(url)
    consumer = daemon()
    wait_for(lambda: counted_again(ask), 60)
    name, _, nth = failpoint.partition("@")
    killed = orgstats(
        "orgs", "erase", "doomed", "--execute", ORGSTATS_FAILPOINTS=f"{name}=kill{'@' + nth if nth else ''}"
    )
    assert killed.returncode == -9, killed.stderr
    if failpoint == "erase_moved":  # a deletion that has come to some parts of the tables only
        for table in ("counts", "hourly"):
            ask(f"DELETE FROM {table} WHERE org_id = {ERASED} AND project_id = 1")
    done = orgstats("orgs", "erase", str(ERASED), "--execute")
    assert done.returncode == 0, done.stderr
    assert not stored.differences(url, without(world.truth, ERASED, mark_of(ask)))
    assert not traces(ask, ERASED, "doomed")
    assert ask("SELECT done FROM erasures FINAL") == [(True,)]
    assert consumer.child.stop(grace_seconds=30) == 0
    checked = orgstats("audit", "--recount", "--json")
    assert checked.returncode == 0, checked.stdout
    assert all(chunk["cells"] for chunk in json.loads(checked.stdout))


def test_what_no_consumer_counts_again_is_told_and_finished_later(
    world: World, orgstats: Run, connections: Connections, url: str, ask: Ask, daemon: Callable[[], Daemon]
) -> None:
    """The open chunk is left as it was, since whoever counts it next goes by the tombstone; a replay waits for it."""
    begun_before(url)
    with pytest.raises(Unavailable, match="1 chunks that consumers are counting"):
        erase.erase(connections, ERASED, "tests", lambda _: None, wait_seconds=0)
    assert not counted_again(ask)
    assert erase.unfinished(connections) == [ERASED]
    refused = orgstats("replay", "plan")
    assert refused.returncode == 69 or "is being erased" in refused.stderr
    consumer = daemon()
    wait_for(lambda: counted_again(ask), 60)
    erase.erase(connections, ERASED, "tests", lambda _: None, wait_seconds=0)
    assert consumer.child.stop(grace_seconds=30) == 0
    assert not stored.differences(url, without(world.truth, ERASED, mark_of(ask)))
    assert not traces(ask, ERASED, "doomed")


def test_two_at_once_over_a_consumer_that_stands_still(
    world: World, orgstats: Run, connections: Connections, url: str, ask: Ask, daemon: Callable[[], Daemon]
) -> None:
    """Neither ends before the consumer has counted by its tombstone, and neither leaves anything of the other."""
    both = (ERASED, 3)
    consumer = daemon()
    wait_for(lambda: connections.broker.group_members(connections.settings.group), 60)
    os.kill(consumer.child.pid, signal.SIGSTOP)
    for org_id in both:
        begun_before(url, org_id)

    def erase_both(*words: str) -> list[int]:
        with ThreadPoolExecutor() as pool:
            runs = pool.map(lambda org_id: orgstats("orgs", "erase", str(org_id), "--execute", *words), both)
        return [run.returncode for run in runs]

    assert erase_both("--wait", "1") == [Unavailable.exit_code] * 2
    os.kill(consumer.child.pid, signal.SIGCONT)
    wait_for(lambda: all(counted_again(ask, org_id) for org_id in both), 60)
    assert erase_both() == [0, 0]
    assert consumer.child.stop(grace_seconds=30) == 0
    truth = world.truth
    for org_id in both:
        truth = without(truth, org_id, erased_mark(org_id))
        assert not traces(ask, org_id, "no slug of it")
    assert not stored.differences(url, truth)
    checked = orgstats("audit", "--recount", "--json")
    assert checked.returncode == 0, checked.stdout


def test_its_id_is_never_used_again(orgstats: Run, url: str, connections: Connections) -> None:
    """Neither when it is asked for nor when the next free one is; what is stored late is told by the doctor."""
    begun_before(url)
    again = orgstats("orgs", "add", "phoenix", "--id", str(ERASED))
    assert again.returncode == 2
    assert "was erased" in again.stderr
    with connect(url, client_name="tests") as client:
        client.execute("INSERT INTO erasures SELECT * REPLACE (true AS done) FROM erasures FINAL")
    left = [finding["what"] for finding in json.loads(orgstats("doctor", "--json").stdout)]
    assert any(f"organization {ERASED} is erased, and a consumer that was cut off" in what for what in left)


def test_nobody_is_not_erased(orgstats: Run, connections: Connections, url: str, world: World) -> None:
    """Under 0 count events without an organization, and those of all that were erased: deleted, no sum would hold."""
    assert orgstats("orgs", "erase", "0", "--execute").returncode == Refused.exit_code
    for org_id in (0, 1 << 63):
        with pytest.raises(Refused, match="no organization that can be erased"):
            erase.erase(connections, org_id, "tests", lambda _: None)
    assert erase.unfinished(connections) == []
    assert not stored.differences(url, world.truth)


def test_an_operators_clock_shortens_no_wait(
    connections: Connections, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tombstone has the server's time; consumers are waited for as long as they may be ignorant of it."""
    monkeypatch.setattr(erase, "now", lambda: datetime.now(UTC) - timedelta(hours=1), raising=False)
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    with pytest.raises(Unavailable):
        erase.erase(connections, ERASED, "tests", lambda _: None, wait_seconds=0)
    assert ask("SELECT dateDiff('minute', at, now64(3)) < 5, by FROM erasures FINAL") == [(1, "tests")]
    assert waited[0] == KNOWN_SECONDS


def test_a_flush_that_is_under_way_is_waited_for(connections: Connections, url: str, ask: Ask) -> None:
    """Zeros have come to `counts` and not to the others yet: those would be stored after the deletion."""
    begun_before(url)
    zeros = f"SELECT * REPLACE (0 AS quantity, 0 AS events, version + {1 << 48} AS version)"
    ask(f"INSERT INTO counts {zeros} FROM counts FINAL WHERE org_id = {ERASED} AND chunk = 2 * {oracle.CHUNK}")
    assert counted_again(ask)
    with pytest.raises(Unavailable, match="1 chunks that consumers are counting"):
        erase.erase(connections, ERASED, "tests", lambda _: None, wait_seconds=0)
    assert erase.unfinished(connections) == [ERASED]


LETTERS = [
    b'{"org_id": 2}', b'{"org_id":"2"}', b'{"org_id" :\t02', b'[{"a": {"org_id": 2.5}}] x', b'\xff{"org_id": 2\xff',
    b'{"org_id": 20}', b'{"org_id": 12}', b'{"org": 2}', b'{"org_id": true}', b"", b'"org_id": ' + b"2" * 30,
]  # fmt: skip


def test_letters_that_name_it_are_emptied_and_never_sent_again(connections: Connections, url: str, ask: Ask) -> None:
    """The same that a consumer would empty. What was done with one is forgotten with it; nobody redrives it."""
    begun_before(url)
    names = columns("dead_letters")
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    rows = [
        (7, offset, "letters", 0, at, b"key", [("name", b"value")], value, len(value), "not_json", "", False, offset)
        for offset, value in enumerate(LETTERS)
    ]
    with connect(url, client_name="tests") as client:
        client.execute(f"INSERT INTO dead_letters ({', '.join(names)}) VALUES", rows)
    of_topic = Filter(topics=("letters",))
    mark(connections.store, find(connections.store, of_topic, 1), "dropped", "tests")
    with pytest.raises(Unavailable):
        erase.erase(connections, ERASED, "tests", lambda _: None, wait_seconds=0)
    kept = [offset for offset, value in enumerate(LETTERS) if ERASED not in named_organizations(value)]
    assert kept == [5, 6, 7, 8, 9, 10]
    assert [one.offset for one in find(connections.store, of_topic, 100)] == kept
    assert [one.offset for one in find(connections.store, replace(of_topic, actions=SENDABLE), 100)] == kept
    every = find(connections.store, replace(of_topic, handled=True), 100)
    assert [one.payload for one in every] == [b"" if n not in kept else value for n, value in enumerate(LETTERS)]
    assert [one.key for one in every] == [b"" if n not in kept else b"key" for n in range(len(LETTERS))]
    assert ask("SELECT count() FROM dead_letters WHERE topic = 'letters' AND payload = '' AND headers = []") == [(5,)]


@pytest.mark.campaign
def test_erased_while_it_is_counted_and_counted_anew_from_the_log(
    real_kafka: Kafka, make_topic: Callable[..., str], clickhouse_url: str, tmp_path: Path
) -> None:
    """Consumers run and its events go on coming. Then counts are lost, and a replay of all brings back the others'."""
    topic, first_ms, number = make_topic(1), (int(time.time()) - 8 * DAY) * 1000, oracle.CHUNK + 10_000
    traffic.produce(real_kafka.bootstrap_servers, topic, first_ms, number)
    orgstats = orgstats_runner(real_kafka.bootstrap_servers, topic, f"group-{topic}", clickhouse_url)
    name_it(orgstats)
    consumer = Daemon("erasing", tmp_path, real_kafka.bootstrap_servers, topic, clickhouse_url)

    def ask(sql: str, **values: object) -> list[tuple[object, ...]]:
        with connect(clickhouse_url, client_name="tests") as client:
            return list(client.execute(sql, values) or [])

    try:
        wait_for(lambda: stored.progress(clickhouse_url) == {0: number}, 60)
        done = orgstats("orgs", "erase", "doomed", "--execute")
        assert done.returncode == 0, done.stderr
        traffic.produce(real_kafka.bootstrap_servers, topic, first_ms, 5_000, number)
        records = list(oracle.read(real_kafka.bootstrap_servers, topic))
        truth = without(oracle.count(records), ERASED, mark_of(ask))
        wait_for(lambda: stored.progress(clickhouse_url) == {0: number + 5_000}, 60)
        assert not stored.differences(clickhouse_url, truth)
        assert not traces(ask, ERASED, "doomed")
        assert consumer.child.stop(grace_seconds=30) == 0
    finally:
        consumer.child.kill()
    for table in ("counts", "hourly", "totals"):
        ask(f"TRUNCATE TABLE {table}")
    replayed = orgstats("replay", "apply", "--repair")
    assert replayed.returncode == 0, replayed.stderr
    closed = without(oracle.count(records[: oracle.CHUNK]), ERASED, mark_of(ask))
    assert stored.counts(clickhouse_url) == closed.counts()
    assert not traces(ask, ERASED, "doomed")
