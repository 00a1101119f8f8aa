"""Each role on the real engine with the rights that `orgstats grants` prints, and no others."""

import json
import time
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.chain import NO_MARK
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.counting.resume import Progress, Repair
from orgstats.consumer.counting.source import Source
from orgstats.consumer.ops.connections import store_of
from orgstats.query.access import OPS_SCOPE
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.query.openapi import ROUTES
from orgstats.query.operating import read_operating
from orgstats.schemas.migrate import migrate
from tests.ops.conftest import orgstats_runner
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources, make_token
from tests.query.serving import running_api
from tests.support import roles, stored
from tests.support.daemon import Daemon
from tests.support.oracle import CHUNK
from tests.support.servers import Kafka
from tests.support.wait import wait_for

EVENT = b'{"timestamp": 1700000000, "org_id": 1, "project_id": 1, "outcome": 0}'
RULES = '[[rule]]\noutcome = "filtered"\nreason = "robots"\nuser_agent = ["*bot*"]\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of an engine that has the tables."""
    path = tmp_path / "clickhouse"
    roles.make_tables(path)
    return path


def produce(kafka: Kafka, topic: str, events: int = 10) -> None:
    """Events and a dead letter."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for value in [b"{", *[EVENT] * events]:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def _has_told(url: str) -> bool:
    with connect(url, client_name="tests") as client:
        return bool(client.execute("SELECT 1 FROM watched LIMIT 1"))


def test_migrate_may_make_the_tables_and_change_how_long_they_keep(tmp_path: Path) -> None:
    """Database, tables, a retention, and none."""
    with roles.running_as(tmp_path / "clickhouse", "migrate") as url:
        assert migrate(url, retention_days=30)
        assert migrate(url, retention_days=0)
        assert "INSERT" in roles.refused(url, "INSERT INTO counts SELECT * FROM counts")


@pytest.mark.campaign
def test_a_consumer_may_all_that_it_does(real_kafka: Kafka, topic: str, directory: Path, tmp_path: Path) -> None:
    """It publishes rules, counts, audits, tells of the log, stops and resumes; what was cut back is taken back."""
    produce(real_kafka, topic)
    (tmp_path / "rules.toml").write_text(RULES)
    with roles.running_as(directory, "consumer") as url:
        settings = {"ORGSTATS_RULES": str(tmp_path / "rules.toml"), "ORGSTATS_AUDIT_SECONDS": "0.2"}
        daemon = Daemon("consumer", tmp_path, real_kafka.bootstrap_servers, topic, url, **settings)
        try:
            wait_for(lambda: stored.progress(url).get(0) == 11, 60, poll_seconds=0.1)
            assert daemon.child.stop(grace_seconds=30) == 0
            produce(real_kafka, topic)
            daemon.start()
            wait_for(lambda: stored.progress(url).get(0) == 22, 60, poll_seconds=0.1)
            wait_for(lambda: '"audited"' in daemon.child.log.read_text(), 60, poll_seconds=0.1)
            wait_for(lambda: _has_told(url), 60, poll_seconds=0.1)
            assert daemon.child.stop(grace_seconds=30) == 0
            assert "privileges" not in daemon.child.log.read_text()
        finally:
            daemon.child.kill()
        store, source = store_of(url), Source(topic, "other", 0)
        store.record_cut(source, Progress(5, "x", rewinds=1, mark=NO_MARK, cut_at=5), 9)
        store.take_back(source, Chunks(Grid(), 0, CHUNK), {0: Repair(1, "x")}, Progress(0, "x", rewinds=1), 1)
        assert not any((store.chunks({source: 0}), store.highest_chunks([source]), store.begun([source])))
        store.close()
        assert "SELECT" in roles.refused(url, "SELECT * FROM tokens")
        assert "INSERT" in roles.refused(url, "INSERT INTO organizations SELECT 1, '', '', now64(3)")


@pytest.mark.campaign
def test_operators_may_all_that_their_commands_do(
    real_kafka: Kafka, topic: str, directory: Path, tmp_path: Path
) -> None:
    """What was counted is looked at, compared, written again and taken back; dead letters are sent again."""
    produce(real_kafka, topic, CHUNK)
    with roles.unrestricted(directory) as url:
        daemon = Daemon("consumer", tmp_path, real_kafka.bootstrap_servers, topic, url)
        try:
            wait_for(lambda: stored.progress(url).get(0) == CHUNK + 1, 60, poll_seconds=0.1)
            assert daemon.child.stop(grace_seconds=30) == 0
        finally:
            daemon.child.kill()
        with connect(url, client_name="tests") as client:
            client.execute("INSERT INTO counts SELECT * REPLACE (quantity + 1 AS quantity) FROM counts WHERE chunk = 0")
            client.execute("OPTIMIZE TABLE counts FINAL")
    (tmp_path / "rules.toml").write_text(RULES)
    with roles.running_as(directory, "operator") as url:
        run, did = orgstats_runner(real_kafka.bootstrap_servers, topic, f"group-{topic}", url), dict[str, str]()
        for words in (
            ["orgs", "add", "acme", "--id", "1"],
            ["tokens", "create", "--org", "acme", "--name", "me"],
            ["topics", "ls"],
            ["rules", "publish", str(tmp_path / "rules.toml")],
            ["rules", "ls"],
            ["lag", "--interval", "0"],
            ["audit", "--recount"],
            ["replay", "plan"],
            ["replay", "apply", "--repair"],
            ["replay", "ls"],
            ["replay", "undo", "--execute"],
            ["dead-letters", "ls"],
            ["dead-letters", "redrive", "--in-place", "--execute"],
            ["query", "acme", "--stat", "received"],
            ["doctor", "--role", "operator"],
        ):
            done = run(*words)
            assert "Not enough privileges" not in done.stdout + done.stderr, words
            assert done.returncode in (0, 1), (words, done.stdout, done.stderr)
            did[words[1]] = done.stderr
    assert "undone" in did["undo"]


def test_the_api_may_read_what_it_answers_and_write_nothing(directory: Path, tmp_path: Path) -> None:
    """Every route answers; counts and tokens cannot be written, and no other setting can be changed."""
    with roles.unrestricted(directory) as url, Database(url, size=1) as database:
        Directory(database).add_organization(Wanted("acme", key=1), 1.0)
        Directory(database).add_project(1, Wanted("web", key=1), 1.0)
        insert_counts(database, [Cell(1, int(time.time()) // 10 * 10, 5, project_id=1)])
        insert_sources(database, [Counted()])
        token = make_token(database, None)
        ops, _ = Directory(database).create_token(org_id=None, name="", expires_at=None, now=1.0, scope=OPS_SCOPE)
    with roles.running_as(directory, "api") as url, running_api(url, tmp_path) as api:
        for route, path in ROUTES.items():
            query = {"field": "sum(quantity)", "category": "error"} if route in ("usage", "summary") else {}
            named = path.format(organization_slug="acme", project_slug="web")
            headers = {"Authorization": f"Bearer {token}"}
            if route == "ops":
                headers = {"Authorization": f"Bearer {ops}"}
            answer = httpx.get(api.url + named, params=query, headers=headers)
            assert answer.status_code == (503 if route == "ops" else 200), (route, answer.text)
        assert httpx.get(f"{api.url}/healthz/ready").status_code == 200
        for table in ("counts", "tokens"):
            assert "INSERT" in roles.refused(url, f"INSERT INTO {table} SELECT * FROM {table}")
        assert "should not be changed" in roles.refused(url, "SET max_block_size = 3")
        assert "SELECT" in roles.refused(url, "SELECT * FROM dead_letters")


def test_the_operators_page_reads_with_a_role_of_its_own(directory: Path) -> None:
    """It reads all that it shows, and neither counts nor tokens, and writes nothing."""
    with roles.unrestricted(directory) as url, Database(url, size=1) as database:
        insert_sources(database, [Counted()])
    with roles.running_as(directory, "ops") as url:
        with Database(url, size=1) as database:
            assert read_operating(database).partitions
        for table in ("counts", "totals", "tokens"):
            assert "SELECT" in roles.refused(url, f"SELECT * FROM {table}")
        assert "INSERT" in roles.refused(url, "INSERT INTO gaps SELECT * FROM gaps")


def test_a_setting_that_is_sent_and_not_allowed_is_refused(directory: Path, tmp_path: Path) -> None:
    """So the list of them is needed: without one of them nothing is answered, and the log says which."""
    with roles.running_as(directory, "api", left_out="use_client_time_zone") as url, running_api(url, tmp_path) as api:
        assert httpx.get(f"{api.url}/healthz/ready").status_code == 503
        wait_for(lambda: "use_client_time_zone should not be changed" in api.child.log.read_text(), 30)


def test_the_doctor_says_what_a_role_lacks_and_has_too_much(directory: Path) -> None:
    """The API's user is no consumer; and the consumers' lacks what the API reads and may insert."""
    run = orgstats_runner("127.0.0.1:1", "t", "g", "clickhouse://h/d")
    with roles.running_as(directory, "consumer") as url:
        found = json.loads(run("doctor", "--role", "consumer", "--json", ORGSTATS_CLICKHOUSE_URL=url).stdout)
        assert [one["level"] for one in found] == ["ok"]
        lacking, more = json.loads(run("doctor", "--role", "api", "--json", ORGSTATS_CLICKHOUSE_URL=url).stdout)
    assert (lacking["level"], more["level"]) == ("act", "note")
    assert "SELECT on orgstats.tokens" in lacking["what"]
    assert "SELECT on orgstats.counts" not in lacking["what"]
    assert more["what"].endswith("INSERT on orgstats.counts")
    assert "orgstats grants --role api" in lacking["remedy"]
