"""A world for the real loop: one Kafka, one ClickHouse, one clock; and the counts that one pass over the logs gives."""

import json
from collections import Counter
from collections.abc import Callable
from threading import Event

from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.loop import Loop
from orgstats.consumer.ports import Clients
from orgstats.consumer.settings import ConsumerSettings
from tests.sim.kafka import SimConsumer, SimGroup, SimKafka, SimReader, SimTopics
from tests.sim.store import SimClickHouse, SimStore
from tests.sim.time import SimClock, SimExecutor

MOST_TURNS = 2_000


class SimWorld:
    """What processes share."""

    def __init__(self, *topics: str, partitions: int = 2, incremental: bool = False) -> None:
        self.clock = SimClock()
        self.kafka = SimKafka(self.clock)
        self.store = SimClickHouse(self.clock)
        self.topics = topics or ("events",)
        for topic in self.topics:
            self.kafka.create(topic, partitions)
        self.group = SimGroup(self.kafka, self.topics, incremental=incremental)
        self._produced = 0

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

    def all_is_counted(self) -> bool:
        """Every log is stored up to its end, and committed."""
        ends = self.ends()
        commits = {tp: self.kafka.commits[tp].next_offset for tp in ends.keys() & self.kafka.commits.keys()}
        stored = self.store.progress()
        return commits == ends and all(stored.get(tp) == end for tp, end in ends.items())


class SimProcess:
    """One consumer: the real loop, and what it alone has."""

    def __init__(self, world: SimWorld, **settings: object) -> None:
        self.world = world
        self.stopping = Event()
        self.executor = SimExecutor(world.clock)
        self.members: list[SimConsumer] = []
        known = {"bootstrap_servers": "kafka:9092", "clickhouse_url": "clickhouse://store:9000/orgstats"}
        clients = Clients(
            self._join,
            SimTopics(world.kafka),
            SimStore(world.store),
            SimStore(world.store),
            lambda: SimReader(world.kafka),
            world.clock,
            self.executor,
        )
        self.loop = Loop(
            ConsumerSettings.model_validate({**known, "topic": world.topics, **settings}), clients, self.stopping
        )

    def _join(self, events: object) -> SimConsumer:
        self.members.append(self.world.group.join(events))  # type: ignore[arg-type]
        return self.member

    @property
    def member(self) -> SimConsumer:
        """Its membership of now."""
        return self.members[-1]

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
