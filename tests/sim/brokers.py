"""The simulated and the real Kafka behind the same few methods, for the tests that hold one to the other."""

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

from orgstats.consumer import ports
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer, TopicPartition
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.kafka.reading import COMPILED
from orgstats.consumer.kafka.topics import Topics
from orgstats.deploy.local import apache_kafka
from orgstats.errors import Unavailable
from tests.sim.group import POLL_SECONDS, SimGroup
from tests.sim.kafka import SimKafka, SimReader, SimTopics
from tests.sim.time import SimClock
from tests.support.servers import Kafka
from tests.support.wait import wait_for

WAIT_SECONDS = 120.0
SILENT_SECONDS = 6


class Broker(Protocol):
    """One topic of two partitions in a Kafka, of which partition 0 is written to."""

    topic: str
    topics: ports.Topics
    incremental: bool

    def produce(self, records: int) -> None: ...
    def begin(self, records: int) -> None:
        """Send records in a transaction, which stays open."""

    def end(self, *, commit: bool) -> None:
        """End it."""

    def delete_before(self, offset: int) -> None: ...
    def make_again(self) -> None: ...
    def join(self, callbacks: Callbacks, name: str | None = None) -> ports.GroupConsumer:
        """A member, static with a name."""

    def range(self, first: int, end: int) -> list[int]:
        """Offsets of the records of [first, end), as replays read them; raises Refused."""

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that Kafka does by itself; a condition reads, as the daemon does."""


@dataclass
class Member:
    """A member of the group, and what it was told."""

    broker: Broker
    name: str | None = None
    owned: set[TopicPartition] = field(default_factory=set)
    told: list[tuple[str, list[TopicPartition]]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    epochs: dict[int, int | None] = field(default_factory=dict)
    """Leader epoch by offset."""
    ends: list[int] = field(default_factory=list)
    lost: list[TopicPartition] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.consumer: ports.GroupConsumer = self.broker.join(
            Callbacks(self._assigned, self._revoked, self._were_lost, lambda _error: None), self.name
        )

    def _assigned(self, tps: list[TopicPartition]) -> None:
        self.told.append(("assigned", sorted(tps)))
        self.owned |= {*tps}

    def _revoked(self, tps: list[TopicPartition]) -> None:
        self.told.append(("revoked", sorted(tps)))
        self.owned -= {*tps}

    def _were_lost(self, tps: list[TopicPartition]) -> None:
        self.told.append(("lost", sorted(tps)))
        self.owned -= {*tps}

    def read(self) -> None:
        """Once."""
        batch = self.consumer.read(100, 0.2)
        for record in (record for _, run in batch.runs for record in run):
            self.offsets.append(record.offset())
            self.epochs[record.offset()] = record.leader_epoch()
        self.ends += [end for _, end in batch.ends]
        self.lost += batch.lost_position

    def owns(self, partitions: int) -> bool:
        """Read once; whether it owns so many."""
        self.read()
        return len(self.owned) == partitions

    def start(self, offset: int, epochs: Mapping[TopicPartition, int] | None = None) -> None:
        """Read partition 0 from an offset on."""
        self.broker.until(lambda: self.owns(2))
        self.consumer.start({(self.broker.topic, 0): offset}, epochs)

    def reads(self, *, end: int) -> bool:
        """Read once; whether it was told that the log ends there."""
        self.read()
        return end in self.ends

    def has_lost(self) -> bool:
        """Read once; whether a position was ever lost."""
        self.read()
        return bool(self.lost)


class SimBroker:
    """The simulated one."""

    def __init__(self, *, incremental: bool) -> None:
        self.incremental = incremental
        self._kafka = SimKafka(SimClock())
        self.topic = "events"
        self._kafka.create(self.topic, 2)
        self._group = SimGroup(self._kafka, [self.topic], incremental=incremental)
        self.topics: ports.Topics = SimTopics(self._kafka)

    @property
    def _log(self):  # type: ignore[no-untyped-def]
        return self._kafka.log((self.topic, 0))

    def produce(self, records: int) -> None:
        """Append."""
        self._kafka.produce((self.topic, 0), *[b"{}"] * records)

    def begin(self, records: int) -> None:
        """Append within a transaction."""
        first = self._log.end
        self.produce(records)
        self._log.open[1] = list(range(first, self._log.end))

    def end(self, *, commit: bool) -> None:
        """A control record."""
        self._log.finish(1, commit=commit)

    def delete_before(self, offset: int) -> None:
        """Retention."""
        self._kafka.retain((self.topic, 0), offset)

    def make_again(self) -> None:
        """Delete and create."""
        self._kafka.delete(self.topic)
        self._kafka.create(self.topic, 2)

    def join(self, callbacks: Callbacks, name: str | None = None) -> ports.GroupConsumer:
        """A member."""
        return self._group.join(callbacks, name)

    def range(self, first: int, end: int) -> list[int]:
        """As a replay."""
        with SimReader(self._kafka) as reader:
            return _offsets(reader, (self.topic, 0), first, end)

    def cut_back(self, end: int) -> None:
        """And another leader."""
        self._kafka.cut_back((self.topic, 0), end)

    def elect(self) -> None:
        """An epoch of its own."""
        self._log.elect()

    def expect_reads(self) -> None:
        """As it does."""

    def outlast(self) -> None:
        """As long as one may not read."""
        self._kafka.clock.sleep(POLL_SECONDS + 1)

    def until(self, condition: Callable[[], bool]) -> None:
        """A few reads are enough."""
        assert any(condition() for _ in range(20))


class RealBroker:
    """A real one."""

    def __init__(self, kafka: Kafka, *, incremental: bool) -> None:
        self.incremental = incremental
        self._kafka = kafka
        self.topic = kafka.create_topic(2)
        self._properties: dict[str, str | int | float | bool] = {
            "bootstrap.servers": kafka.bootstrap_servers,
            "log_level": 0,
        }
        self._group = {**self._properties, "group.id": self.topic}
        if incremental:
            self._group["group.protocol"] = "consumer"
        self._admin = AdminClient(self._properties)
        self._sender: Producer | None = None
        self.topics: ports.Topics = Topics(self._group)

    def produce(self, records: int) -> None:
        """Send and wait for it."""
        producer = Producer(self._properties)
        self._send(producer, records)

    def _send(self, producer: Producer, records: int) -> None:
        for _ in range(records):
            producer.produce(self.topic, b"{}", partition=0)
        assert producer.flush(WAIT_SECONDS) == 0

    def begin(self, records: int) -> None:
        """A producer that has not committed yet."""
        self._sender = Producer({**self._properties, "transactional.id": self.topic})
        self._sender.init_transactions(WAIT_SECONDS)
        self._sender.begin_transaction()
        self._send(self._sender, records)

    def end(self, *, commit: bool) -> None:
        """Commit or abort."""
        assert self._sender is not None
        if commit:
            self._sender.commit_transaction(WAIT_SECONDS)
        else:
            self._sender.abort_transaction(WAIT_SECONDS)

    def delete_before(self, offset: int) -> None:
        """As retention does."""
        asked = self._admin.delete_records([KafkaTopicPartition(self.topic, 0, offset)])
        for answer in asked.values():
            answer.result(WAIT_SECONDS)

    def make_again(self) -> None:
        """Delete and create; Kafka deletes in its own time."""
        self._admin.delete_topics([self.topic])[self.topic].result(WAIT_SECONDS)
        wait_for(lambda: self.topic not in self._admin.list_topics(timeout=10).topics, WAIT_SECONDS)
        self._admin.create_topics([NewTopic(self.topic, 2, 1)])[self.topic].result(WAIT_SECONDS)
        wait_for(lambda: self.topics.partitions(self.topic) == 2 and self._has_leader(), WAIT_SECONDS)

    def _has_leader(self) -> bool:
        try:
            return bool(self.topics.ends([(self.topic, 0)], "read_uncommitted"))
        except Unavailable:
            return False

    def join(self, callbacks: Callbacks, name: str | None = None) -> ports.GroupConsumer:
        """A member, which reads as the daemon does."""
        static = {"group.instance.id": name} if name else {}
        return GroupConsumer({**self._group, **static}, [self.topic], callbacks, batches=COMPILED)

    def range(self, first: int, end: int) -> list[int]:
        """As a replay."""
        with LogReader(self._properties, "read_committed") as reader:
            return _offsets(reader, (self.topic, 0), first, end)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read and read, until a deadline."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that in time"


class OwnBroker(RealBroker):
    """One that can be stopped."""

    def __init__(self, broker: apache_kafka.Running, *, incremental: bool) -> None:
        super().__init__(Kafka("apache", broker.bootstrap_servers), incremental=incremental)
        self._broker = broker
        self._data = broker._directory / "data" / f"{self.topic}-0"

    def cut_back(self, end: int) -> None:
        """Behind a batch, as a broker does whose disk has lost what was written last."""
        self._broker.stop()
        for file in [*self._data.glob("*index"), *self._data.glob("*.snapshot")]:
            file.unlink()
        with (self._data / f"{0:020}.log").open("r+b") as log:
            at = 0
            while True:
                first, length = struct.unpack(">qi", log.read(12))
                if first == end:
                    break
                assert first < end
                at = log.seek(at + 12 + length)
            log.truncate(at)
        self._broker.restart()

    def elect(self) -> None:
        """A broker that comes back leads in another epoch."""
        self._broker.restart()

    def expect_reads(self) -> None:
        """From those who join from now on."""
        self._group["max.poll.interval.ms"] = SILENT_SECONDS * 1000
        if not self.incremental:
            self._group["session.timeout.ms"] = SILENT_SECONDS * 1000

    def outlast(self) -> None:
        """The wait for what comes of it takes as long as it takes."""


def _offsets(reader: ports.LogReader, tp: TopicPartition, first: int, end: int) -> list[int]:
    found, at = list[int](), first
    for run, position in reader.read(tp, first, end):
        found += [offset for record in run if (offset := record.offset()) is not None]
        at = position
    assert at >= end
    return found
