"""The two ways of reading records say the same of the same log: on an Apache Kafka, by itself and in a group."""

import gc
import random
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from orgstats.consumer.counting.batch import Record
from orgstats.consumer.counting.packing import packed, packed_in_python
from orgstats.consumer.kafka import reading
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer, ReadBatch, TopicPartition
from tests.faults.conftest import Place
from tests.support.wait import wait_for

if not reading.COMPILED:
    pytest.skip("needs orgstats.consumer.kafka.batches, which a C compiler makes", allow_module_level=True)

WAYS = ["batches", "messages"]
SHORT = {"session.timeout.ms": 6_000, "max.poll.interval.ms": 6_000}


class Kafka:
    """Topics of a test's own, and clients for them."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap: dict[str, Any] = {"bootstrap.servers": bootstrap_servers}
        self.admin = AdminClient(self.bootstrap)

    def topic(self, partitions: int = 3, name: str = "") -> str:
        name = name or f"reading-{uuid.uuid4().hex[:8]}"
        wait_for(lambda: name not in self.admin.list_topics(timeout=10).topics, 30)  # as one made again may be still
        self.admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[name].result(30)
        wait_for(lambda: name in self.admin.list_topics(timeout=10).topics, 30)
        return name

    def produce(self, topic: str, count: int, *, partitions: int = 3, **properties: str) -> None:
        """Records of all partitions in turn; in a transaction that is left open when the properties name one."""
        producer = Producer({**self.bootstrap, "linger.ms": 5, **properties})
        for n in range(count):
            producer.produce(topic, b"%d" % n * (n % 50), partition=n % partitions)
        assert not producer.flush(30)

    def transaction(self, topic: str, count: int) -> Producer:
        """A transaction under way, with records of partition 0 that have reached the broker."""
        producer = Producer({**self.bootstrap, "transactional.id": uuid.uuid4().hex, "linger.ms": 1})
        producer.init_transactions(30)
        producer.begin_transaction()
        for n in range(count):
            producer.produce(topic, b"%d" % n, partition=0)
        assert not producer.flush(30)
        return producer


class Member:
    """A member of a group, and what it was told."""

    def __init__(self, kafka: Kafka, topics: Sequence[str], way: str, group: str = "", **properties: Any) -> None:
        self.assigned: set[TopicPartition] = set()
        self.revoked: list[TopicPartition] = []
        self.lost: list[TopicPartition] = []
        self.troubles: list[KafkaError] = []
        self.log = GroupConsumer(
            {**kafka.bootstrap, "group.id": group or uuid.uuid4().hex, **properties},
            topics,
            Callbacks(self.assigned.update, self._take(self.revoked), self._take(self.lost), self.troubles.append),
            batches=way == "batches",
        )
        assert isinstance(self.log._records, reading.BatchReading) == (way == "batches")

    def _take(self, told: list[TopicPartition]) -> Callable[[list[TopicPartition]], None]:
        def take(tps: list[TopicPartition]) -> None:
            told.extend(tps)
            self.assigned.difference_update(tps)

        return take

    def join(self, partitions: int) -> set[TopicPartition]:
        """What it is assigned, once that are so many."""
        wait_for(lambda: self.log.read(1, 0.1) and len(self.assigned) == partitions, 60)
        return self.assigned

    def read(self, most: int = 1_000, seconds: float = 0.05) -> ReadBatch:
        """One read, of which everything has to be of partitions that it has."""
        batch = self.log.read(most, seconds)
        assert {tp for tp, _ in batch.runs} <= self.assigned
        assert {tp for tp, _ in batch.ends} <= self.assigned
        return batch

    def drain(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, list[Record]]:
        """All records of these partitions from these offsets to their ends."""
        self.log.start(offsets)
        found: dict[TopicPartition, list[Record]] = {tp: [] for tp in offsets}
        open_ends = set(offsets)

        def done() -> bool:
            batch = self.read()
            assert not batch.lost_position
            for tp, run in batch.runs:
                found[tp] += run
            open_ends.difference_update(tp for tp, _ in batch.ends)
            return not open_ends

        wait_for(done, 60)
        return found


@pytest.fixture
def kafka(place: Place) -> Kafka:
    """The broker of these tests."""
    return Kafka(place.site.bootstrap_servers)


@pytest.fixture
def member(kafka: Kafka) -> Iterator[Callable[..., Member]]:
    """Makes members of groups: `member(topics, way, group, property=value)`."""
    made: list[Member] = []

    def make(*arguments: Any, **properties: Any) -> Member:
        made.append(Member(kafka, *arguments, **{name.replace("_", "."): v for name, v in properties.items()}))
        return made[-1]

    yield make
    for one in made:
        one.log.close()


def facts(record: Record | Message) -> tuple[object, ...]:
    """All there is to know of a record."""
    return (
        record.offset(),
        record.value(),
        record.key(),
        record.timestamp(),
        record.headers(),
        record.leader_epoch(),
    )


def offsets_of(records: Sequence[Record]) -> list[int]:
    return [record.offset() for record in records]


@pytest.mark.parametrize("way", WAYS)
def test_a_record_is_what_confluent_kafka_says_it_is(kafka: Kafka, member: Callable[..., Member], way: str) -> None:
    """Value, key, timestamp, headers and leader epoch, each also absent and empty."""
    topic = kafka.topic(1)
    producer = Producer(kafka.bootstrap)
    texts = [None, b"", b"a", b"\0\xff" * 300]
    all_headers: list[list[tuple[str, bytes | None]] | None] = [
        None,
        [],
        [("a", b"1")],
        [("a", None), ("a", b""), ("\u00fc", b"\0\xff")],
    ]
    for value in texts:
        for key in texts:
            for headers in all_headers:
                producer.produce(topic, value, key, headers=headers, timestamp=len(texts) * 1_000_000)  # type: ignore[arg-type]
    assert not producer.flush(30)
    plain = Consumer({**kafka.bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    plain.subscribe([topic])
    expected = plain.consume(64, 60)
    plain.close()
    assert len(expected) == 64
    one = member([topic], way)
    one.join(1)
    found = one.drain({(topic, 0): 0})[topic, 0]
    assert [facts(record) for record in found] == [facts(message) for message in expected]


def test_a_run_is_cut_as_a_list_is_and_knows_its_row(kafka: Kafka, member: Callable[..., Member]) -> None:
    """Any slice of a run holds the records, and the row, of the same slice of a list."""
    topic = kafka.topic(1)
    kafka.produce(topic, 100, partitions=1)
    one = member([topic], "batches")
    one.join(1)
    one.read(100)  # so many are read from now on
    one.log.start({(topic, 0): 0})
    [(_, run)] = wait_for(lambda: one.read(100, 5).runs, 60)
    records = list(run)
    assert len(run) == len(records) == 100
    assert run[-1].offset() == 99
    with pytest.raises(IndexError):
        run[100]
    for cut in (slice(None), slice(0, 0), slice(3, 50), slice(50, 3), slice(-5, None), slice(99, 1000)):
        for part, same in ((run[cut], records[cut]), (run[1:][cut], records[1:][cut])):
            assert list(map(facts, part)) == list(map(facts, same))
            assert packed(part) == packed_in_python(same)
    one.read(100)
    assert len(run) == 100
    with pytest.raises(RuntimeError, match="given back"):
        run[0]
    with pytest.raises(RuntimeError, match="given back"):
        packed(run)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("way", WAYS)
def test_reading_begins_where_it_was_started_however_often(
    kafka: Kafka, member: Callable[..., Member], way: str, protocol: str
) -> None:
    """Of two topics, with what is still under way from the start before, and started again at once."""
    topics = [kafka.topic(), kafka.topic()]
    for topic in topics:
        kafka.produce(topic, 9_000)
    one = member(topics, way, group_protocol=protocol)
    tps = one.join(6)
    rng = random.Random(7)
    for _ in range(40):
        one.read(rng.choice([1, 500]), rng.choice([0.0, 0.02]))
        if protocol == "consumer" or rng.random() < 0.5:  # by the classic protocol all are assigned anew, also at once
            one.log.start({})
        starts = {tp: rng.randrange(2_990) for tp in tps if rng.random() < 0.8}
        one.log.start(starts)
        found: dict[TopicPartition, list[int]] = {tp: [] for tp in starts}
        wanted = rng.choice([1, 100, 5_000])
        ended: set[TopicPartition] = set()
        deadline = time.monotonic() + 30
        while sum(map(len, found.values())) < wanted and ended != set(starts):
            batch = one.read(1_000)
            for tp, run in batch.runs:
                found[tp] += offsets_of(run)
            ended.update(tp for tp, _ in batch.ends)
            assert time.monotonic() < deadline
        for tp, offsets in found.items():
            assert offsets == list(range(starts[tp], starts[tp] + len(offsets)))


@pytest.mark.parametrize("way", WAYS)
def test_transactions_are_read_when_they_are_committed_and_their_ends_are_told(
    kafka: Kafka, member: Callable[..., Member], way: str
) -> None:
    """An open one hides what comes after it; behind an aborted one, which has no records, stands the end."""
    topic = kafka.topic(1)
    tp = (topic, 0)
    one = member([topic], way)
    one.join(1)
    kafka.produce(topic, 5, partitions=1)
    under_way = kafka.transaction(topic, 5)
    kafka.produce(topic, 5, partitions=1)
    one.log.start({tp: 0})
    found: list[int] = []
    ends: list[int] = []

    def read() -> bool:
        batch = one.read()
        for _, run in batch.runs:
            found.extend(offsets_of(run))
        ends.extend(end for _, end in batch.ends)
        return True

    wait_for(lambda: read() and ends[-1:] == [5], 30)
    assert found == [0, 1, 2, 3, 4]
    under_way.abort_transaction(30)
    wait_for(lambda: read() and ends[-1:] == [16], 30)
    assert found == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    committed = kafka.transaction(topic, 3)
    committed.commit_transaction(30)
    wait_for(lambda: read() and ends[-1:] == [20], 30)
    assert found[-3:] == [16, 17, 18]
    last = kafka.transaction(topic, 3)
    last.abort_transaction(30)
    wait_for(lambda: read() and ends[-1:] == [24], 30)
    assert found[-3:] == [16, 17, 18]
    one.log.start({})
    one.log.start({tp: 20})  # there is no record from here on, only the end
    ends.clear()
    wait_for(lambda: read() and ends[-1:] == [24], 30)


@pytest.mark.parametrize("position", [0, 1_000], ids=["deleted", "not yet there"])
@pytest.mark.parametrize("way", WAYS)
def test_a_position_that_the_log_does_not_have_is_lost(
    kafka: Kafka, member: Callable[..., Member], way: str, position: int
) -> None:
    """It is told, no record is read, and the other partition goes on."""
    topic = kafka.topic(2)
    kafka.produce(topic, 100, partitions=2)
    deleted = KafkaTopicPartition(topic, 0, 20)
    kafka.admin.delete_records([deleted])[deleted].result(30)
    one = member([topic], way)
    one.join(2)
    one.log.start({(topic, 0): position, (topic, 1): 0})
    lost: list[TopicPartition] = []
    found: list[TopicPartition] = []

    def told() -> bool:
        batch = one.read()
        lost.extend(batch.lost_position)
        found.extend(tp for tp, _ in batch.runs)
        return bool(lost and found)

    wait_for(told, 30)
    assert set(lost) == {(topic, 0)}
    assert set(found) == {(topic, 1)}


@pytest.mark.campaign
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("way", WAYS)
def test_assigned_anew_it_goes_on_where_it_was(
    kafka: Kafka, member: Callable[..., Member], way: str, protocol: str
) -> None:
    """Another member comes and goes, partitions are added, records are produced: no hole and no record twice."""
    topic, group = kafka.topic(4), uuid.uuid4().hex
    properties = {"group_protocol": protocol, "topic_metadata_refresh_interval_ms": 500}
    first = member([topic], way, group, **properties)
    first.join(4)
    producer = Producer({**kafka.bootstrap, "linger.ms": 5})
    produced, next_offsets = Counter[TopicPartition](), Counter[TopicPartition]()
    started: list[object] = []

    def step(most: int = 5, *, more: int = 2, partitions: int = 4) -> bool:
        for n in range(partitions * more):
            producer.produce(topic, b"%d" % n, partition=n % partitions)
            produced[topic, n % partitions] += 1
        producer.poll(0)
        for tp, run in first.read(most).runs:  # fewer than are produced, so that some wait in all queues
            assert offsets_of(run) == list(range(next_offsets[tp], next_offsets[tp] + len(run)))
            next_offsets[tp] += len(run)
        if (state := [set(first.assigned), len(first.revoked), len(first.lost)]) != started:
            started[:] = state
            first.log.start({tp: next_offsets[tp] for tp in first.assigned})
        return True

    wait_for(lambda: step() and next_offsets.total() > 100, 30)
    second = member([topic], way, group, **properties)
    wait_for(lambda: step() and second.read(10) and len(first.assigned) == len(second.assigned) == 2, 60)
    before = next_offsets.total()
    wait_for(lambda: step() and next_offsets.total() > before + 100, 30)
    second.log.close()
    wait_for(lambda: step() and len(first.assigned) == 4, 60)
    kafka.admin.create_partitions([NewPartitions(topic, 6)])[topic].result(30)
    wait_for(lambda: step() and len(first.assigned) == 6, 60)
    assert not producer.flush(30)
    kafka.produce(topic, 600, partitions=6)
    produced.update({(topic, n): 100 for n in range(6)})
    wait_for(lambda: step(1_000, more=0) and next_offsets.total() == produced.total(), 60)
    assert next_offsets == produced


@pytest.mark.campaign
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("way", WAYS)
def test_of_a_partition_that_was_given_back_no_record_comes(
    kafka: Kafka, member: Callable[..., Member], way: str, protocol: str
) -> None:
    """Members come and go while records wait in all queues; each is only given what it has, and all of that."""
    topic, group = kafka.topic(4), uuid.uuid4().hex
    kafka.produce(topic, 40_000, partitions=4)
    first = member([topic], way, group, group_protocol=protocol)
    first.join(4)
    for _ in range(3):
        first.log.start(dict.fromkeys(first.assigned, 0))
        wait_for(lambda: first.read(10).runs, 30)
        second = member([topic], way, group, group_protocol=protocol)

        def shared(second: Member = second) -> bool:
            first.read(10)  # few, so that many wait
            second.read(10)
            return len(first.assigned) == len(second.assigned) == 2

        wait_for(shared, 60)
        for one in (first, second):
            one.log.start({})
            found = one.drain(dict.fromkeys(one.assigned, 100))
            assert {tp: offsets_of(run) for tp, run in found.items()} == {
                tp: list(range(100, 10_000)) for tp in one.assigned
            }
        second.log.close()
        wait_for(lambda: first.read(10) and len(first.assigned) == 4, 60)
        first.log.start({})
    assert len(first.revoked) >= 6


@pytest.mark.campaign
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("way", WAYS)
def test_a_pause_outlasts_a_rebalance_and_ends_with_the_next_start(
    kafka: Kafka, member: Callable[..., Member], way: str, protocol: str
) -> None:
    """Nothing comes while nothing is started, though another member comes and goes; membership is kept meanwhile."""
    topic, group = kafka.topic(4), uuid.uuid4().hex
    kafka.produce(topic, 20_000, partitions=4)
    first = member([topic], way, group, group_protocol=protocol)
    first.log.start(dict.fromkeys(first.join(4), 0))
    wait_for(lambda: first.read(10).runs, 30)
    first.log.start({})
    second = member([topic], way, group, group_protocol=protocol)

    def have(*counts: int) -> bool:
        for one in (first, second)[: len(counts)]:
            batch = one.read(10)
            assert not (batch.runs)
            assert not (batch.ends)
        return [len(one.assigned) for one in (first, second)][: len(counts)] == list(counts)

    wait_for(lambda: have(2, 2), 60)
    second.log.close()
    wait_for(lambda: have(4), 60)
    found = first.drain(dict.fromkeys(first.assigned, 100))
    assert {tp: offsets_of(run) for tp, run in found.items()} == {(topic, n): list(range(100, 5_000)) for n in range(4)}


@pytest.mark.campaign
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("way", WAYS)
def test_a_topic_that_is_made_again_is_read_from_its_start(
    kafka: Kafka, member: Callable[..., Member], way: str, protocol: str
) -> None:
    """That it went away is told, as a trouble or by taking its partitions; the other topic goes on meanwhile."""
    topic, other = kafka.topic(), kafka.topic()
    kafka.produce(topic, 900)
    one = member([topic, other], way, group_protocol=protocol, topic_metadata_refresh_interval_ms=500)
    one.log.start(dict.fromkeys(one.join(6), 0))
    wait_for(lambda: one.read().runs, 30)
    kafka.admin.delete_topics([topic])[topic].result(30)
    gone = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_ID)
    wait_for(lambda: one.read().troubles or one.revoked or one.lost, 60)
    kafka.produce(other, 30)
    found: list[int] = []

    def others() -> bool:
        if len(one.assigned) == 3:
            one.log.start(dict.fromkeys(one.assigned, 0))
        batch = one.read()
        assert {error.code() for error in batch.troubles} <= set(gone)
        found.extend(offset for tp, run in batch.runs if tp[0] == other for offset in offsets_of(run))
        return bool(found)

    wait_for(others, 60)
    kafka.topic(name=topic)
    kafka.produce(topic, 600)
    wait_for(lambda: one.log.read(1, 0.1) and len(one.assigned) == 6, 60)
    one.log.start({})
    again = one.drain(dict.fromkeys(one.assigned, 0))
    assert {tp: offsets_of(run) for tp, run in again.items() if tp[0] == topic} == {
        (topic, n): list(range(200)) for n in range(3)
    }


@pytest.mark.campaign
@pytest.mark.parametrize("way", WAYS)
def test_reading_goes_on_where_it_was_when_the_broker_comes_back(
    place: Place, kafka: Kafka, member: Callable[..., Member], way: str
) -> None:
    """That it is away is a trouble and nothing else; each record comes once."""
    topic = kafka.topic()
    kafka.produce(topic, 3_000)
    one = member([topic], way, session_timeout_ms=300_000)  # else a slow machine loses its partitions meanwhile
    one.log.start(dict.fromkeys(one.join(3), 0))
    found: dict[TopicPartition, list[int]] = {tp: [] for tp in one.assigned}

    def read() -> ReadBatch:
        batch = one.read(100)
        assert not batch.lost_position
        assert not one.revoked + one.lost
        for tp, run in batch.runs:
            found[tp] += offsets_of(run)
        return batch

    wait_for(lambda: read().runs, 30)
    place.broker.kill()
    wait_for(lambda: one.troubles or read().troubles, 60)
    place.broker.restart()
    wait_for(lambda: read() and kafka.admin.list_topics(timeout=1).brokers, 60)
    kafka.produce(topic, 300)
    wait_for(lambda: read() and sum(map(len, found.values())) >= 3_300, 60)
    assert found == {(topic, n): list(range(1_100)) for n in range(3)}


@pytest.mark.parametrize("way", WAYS)
def test_of_partitions_that_were_lost_no_record_comes(kafka: Kafka, member: Callable[..., Member], way: str) -> None:
    """A member that was away for too long is told that it lost them before it is given any record."""
    topic, group = kafka.topic(), uuid.uuid4().hex
    kafka.produce(topic, 9_000)
    one = member([topic], way, group, **{name.replace(".", "_"): value for name, value in SHORT.items()})
    one.log.start(dict.fromkeys(one.join(3), 0))
    wait_for(lambda: one.read(10).runs, 30)
    described = kafka.admin.describe_consumer_groups
    wait_for(lambda: not described([group], request_timeout=10)[group].result(30).members, 60, poll_seconds=0.2)
    wait_for(lambda: one.read(10) and one.lost, 30)
    found = one.drain(dict.fromkeys(one.join(3), 0))
    assert {tp: offsets_of(run) for tp, run in found.items()} == {(topic, n): list(range(3_000)) for n in range(3)}


@pytest.mark.parametrize("way", WAYS)
def test_closing_with_records_unread_ends_at_once(kafka: Kafka, way: str) -> None:
    """Also where nobody closes, and the garbage collector ends a circle of them."""
    topic = kafka.topic()
    kafka.produce(topic, 9_000)
    for closed in (True, False):
        one = Member(kafka, [topic], way)
        one.log.start(dict.fromkeys(one.join(3), 0))
        wait_for(lambda one=one: one.read(10).runs, 30)  # type: ignore[misc]
        if closed:
            one.log.close()
            with suppress(RuntimeError):  # confluent-kafka's own, of a closed consumer
                assert not one.log._records.read(1, 0.0)[0]
        gone = weakref.ref(one)
        del one
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_topic_is_a_trouble(kafka: Kafka, member: Callable[..., Member], way: str) -> None:
    """Errors that are of no partition come by the consumer's own queue."""
    one = member([f"nowhere-{uuid.uuid4().hex[:8]}"], way)
    [error] = wait_for(lambda: one.read().troubles, 60)
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize("how", ["no file", "no client", "not compiled"])
def test_where_batches_cannot_be_read_messages_are(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another librdkafka may not take the plugin, or not call it: the log says why, and records are read."""

    def no_client(_: object) -> None:
        raise LookupError("librdkafka did not hand over its client")

    if how == "no file":
        monkeypatch.setattr("orgstats.consumer.kafka.batches.__file__", "/nowhere.so")
    elif how == "no client":
        monkeypatch.setattr("orgstats.consumer.kafka.batches.Batches", no_client)
    else:
        monkeypatch.setattr(reading, "COMPILED", False)
    topic = kafka.topic(1)
    kafka.produce(topic, 10, partitions=1)
    consumer, records = reading.make({**kafka.bootstrap, "group.id": uuid.uuid4().hex}, batches=True)
    assert isinstance(records, reading.MessageReading)
    assert reading.why_not_batches()
    assert "reading record by record" in capsys.readouterr().out
    consumer.close()


def test_a_wrong_property_is_still_the_fault_that_it_is() -> None:
    """Only the plugin's own failure is one to go on without it."""
    with pytest.raises(KafkaException, match=r"no\.such\.property"):
        reading.make({"group.id": "any", "no.such.property": "1"}, batches=True)


def test_a_record_that_strays_into_the_consumers_queue_loses_its_partition() -> None:
    """No log has a hole that nobody sees: nothing more is given of it until it is started again."""

    class Stray:
        """A Consumer that gives a record, and batches that have the ones after it."""

        def __init__(self) -> None:
            self.messages = [Message(topic="t", partition=0, offset=5, value=b"")]

        def poll(self, _: float) -> Message | None:
            return self.messages.pop() if self.messages else None

        def read(self, _most: int, _seconds: float) -> tuple[list[tuple[TopicPartition, list[str]]], list[object]]:
            return [(("t", 0), ["6"]), (("t", 1), ["0"])], []

        def start(self, _: object) -> None:
            pass

        def hold(self) -> None:
            pass

        def release(self) -> None:
            pass

        def forward(self) -> None:
            pass

    stray = Stray()
    records = reading.BatchReading.__new__(reading.BatchReading)
    records._consumer, records._batches = stray, stray  # type: ignore[assignment]
    records._tps, records._strayed = {("t", 0), ("t", 1)}, set()
    runs, [told] = records.read(1, 0.0)
    assert [tp for tp, _ in runs] == [("t", 1)]
    assert told.tp == ("t", 0)
    assert told.error.code() == KafkaError._AUTO_OFFSET_RESET
    assert len(records.read(1, 0.0)[0]) == 1
    records.start([("t", 0), ("t", 1)], anew=True, assign=lambda: None)
    assert len(records.read(1, 0.0)[0]) == 2
