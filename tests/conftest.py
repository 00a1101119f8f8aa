"""The servers that tests run against, a database and a topic of their own for each, and what was used."""

import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import apache_kafka
from tests.support import servers
from tests.support.databases import Databases

settings.register_profile("orgstats", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("orgstats")

os.environ.setdefault("ORGSTATS_CHUNK_LENGTH", str(1 << 14))  # an eighth of what there is to replay

# Nobody's answers depend on the time zone of a process, and in UTC nobody would notice if they did. Half an hour off as
# well, so that hours show it. Daemons and commands that tests start inherit it.
os.environ["TZ"] = "Asia/Kolkata"
time.tzset()

IN_CI = os.environ.get("CI") == "true"
_failed = pytest.StashKey[bool]()
_used: dict[str, str] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure, so that the test's database is kept for a look."""
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers the tests ran against."""
    for what, which in _used.items():
        terminalreporter.write_line(f"{what}: {which}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Kafka]:
    """A Kafka for the run: Docker, else Apache Kafka from Maven, else the mock; ORGSTATS_TEST_KAFKA forces one."""
    kind = servers.kafka_kind()
    if IN_CI and kind == "mock":
        pytest.fail(f"CI needs a real Kafka: {apache_kafka.runnable()}", pytrace=False)
    with servers.running_kafka(kind, tmp_path_factory.mktemp("kafka")) as running:
        _used["Kafka"] = f"{kind} at {running.bootstrap_servers}"
        yield running


@pytest.fixture
def real_kafka(kafka: servers.Kafka) -> servers.Kafka:
    """The Kafka of the run where it is a real one; the test is skipped on the mock."""
    if not kafka.real:
        pytest.skip(f"needs a real Kafka: {apache_kafka.runnable() or 'the mock is forced'}")
    return kafka


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Callable[..., apache_kafka.Running]]:
    """Starts an Apache Kafka for this test alone, to be killed, restarted or set up oddly."""
    if reason := apache_kafka.runnable():
        (pytest.fail if IN_CI else pytest.skip)(f"needs an Apache Kafka of its own: {reason}")
    started: list[apache_kafka.Running] = []

    def start(*, sasl: tuple[str, str] | None = None, **properties: str) -> apache_kafka.Running:
        named = {name.replace("_", "."): value for name, value in properties.items()}
        started.append(apache_kafka.start(tmp_path / f"kafka-{len(started)}", properties=named, sasl=sasl))
        return started[-1]

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
def make_topic(kafka: servers.Kafka) -> Callable[..., str]:
    """Makes fresh topics: `make_topic(partitions=4, config={...})`; the mock can only make 4 partitions."""

    def make(partitions: int = 4, config: dict[str, str] | None = None) -> str:
        if not kafka.real and (partitions != 4 or config):
            pytest.skip("the mock Kafka makes topics of 4 partitions without settings only")
        return kafka.create_topic(partitions, config)

    return make


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    """A fresh topic of 4 partitions."""
    return make_topic()


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a ClickHouse for the run: a container where Docker answers, else chDB."""
    kind = servers.clickhouse_kind()
    with servers.running_clickhouse(kind, tmp_path_factory.mktemp("clickhouse")) as url:
        _used["ClickHouse"] = f"{kind} on port {urlsplit(url).port}"
        yield url


@pytest.fixture
def empty_clickhouse_url(clickhouse_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database of this test's own, without tables; kept if the test fails."""
    database = f"test_{uuid.uuid4().hex[:12]}"
    client = connect(clickhouse_server, client_name="tests")
    client.execute(f"CREATE DATABASE {database}")
    yield urlsplit(clickhouse_server)._replace(path=f"/{database}").geturl()
    if not request.node.stash.get(_failed, False):
        client.execute(f"DROP DATABASE {database} SYNC")
    client.disconnect()


@pytest.fixture(scope="session")
def databases(clickhouse_server: str) -> Iterator[Databases]:
    """Databases with the tables, kept for ever."""
    databases = Databases(clickhouse_server)
    yield databases
    databases.close()


@pytest.fixture
def clickhouse_url(databases: Databases, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of one that this test has for itself; kept if the test fails."""
    url = databases.take()
    yield url
    if not request.node.stash.get(_failed, False):
        databases.give_back(url)
