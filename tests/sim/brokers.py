"""The simulated and the real Kafka behind the same few methods, for the tests that hold one to the other."""

import time
from collections.abc import Callable
from typing import Protocol

from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

from orgstats.consumer import ports
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer
from orgstats.consumer.kafka.topics import Topics
from orgstats.errors import Unavailable
from tests.sim.group import SimGroup
from tests.sim.kafka import SimKafka, SimTopics
from tests.sim.time import SimClock
from tests.support.servers import Kafka
from tests.support.wait import wait_for

WAIT_SECONDS = 60.0


class Broker(Protocol):
    """One topic of two partitions in a Kafka, of which partition 0 is written to."""

    topic: str
    topics: ports.Topics

    def produce(self, records: int) -> None: ...
    def begin(self, records: int) -> None:
        """Send records in a transaction, which stays open."""

    def end(self, *, commit: bool) -> None:
        """End it."""

    def delete_before(self, offset: int) -> None: ...
    def make_again(self) -> None: ...
    def join(self, callbacks: Callbacks) -> ports.GroupConsumer: ...
    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that Kafka does by itself; a condition reads, as the daemon does."""


class SimBroker:
    """The simulated one."""

    def __init__(self, *, incremental: bool) -> None:
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

    def join(self, callbacks: Callbacks) -> ports.GroupConsumer:
        """A member."""
        return self._group.join(callbacks)

    def until(self, condition: Callable[[], bool]) -> None:
        """A few reads are enough."""
        assert any(condition() for _ in range(20))


class RealBroker:
    """A real one."""

    def __init__(self, kafka: Kafka, *, incremental: bool) -> None:
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

    def join(self, callbacks: Callbacks) -> ports.GroupConsumer:
        """A member."""
        return GroupConsumer(self._group, [self.topic], callbacks)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read and read, until a deadline."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that in time"
