"""The guarantee, whole: real processes between a real Kafka and the engine, and every cell against the oracle."""

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from orgstats.query.clickhouse import Database
from orgstats.query.stats import organization_stats
from tests.support import oracle, stored
from tests.support.daemon import Daemon
from tests.support.servers import Kafka
from tests.support.wait import wait_for

RECORDS = int(os.environ.get("ORGSTATS_TEST_RECORDS", "1000000"))
KILLS = 10
ORGSTATS = str(Path(sys.executable).with_name("orgstats"))


def generate(kafka: Kafka, topic: str, records: int, seed: int) -> None:
    """Put realistic traffic with broken records onto the topic."""
    options = {"count": records, "seed": seed, "broken": 0.001, "since": "-6h", "organizations": 100}
    words = [f"--{name}={value}" for name, value in options.items()]
    address = [f"--bootstrap-servers={kafka.bootstrap_servers}", f"--topic={topic}"]
    subprocess.run([ORGSTATS, "generate", *address, *words], check=True, capture_output=True, timeout=120)


Make = Callable[[str], Daemon]


@pytest.fixture
def make_daemon(tmp_path: Path, kafka: Kafka, topic: str, clickhouse_url: str) -> Iterator[Make]:
    """Starts consumers of the test's topic; static members, so that a killed one comes back to its partitions."""
    started: list[Daemon] = []

    def make(name: str) -> Daemon:
        started.append(
            Daemon(name, tmp_path, kafka.bootstrap_servers, topic, clickhouse_url, ORGSTATS_INSTANCE_ID=name)
        )
        return started[-1]

    yield make
    for daemon in started:
        daemon.child.kill()


@pytest.mark.timeout(600)
@pytest.mark.campaign
def test_two_killed_consumers_count_what_one_pass_counts(
    real_kafka: Kafka, topic: str, clickhouse_url: str, make_daemon: Make
) -> None:
    """Two consumers of a group, killed ten times on the way, store every cell as the oracle has it; read twice, too."""
    generate(real_kafka, topic, RECORDS, seed=1)
    chance = random.Random(7)
    daemons = [make_daemon("one"), make_daemon("two")]
    for kill in range(1, KILLS + 1):
        wait_for_records(clickhouse_url, kill * RECORDS // (KILLS + 2))
        victim = chance.choice(daemons)
        victim.child.kill()
        victim.start()
    truth = oracle.count(oracle.read(real_kafka.bootstrap_servers, topic))
    assert sum(truth.events.values()) + len(truth.dead_letters) == RECORDS
    wait_for(lambda: stored.progress(clickhouse_url) == truth.end, 120)
    assert stored.differences(clickhouse_url, truth) == {}
    assert [daemon.child.stop(grace_seconds=30) for daemon in daemons] == [0, 0]

    set_offsets_back(real_kafka, topic)
    for daemon in daemons:
        daemon.start()
    wait_for(lambda: committed(real_kafka, topic) == truth.end, 120)
    assert [daemon.child.stop(grace_seconds=30) for daemon in daemons] == [0, 0]
    assert stored.differences(clickhouse_url, truth) == {}
    compare_series(clickhouse_url, truth)


def wait_for_records(url: str, records: int) -> None:
    """Until that many offsets are counted."""
    wait_for(lambda: sum(stored.progress(url).values()) >= records, 120)


def committed(kafka: Kafka, topic: str) -> dict[int, int]:
    """The group's committed offsets by partition."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": f"group-{topic}"})
    try:
        answer = consumer.committed([TopicPartition(topic, partition) for partition in range(4)], timeout=10)
        return {one.partition: one.offset for one in answer if one.offset >= 0}
    finally:
        consumer.close()


def set_offsets_back(kafka: Kafka, topic: str) -> None:
    """What `kafka-consumer-groups --reset-offsets --to-earliest` does, once the group has no members."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    offsets = [TopicPartition(topic, partition, 0) for partition in range(4)]
    request = ConsumerGroupTopicPartitions(f"group-{topic}", offsets)

    def reset() -> bool:
        try:
            admin.alter_consumer_group_offsets([request])[f"group-{topic}"].result(10)
        except KafkaException:  # static members leave the group with their session
            return False
        return committed(kafka, topic) == dict.fromkeys(range(4), 0)

    wait_for(reset, 30, poll_seconds=0.5)


def compare_series(url: str, truth: oracle.Truth) -> None:
    """Every organization's every stat in every resolution, as the query module answers, against the oracle."""
    database = Database(url, size=1)
    by_org: defaultdict[int, Counter[oracle.Cell]] = defaultdict(Counter)
    for cell, quantity in truth.quantity.items():
        by_org[cell.org_id][cell] = quantity
    until = max(cell.bucket for cell in truth.quantity)
    since = min(cell.bucket for cell in truth.quantity)
    for org_id, cells in by_org.items():
        of_org = oracle.Truth(quantity=cells)
        for stat in ("received", "rejected", "blacklisted"):
            for resolution, width in {"10s": 10, "1h": 3_600, "1d": 86_400}.items():
                start = max(since, until - 999 * width)
                found = organization_stats(database, org_id, stat=stat, since=start, until=until, resolution=resolution)
                assert found == of_org.series(org_id, stat, start, until, width), (org_id, stat, resolution)
    database.close()
