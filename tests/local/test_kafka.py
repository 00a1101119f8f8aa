"""What we rely on from a Kafka, shown on the mock and on the real one alike; and what only the real one can."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

from tests.support import servers
from tests.support.wait import wait_for


@pytest.fixture(scope="module", params=["mock", "real"])
def broker(request: pytest.FixtureRequest) -> servers.Kafka:
    """The mock, then the real Kafka of the run."""
    running: servers.Kafka = request.getfixturevalue("mock" if request.param == "mock" else "kafka")
    if request.param == "real" and not running.real:
        pytest.skip("no real Kafka on this machine")
    return running


def consumer(broker: servers.Kafka, group: str = "", **properties: str | int | bool) -> Consumer:
    """A consumer as ours is set up: nothing automatic."""
    return Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": group or uuid.uuid4().hex,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            **{name.replace("_", "."): value for name, value in properties.items()},
        }
    )


def produce(broker: servers.Kafka, topic: str, count: int, partition: int = 0) -> None:
    """Put `count` records on a partition, at one a second from a fixed time on."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "compression.type": "lz4"})
    for number in range(count):
        producer.produce(
            topic,
            value=b"value %d" % number,
            key=b"key",
            partition=partition,
            timestamp=1_584_824_400_000 + 1000 * number,
            headers=[("trace", b"\x00\xff")],
        )
    assert producer.flush(20) == 0


def read(reader: Consumer, count: int) -> list[Message]:
    """The next `count` messages and events of a consumer."""
    found: list[Message] = []

    def enough() -> bool:
        found.extend(reader.consume(count - len(found), 0.1))
        return len(found) >= count

    wait_for(enough, 20)
    return found


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Kafka]:
    """A mock of this file's own."""
    with servers.running_kafka("mock", tmp_path_factory.mktemp("mock")) as running:
        yield running


class TestContract:
    """Each test runs on the mock and on the real Kafka."""

    def test_a_record_comes_back_whole(self, broker: servers.Kafka) -> None:
        """Value, key, headers, offset and the producer's timestamp are what was sent."""
        topic = broker.create_topic()
        produce(broker, topic, 3)
        reader = consumer(broker)
        reader.assign([TopicPartition(topic, 0, 0)])
        message = read(reader, 3)[2]
        reader.close()
        assert (message.value(), message.key(), message.offset()) == (b"value 2", b"key", 2)
        assert message.headers() == [("trace", b"\x00\xff")]
        assert message.timestamp()[1] == 1_584_824_402_000

    def test_reading_starts_at_the_offset_asked_for_and_ends_with_an_eof(self, broker: servers.Kafka) -> None:
        """An assignment at offset 5 of 8 gives 5, 6, 7 and then the event at the end; the position is 8."""
        topic = broker.create_topic()
        produce(broker, topic, 8, partition=1)
        reader = consumer(broker)
        reader.assign([TopicPartition(topic, 1, 5)])
        *records, end = read(reader, 4)
        assert [message.offset() for message in records] == [5, 6, 7]
        error = end.error()
        assert error is not None
        assert (error.code(), end.offset()) == (KafkaError._PARTITION_EOF, 8)
        assert reader.position([TopicPartition(topic, 1)])[0].offset == 8
        reader.close()

    def test_seek_goes_back(self, broker: servers.Kafka) -> None:
        """After a seek to 2 the next record is that of offset 2."""
        topic = broker.create_topic()
        produce(broker, topic, 6)
        reader = consumer(broker)
        reader.assign([TopicPartition(topic, 0, 0)])
        read(reader, 6)
        reader.seek(TopicPartition(topic, 0, 2))
        wait_for(lambda: (message := reader.poll(0.1)) and not message.error() and message.offset() == 2, 20)
        reader.close()

    def test_a_commit_keeps_its_offset_and_metadata(self, broker: servers.Kafka) -> None:
        """Another consumer of the group reads what the first one committed; a partition without says so."""
        topic, group = broker.create_topic(), uuid.uuid4().hex
        produce(broker, topic, 4)
        first = consumer(broker, group)
        first.assign([TopicPartition(topic, 0, 0)])
        first.commit(offsets=[TopicPartition(topic, 0, 3, "source=abc;fingerprint=1")], asynchronous=False)
        first.close()
        second = consumer(broker, group)
        done, none = second.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=20)
        second.close()
        assert (done.offset, done.metadata) == (3, "source=abc;fingerprint=1")
        assert none.offset < 0

    def test_watermarks_are_the_ends_of_the_log(self, broker: servers.Kafka) -> None:
        """An empty partition has (0, 0), one with four records (0, 4)."""
        topic = broker.create_topic()
        produce(broker, topic, 4, partition=2)
        reader = consumer(broker)
        assert reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=20) == (0, 0)
        assert reader.get_watermark_offsets(TopicPartition(topic, 2), timeout=20) == (0, 4)
        reader.close()

    def test_a_position_outside_the_log_is_an_error(self, broker: servers.Kafka) -> None:
        """Without an automatic reset, a start beyond the end is reported and not silently moved."""
        topic = broker.create_topic()
        produce(broker, topic, 1)
        reader = consumer(broker)
        reader.assign([TopicPartition(topic, 0, 100)])
        error = read(reader, 1)[0].error()
        reader.close()
        assert error is not None
        assert error.code() == KafkaError._AUTO_OFFSET_RESET

    def test_a_group_shares_partitions_and_hands_them_over(self, broker: servers.Kafka) -> None:
        """A second member takes two of four partitions, after the first gave all up; on leaving, all come back."""
        topic, group = broker.create_topic(), uuid.uuid4().hex
        held: dict[str, set[int]] = {"a": set(), "b": set()}
        revoked: list[int] = []

        def member(name: str) -> Consumer:
            def on_assign(_: Consumer, partitions: list[TopicPartition]) -> None:
                held[name] |= {each.partition for each in partitions}

            def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
                revoked.extend(each.partition for each in partitions)
                held[name] -= {each.partition for each in partitions}

            joining = consumer(broker, group, session_timeout_ms=6000, heartbeat_interval_ms=200)
            joining.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
            return joining

        first = member("a")
        wait_for(lambda: first.poll(0.05) or held["a"] == {0, 1, 2, 3}, 30)
        second = member("b")

        def shared() -> bool:
            first.poll(0.05)
            second.poll(0.05)
            return len(held["a"]) == len(held["b"]) == 2

        wait_for(shared, 30)
        assert held["a"] | held["b"] == {0, 1, 2, 3}
        assert set(revoked) == {0, 1, 2, 3}  # perhaps more than once: a second round may follow the first
        second.close()
        wait_for(lambda: first.poll(0.05) or held["a"] == {0, 1, 2, 3}, 30)
        first.close()


class TestMockLimits:
    """What the mock's docstring says it cannot do, so that the docstring stays true."""

    def test_it_keeps_five_mebibytes_a_partition(self, mock: servers.Kafka) -> None:
        """After 6 MiB of incompressible records the oldest megabyte is gone."""
        topic = mock.create_topic()
        producer = Producer({"bootstrap.servers": mock.bootstrap_servers, "linger.ms": 5})
        for _ in range(6 * 1024):
            producer.produce(topic, b"x" * 1024, partition=0)
        assert producer.flush(20) == 0
        reader = consumer(mock)
        low, high = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
        reader.close()
        assert high == 6 * 1024
        assert 3 * 1024 < high - low < 5 * 1024

    def test_it_cannot_look_up_an_offset_by_time(self, mock: servers.Kafka) -> None:
        """The answer is the end of the log, whatever the time."""
        topic = mock.create_topic()
        produce(mock, topic, 3)
        reader = consumer(mock)
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, 1_584_824_401_000)], timeout=20)
        reader.close()
        assert found.offset < 0


class TestRealKafka:
    """What tests of gaps, replays and re-created topics need, and only a real Kafka can do."""

    def test_a_recreated_topic_has_another_uuid(self, real_kafka: servers.Kafka) -> None:
        """Deleting and making a topic again gives the same name another id."""
        topic = real_kafka.create_topic(1)
        admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap_servers})

        def topic_id() -> str:
            try:
                return str(admin.describe_topics(TopicCollection([topic]))[topic].result(20).topic_id)
            except KafkaException:
                return ""  # made, but not yet told

        before = wait_for(topic_id, 20)
        admin.delete_topics([topic])[topic].result(20)

        def made_again() -> bool:
            try:
                admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
            except KafkaException:
                return False
            return True

        wait_for(made_again, 20)
        assert wait_for(topic_id, 20) != before

    def test_records_can_be_deleted_from_the_head(self, real_kafka: servers.Kafka) -> None:
        """Deleting below offset 3 moves the low watermark there, as retention would."""
        topic = real_kafka.create_topic(1)
        produce(real_kafka, topic, 5)
        admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap_servers})
        (done,) = admin.delete_records([TopicPartition(topic, 0, 3)]).values()
        done.result(20)
        reader = consumer(real_kafka)
        assert reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=20) == (3, 5)
        reader.close()

    def test_an_offset_is_found_by_time(self, real_kafka: servers.Kafka) -> None:
        """The first record at or after a time is what a replay starts from."""
        topic = real_kafka.create_topic(1)
        produce(real_kafka, topic, 5)
        reader = consumer(real_kafka)
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, 1_584_824_401_500)], timeout=20)
        reader.close()
        assert found.offset == 2

    def test_a_groups_offsets_can_be_reset(self, real_kafka: servers.Kafka) -> None:
        """An operator's reset is what the group reads next."""
        topic, group = real_kafka.create_topic(1), uuid.uuid4().hex
        admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap_servers})
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])

        def is_set() -> bool:  # a broker that was just made may not have found the group's coordinator yet
            (done,) = admin.alter_consumer_group_offsets([wanted]).values()
            return all(one.error is None for one in done.result(20).topic_partitions)

        wait_for(is_set, 30)
        reader = consumer(real_kafka, group)
        assert reader.committed([TopicPartition(topic, 0)], timeout=20)[0].offset == 2
        reader.close()


@pytest.mark.campaign
def test_a_killed_broker_comes_back_with_its_records(own_kafka) -> None:  # type: ignore[no-untyped-def]
    """After SIGKILL and restart the same address serves the same records."""
    broker = own_kafka()
    kafka = servers.Kafka("apache", broker.bootstrap_servers)
    topic = kafka.create_topic(1)
    produce(kafka, topic, 5)
    broker.kill()
    broker.restart()
    reader = consumer(kafka)
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=20) == (0, 5)
    reader.close()


def test_a_missing_java_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a machine without Java the reason says what to install."""
    from orgstats.deploy.local import apache_kafka

    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install a JRE" in (apache_kafka.runnable() or "")
