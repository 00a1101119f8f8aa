"""What is measured at Kafka alone: lag and retention stay true while ClickHouse cannot be reached."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from orgstats.consumer import metrics
from orgstats.consumer.checkpoint import Position
from orgstats.consumer.clients import SystemClock
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.watch import Watch
from tests.support.servers import Kafka

NOW = 2_000_000_000.0
HOUR = 3_600.0


def value(name: str, topic: str, partition: int) -> float | None:
    """A metric of one partition; None when it is not told."""
    return metrics.REGISTRY.get_sample_value(name, {"topic": topic, "partition": str(partition)})


@pytest.fixture
def topic(real_kafka: Kafka, make_topic: Callable[..., str]) -> Iterator[str]:
    """Two partitions of 100 records each, which Kafka keeps for an hour."""
    name = make_topic(2, {"retention.ms": str(int(HOUR * 1000))})
    producer = Producer({"bootstrap.servers": real_kafka.bootstrap_servers})
    for i in range(200):
        producer.produce(name, b"{}", partition=i % 2)
    assert producer.flush(30) == 0
    yield name
    metrics.forget([(name, 0), (name, 1)])


def test_lag_and_retention_need_no_clickhouse(real_kafka: Kafka, topic: str) -> None:
    """The lag is measured from what is stored; retention overtakes an hour after counts were complete."""
    positions: dict[TopicPartition, Position] = {(topic, 0): Position(30, NOW - 60), (topic, 1): Position(100, NOW)}
    watch = Watch(
        ConsumerSettings(
            bootstrap_servers=real_kafka.bootstrap_servers,
            topic=(topic,),
            clickhouse_url="clickhouse://nobody@127.0.0.1:9/nowhere",
        ),
        lambda: positions,
        SystemClock(),
    )
    watch.look(NOW)
    assert [value("orgstats_lag_records", topic, n) for n in (0, 1)] == [70, 0]
    assert value("orgstats_retention_deadline_timestamp_seconds", topic, 0) == NOW - 60 + HOUR
    assert value("orgstats_open_transaction_records", topic, 0) == 0

    positions[topic, 1] = Position(50, 0, NOW - 30)
    watch.look(NOW)
    assert value("orgstats_retention_deadline_timestamp_seconds", topic, 1) == NOW - 30 + HOUR
    positions[topic, 1] = Position(100, NOW)

    del positions[topic, 0]
    watch.look(NOW)
    assert [value("orgstats_lag_records", topic, n) for n in (0, 1)] == [None, 0]
    assert value("orgstats_retention_deadline_timestamp_seconds", topic, 0) is None
