"""Which Kafka and which ClickHouse the tests run against: Docker where an engine answers, else what is at hand."""

import os
import socket
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import apache_kafka, chdb_server, mock_kafka
from tests.support.wait import wait_for

KAFKA_IMAGE: Final = "confluentinc/cp-kafka:8.1.0"
CLICKHOUSE_IMAGE: Final = "clickhouse/clickhouse-server:25.8"


@dataclass(frozen=True)
class Kafka:
    """A Kafka for the whole run; tests share it and keep apart by topics and groups of their own."""

    kind: str
    bootstrap_servers: str

    @property
    def real(self) -> bool:
        """Whether it is Apache Kafka and not the mock."""
        return self.kind != "mock"

    def create_topic(self, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        """A fresh topic's name. The mock has no settings and always 4 partitions."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        if self.real:
            new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
            admin.create_topics([new])[name].result(30)
        wait_for(lambda: len(admin.list_topics(name, timeout=10).topics[name].partitions) == partitions, 30)
        self._wait_for_leaders(name, partitions)
        return name

    def _wait_for_leaders(self, topic: str, partitions: int) -> None:
        """A leader that is already named may not yet know that it leads."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": "leaders"})

        def leads(partition: int) -> bool:
            try:
                return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10) is not None
            except KafkaException:
                return False

        for partition in range(partitions):
            wait_for(lambda partition=partition: leads(partition), 30)  # type: ignore[misc]
        consumer.close()


def docker_answers() -> bool:
    """Whether a Docker engine answers a ping; no client is imported for the question."""
    address = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    family, target = (
        (socket.AF_UNIX, address.path)
        if address.scheme == "unix"
        else (socket.AF_INET, (address.hostname, address.port or 2375))
    )
    with socket.socket(family) as engine:
        engine.settimeout(3)
        try:
            engine.connect(target)
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in engine.recv(64)
        except OSError:
            return False


def _forced(variable: str, known: Sequence[str]) -> str | None:
    value = os.environ.get(variable)
    if value and value not in known:
        raise ValueError(f"{variable} must be one of {', '.join(known)}, not {value!r}")
    return value


def kafka_kind() -> str:
    """The Kafka to use: ORGSTATS_TEST_KAFKA, else the best that this machine can run."""
    if forced := _forced("ORGSTATS_TEST_KAFKA", ["docker", "apache", "mock"]):
        return forced
    if docker_answers():
        return "docker"
    return "mock" if apache_kafka.runnable() else "apache"


@contextmanager
def running_kafka(kind: str, directory: Path) -> Iterator[Kafka]:
    """A Kafka of the given kind until the block ends."""
    if kind == "docker":
        with _kafka_container() as bootstrap_servers:
            yield Kafka(kind, bootstrap_servers)
        return
    broker = apache_kafka.start(directory) if kind == "apache" else mock_kafka.start(directory / "mock.log")
    try:
        yield Kafka(kind, broker.bootstrap_servers)
    finally:
        broker.kill()


def clickhouse_kind() -> str:
    """The ClickHouse to use: ORGSTATS_TEST_CLICKHOUSE, else a container where an engine answers, else chDB."""
    return _forced("ORGSTATS_TEST_CLICKHOUSE", ["docker", "chdb"]) or ("docker" if docker_answers() else "chdb")


@contextmanager
def running_clickhouse(kind: str, directory: Path) -> Iterator[str]:
    """The URL of a ClickHouse until the block ends; its path is the database `default`."""
    if kind == "docker":
        with _clickhouse_container() as url:
            yield url
        return
    server = chdb_server.start(directory, password="test")
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _kafka_container() -> Iterator[str]:
    with _imported_quietly():
        from testcontainers.kafka import KafkaContainer
    container = KafkaContainer(KAFKA_IMAGE).with_kraft()
    for name, value in apache_kafka.BROKER_PROPERTIES.items():  # start() sets roles and listeners over these
        container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)
    with container as started:
        yield started.get_bootstrap_server()


@contextmanager
def _clickhouse_container() -> Iterator[str]:
    with _imported_quietly():
        from testcontainers.core.container import DockerContainer
    container = DockerContainer(CLICKHOUSE_IMAGE).with_exposed_ports(9000)
    with container.with_env("CLICKHOUSE_PASSWORD", "test").with_env("CLICKHOUSE_SKIP_USER_SETUP", "0") as started:
        host, port = started.get_container_host_ip(), started.get_exposed_port(9000)
        url = f"clickhouse://default:test@{host}:{port}/default"
        wait_for(lambda: answers(url), 60, poll_seconds=0.2)
        yield url


def answers(url: str) -> bool:
    """Whether the ClickHouse at the URL answers a query."""
    client = connect(url, client_name="tests", timeout_seconds=5)
    try:
        return bool(client.execute("SELECT 1") == [(1,)])
    except Exception:  # noqa: BLE001 - whatever is wrong, it does not answer yet
        return False
    finally:
        client.disconnect()


@contextmanager
def _imported_quietly() -> Iterator[None]:
    """Warnings are errors here, and the ones of packages that only a Docker engine needs are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
