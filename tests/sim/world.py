"""A world for the real loop: one Kafka, one ClickHouse, one clock; and the counts that one pass over the logs gives."""

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import count
from threading import Event
from typing import NoReturn

from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.loop import Loop
from orgstats.consumer.ports import Clients
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.states import PartitionState
from orgstats.errors import Unavailable
from tests.sim.clickhouse import SimClickHouse
from tests.sim.group import SimConsumer, SimGroup
from tests.sim.kafka import SimKafka, SimReader, SimTopics
from tests.sim.store import SimStore
from tests.sim.time import SimClock, SimExecutor, SkewedClock

MOST_TURNS = 2_000


class SimWorld:
    """What processes share."""

    def __init__(
        self,
        *topics: str,
        partitions: int = 2,
        incremental: bool = False,
        epochs: bool = True,
        fetches_first: bool = False,
    ) -> None:
        self.fetches_first = fetches_first
        self.clock = SimClock()
        self.kafka = SimKafka(self.clock, epochs=epochs)
        self.store = SimClickHouse(self.clock)
        self.topics = topics or ("events",)
        for topic in self.topics:
            self.kafka.create(topic, partitions)
        self.group = SimGroup(self.kafka, self.topics, incremental=incremental)
        self._produced = 0
        self.looks = count()
        """How often operators have looked at the clock: no two see the same."""

    def process(self, **settings: object) -> "SimProcess":
        """A consumer that starts."""
        return SimProcess(self, **settings)

    def produce(self, tp: TopicPartition, records: int = 10, *, apart: int = 1) -> None:
        """Append events, no two alike in a row."""
        for _ in range(records):
            self._produced += 1
            event = {
                "timestamp": self.clock.epoch_ms() // 1000 - self._produced % 30,
                "org_id": self._produced % 3 + 1,
                "project_id": 7,
                "key_id": self._produced % 2,
                "outcome": self._produced % 4 % 3,
                "quantity": self._produced % 5 + 1,
                "category": 1,
            }
            self.kafka.produce(tp, json.dumps(event).encode(), apart=apart)

    def ends(self) -> dict[TopicPartition, int]:
        """Where the logs end that hold anything."""
        return {
            (topic, n): log.end
            for topic, (_, logs) in self.kafka.topics.items()
            for n, log in enumerate(logs)
            if log.end
        }

    def expected(self, *topics: str) -> Counter[tuple[int, int, int]]:
        """Quantity by (org, bucket, outcome): one plain pass over what these logs ever held, dead letters left out."""
        counts: Counter[tuple[int, int, int]] = Counter()
        for topic in topics or self.topics:
            for log in self.kafka.topics[topic][1]:
                for record in log.records:
                    try:
                        event = json.loads(record.body or b"")
                    except ValueError:
                        continue
                    counts[event["org_id"], event["timestamp"] // 10 * 10, event["outcome"]] += event["quantity"]
        return +counts

    def counted(self) -> dict[TopicPartition, int]:
        """Next offset of each partition of the topics that there are."""
        uuids = {topic: uuid for topic, (uuid, _) in self.kafka.topics.items()}
        rows = [row for row in self.store.final("sources") if uuids.get(row.topic) == row.topic_id]
        progress = self.store.winners("progress")
        return {
            (row.topic, row.partition): one.next_offset
            for row in rows
            for one in progress.get(row.source_id, {}).values()
        }

    def all_is_counted(self) -> bool:
        """Every log is stored up to its end, and committed."""
        ends = self.ends()
        commits = {tp: self.kafka.commits[tp].next_offset for tp in ends.keys() & self.kafka.commits.keys()}
        stored = self.counted()
        return commits == ends and all(stored.get(tp) == end for tp, end in ends.items())


class Killed(BaseException):
    """The process ends here, and nothing of it goes on."""


@cache
def settings_of(text: str) -> ConsumerSettings:
    """Copies of a few that are validated, which takes half as long as a history: librdkafka is asked about each."""
    wanted = json.loads(text)
    validated = _validated(json.dumps(wanted.pop("kafka", {})), wanted.pop("instance_id", None))
    return validated.model_copy(update=wanted | {"topic": tuple(wanted["topic"])})


@cache
def _validated(kafka: str, instance_id: str | None) -> ConsumerSettings:
    known = {"bootstrap_servers": "kafka:9092", "clickhouse_url": "clickhouse://store:9000/orgstats"}
    named = {} if instance_id is None else {"instance_id": instance_id}
    return ConsumerSettings.model_validate({**known, "topic": ("events",), "kafka": json.loads(kafka), **named})


class SimProcess:
    """One consumer: the real loop, and what it alone has."""

    def __init__(self, world: SimWorld, **settings: object) -> None:
        self.world = world
        self.stopping = Event()
        self.clock = SkewedClock(world.clock)
        self.executor = SimExecutor(world.clock)
        self.members: list[SimConsumer] = []
        self.dead = False
        self.busy = False
        """Whether its loop is on the stack, stopped while others go on."""
        self.fuse: tuple[int, Callable[[], None]] | None = None
        """What happens at which of its next effects."""
        self.settings = settings_of(json.dumps({"topic": world.topics, **settings}))
        clients = Clients(
            self._join,
            SimTopics(world.kafka, self.effect),
            SimStore(world.store, self.effect),
            SimStore(world.store, self.effect),
            lambda: SimReader(world.kafka, self.settings.isolation, self.effect),
            self.clock,
            self.executor,
        )
        self.loop = Loop(self.settings, clients, self.stopping)

    def _join(self, events: object) -> SimConsumer:
        member = self.world.group.join(events, self.settings.instance_id, self.effect)  # type: ignore[arg-type]
        member.isolation = self.settings.isolation
        member.fetches_first = self.world.fetches_first
        self.members.append(member)
        return member

    def effect(self) -> None:
        """Something outside changes, is asked, or was just changed: here it may end, or stand still."""
        if self.fuse is not None:
            left, happens = self.fuse
            self.fuse = (left - 1, happens) if left else None
            if not left:
                happens()
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """SIGKILL: the group hears no more of it."""
        self.dead = True
        if self.members and self.member.silent_since is None:
            self.member.silent_since = self.world.clock.monotonic()

    @property
    def member(self) -> SimConsumer:
        """Its membership of now."""
        return self.members[-1]

    def state(self, tp: TopicPartition) -> PartitionState:
        """What a partition is to it."""
        return self.loop._partitions.state(tp)

    def next_offset(self, tp: TopicPartition) -> int | None:
        """What it reads next of a partition that it counts."""
        return self.loop._partitions.next_offsets().get(tp)

    def cut_off(self) -> None:
        """From now on it learns nothing of the group, and is told no chunk lengths."""

        def unanswered(_ids: object) -> NoReturn:
            raise Unavailable("ClickHouse does not answer")

        self.member._learn = lambda: None  # type: ignore[method-assign]
        self.loop._clients.store.grids = unanswered  # type: ignore[assignment,method-assign]

    def turn(self, turns: int = 1) -> None:
        """So many turns of the loop."""
        for _ in range(turns):
            self.loop.turn()

    def until(self, condition: Callable[[], bool]) -> None:
        """Turns until something is so, which must not take for ever."""
        for _ in range(MOST_TURNS):
            if condition():
                return
            self.loop.turn()
        raise AssertionError(f"not within {MOST_TURNS} turns")

    def run(self, seconds: float) -> None:
        """The whole of `Loop.run`, with a SIGTERM after so many seconds."""
        self.world.clock.at(seconds, self.stopping.set)
        self.loop.run()

    def stop(self) -> None:
        """SIGTERM: flush, commit, leave."""
        self.stopping.set()
        self.loop.run()
