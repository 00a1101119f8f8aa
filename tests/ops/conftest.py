"""One topic that was counted once, under a mistaken rule; each test gets a copy of its tables to spoil and mend."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orgstats.clickhouse.connect import connect
from orgstats.consumer.ops.connections import Connections, open_connections
from orgstats.consumer.settings import ConsumerSettings
from orgstats.schemas.migrate import migrate
from orgstats.schemas.tables import TABLES, insert
from tests.ops import traffic
from tests.support import oracle, stored
from tests.support.command import run_here
from tests.support.daemon import Daemon
from tests.support.servers import Kafka
from tests.support.wait import wait_for

ORGSTATS = str(Path(sys.executable).with_name("orgstats"))


@dataclass(frozen=True)
class World:
    """A counted topic of one partition: two closed chunks and an open one."""

    kafka: Kafka
    topic: str
    first_ms: int
    template_url: str
    records: list[oracle.Record]
    truth: oracle.Truth
    """As counted, the mistaken rule among it."""

    def truth_without_mistake(self) -> oracle.Truth:
        """What an oracle says that never saw the mistake."""
        return oracle.count(self.records)


@pytest.fixture(scope="session")
def world(kafka: Kafka, clickhouse_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The topic, counted by the daemon."""
    if not kafka.real:
        pytest.skip("needs a real Kafka: the mock keeps too few records")
    topic = kafka.create_topic(1)
    first_ms = (int(time.time()) - 2 * traffic.DAY) // traffic.DAY * traffic.DAY * 1000
    traffic.produce(kafka.bootstrap_servers, topic, first_ms)
    with database(clickhouse_server) as url:
        publish_mistake(url, first_ms)
        daemon = Daemon("template", tmp_path_factory.mktemp("ops"), kafka.bootstrap_servers, topic, url)
        try:
            wait_for(lambda: stored.progress(url) == {0: traffic.RECORDS}, 120)
            assert daemon.child.stop(grace_seconds=30) == 0
        finally:
            daemon.child.kill()
        records = list(oracle.read(kafka.bootstrap_servers, topic))
        truth = oracle.count(records, traffic.classify_with_mistake(first_ms))
        yield World(kafka, topic, first_ms, url, records, truth)


class database:  # noqa: N801 - a context manager
    """A migrated database until the block ends."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._name = f"ops_{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> str:
        with connect(self._server, client_name="tests") as client:
            client.execute(f"CREATE DATABASE {self._name}")
        url = urlsplit(self._server)._replace(path=f"/{self._name}").geturl()
        migrate(url, retention_days=0)
        return url

    def __exit__(self, *_: object) -> None:
        with connect(self._server, client_name="tests") as client:
            client.execute(f"DROP DATABASE {self._name} SYNC")


def publish_mistake(url: str, first_ms: int) -> None:
    """A history in which a mistaken rule was in force for an hour, two days ago."""
    since = traffic.mistaken_from_ms(first_ms)
    rows = [
        (f"entry{version}", version, at, text, "tests", at, "", datetime.fromtimestamp(0, UTC))
        for version, text, ms in (
            (1, traffic.MISTAKE, since),
            (2, traffic.CORRECTED, since + traffic.MISTAKEN_SECONDS * 1000),
        )
        for at in [datetime.fromtimestamp(ms / 1000, UTC)]
    ]
    with connect(url, client_name="tests") as client:
        client.execute(insert("rules"), rows)


@pytest.fixture
def url(world: World, clickhouse_url: str) -> str:
    """A database of this test's own that holds what the world's daemon stored."""
    template = urlsplit(world.template_url).path.lstrip("/")
    with connect(clickhouse_url, client_name="tests") as client:
        for table in TABLES:
            if table != "migrations":
                client.execute(f"INSERT INTO {table} SELECT * FROM {template}.{table}")
    return clickhouse_url


@pytest.fixture
def connections(world: World, url: str) -> Iterator[Connections]:
    """The world's topic and the test's own database, as a command works with them."""
    settings = ConsumerSettings(
        bootstrap_servers=world.kafka.bootstrap_servers,
        topic=(world.topic,),
        group=f"group-{uuid.uuid4().hex[:8]}",
        clickhouse_url=url,
    )
    opened = open_connections(settings)
    yield opened
    opened.store.close()


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def orgstats_runner(
    bootstrap_servers: str, topic: str, group: str, clickhouse_url: str, *, process: bool = False
) -> Run:
    """Runs the command with these settings: `run("replay", "plan", ORGSTATS_X="...")`.

    As a process of its own only if it must be one, or may be killed: a process imports for most of its time.
    """
    settings = {
        "ORGSTATS_BOOTSTRAP_SERVERS": bootstrap_servers,
        "ORGSTATS_TOPIC": topic,
        "ORGSTATS_GROUP": group,
        "ORGSTATS_CLICKHOUSE_URL": clickhouse_url,
    }

    def run(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        here = threading.current_thread() is threading.main_thread()  # what it prints and is told is this process's
        if here and not process and "ORGSTATS_FAILPOINTS" not in env:
            return run_here(words, {**settings, **env})
        own = {**os.environ, **settings, **env}
        return subprocess.run([ORGSTATS, *words], check=False, capture_output=True, text=True, env=own, timeout=120)

    return run


@pytest.fixture
def orgstats(connections: Connections) -> Run:
    """Runs the command with these connections' settings."""
    s = connections.settings
    return orgstats_runner(s.bootstrap_servers, s.topic[0], s.group, s.clickhouse_url)


@pytest.fixture
def ask(url: str) -> Callable[..., list[tuple[object, ...]]]:
    """A question or a statement to the test's own database."""

    def execute(sql: str, **values: object) -> list[tuple[object, ...]]:
        with connect(url, client_name="tests") as client:
            return list(client.execute(sql, values) or [])

    return execute


@pytest.fixture
def daemon(world: World, connections: Connections, tmp_path: Path) -> Iterator[Callable[[], Daemon]]:
    """Starts a consumer of the world's topic into the test's own database, in the group of `connections`."""
    started: list[Daemon] = []

    def start() -> Daemon:
        started.append(
            Daemon(
                f"daemon-{len(started)}", tmp_path, world.kafka.bootstrap_servers, world.topic,
                connections.settings.clickhouse_url, ORGSTATS_GROUP=connections.settings.group,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for one in started:
        one.child.kill()
