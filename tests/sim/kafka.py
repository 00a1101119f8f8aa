"""A Kafka of a few lines: logs with leader epochs and retention, topics that go and come again, a group.

One member after the other learns within `read` what the group has decided, as from librdkafka. Where the real client
leaves something open, this one is strict: while it tells of a rebalance, nobody may change what is read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, cast

from confluent_kafka import Message

from orgstats.consumer.counting.batch import Record
from orgstats.consumer.kafka.group import Callbacks, Committed, ReadBatch, TopicPartition
from orgstats.errors import OrgstatsError, Refused, Unavailable
from tests.sim.time import SimClock
from tests.support.record import FakeRecord


@dataclass(slots=True)
class SimLog:
    """One partition."""

    records: list[FakeRecord] = field(default_factory=list)
    low: int = 0
    end: int = 0
    epoch: int = 0

    def within(self, first: int, end: int) -> list[FakeRecord]:
        """Records at [first, end)."""
        return [record for record in self.records if max(first, self.low) <= record.at < end]

    def epoch_end(self, epoch: int) -> int:
        """Where records of an epoch, and those before it, end."""
        return max((record.at + 1 for record in self.records if (record.epoch or 0) <= epoch), default=self.low)


class SimKafka:
    """Topics with their logs, and what groups have committed; `away` is what every request raises instead.

    Nobody answers where `leaderless` partitions begin and end.
    """

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.topics: dict[str, tuple[str, list[SimLog]]] = {}
        self.commits: dict[TopicPartition, Committed] = {}
        self.away: OrgstatsError | None = None
        self.leaderless: set[TopicPartition] = set()
        self._made = 0

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, or make it again, with a UUID of its own."""
        self._made += 1
        self.topics[topic] = f"uuid-{self._made}", [SimLog() for _ in range(partitions)]

    def delete(self, topic: str) -> None:
        """A topic goes, and what was committed of it."""
        del self.topics[topic]
        self.commits = {tp: commit for tp, commit in self.commits.items() if tp[0] != topic}

    def log(self, tp: TopicPartition) -> SimLog:
        """The log of a partition."""
        return self.topics[tp[0]][1][tp[1]]

    def produce(self, tp: TopicPartition, *bodies: bytes, apart: int = 1) -> None:
        """Append records, so many offsets from one to the next."""
        log = self.log(tp)
        for body in bodies:
            log.records.append(FakeRecord(log.end + apart - 1, body, self.clock.epoch_ms(), log.epoch))
            log.end += apart

    def retain(self, tp: TopicPartition, low: int) -> None:
        """Retention deletes what is below an offset."""
        self.log(tp).low = low

    def cut_back(self, tp: TopicPartition, end: int) -> None:
        """An unclean election: the new leader never had what is from `end` on."""
        log = self.log(tp)
        log.records = log.within(0, end)
        log.end, log.epoch = end, log.epoch + 1

    def answer(self) -> None:
        """Every request comes by here."""
        if self.away is not None:
            raise self.away


class SimTopics:
    """As `kafka.group.Topics`."""

    def __init__(self, kafka: SimKafka) -> None:
        self._kafka = kafka

    def describe(self, topics: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(UUID, partitions) by topic, of those that exist."""
        self._kafka.answer()
        known = self._kafka.topics
        return {name: (known[name][0], len(known[name][1])) for name in topics if name in known}

    def partitions(self, topic: str) -> int:
        """How many there are."""
        self._kafka.answer()
        return len(self._kafka.topics[topic][1]) if topic in self._kafka.topics else 0

    def cleanup_policy(self, _topic: str) -> str:
        """Always the same."""
        return "delete"

    def starts(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where logs begin."""
        return {tp: self._log(tp).low for tp in tps}

    def ends(self, tps: Iterable[TopicPartition], _isolation: str) -> dict[TopicPartition, int]:
        """Where logs end."""
        return {tp: self._log(tp).end for tp in tps}

    def _log(self, tp: TopicPartition) -> SimLog:
        self._kafka.answer()
        if tp[0] not in self._kafka.topics:
            raise Unavailable("Kafka: UNKNOWN_TOPIC_OR_PART")
        if tp in self._kafka.leaderless:
            raise Unavailable("Kafka: LEADER_NOT_AVAILABLE")
        return self._kafka.log(tp)


class SimReader:
    """As `kafka.reader.LogReader`; a context manager."""

    def __init__(self, kafka: SimKafka) -> None:
        self._kafka = kafka

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self, tp: TopicPartition, first: int, end: int) -> Iterator[tuple[Sequence[Message], int]]:
        """Records of [first, end), in one run."""
        self._kafka.answer()
        log = self._kafka.log(tp)
        if log.end < end or log.low > first:
            raise Refused("the log does not have all of this")
        yield cast("Sequence[Message]", log.within(first, end)), end


class SimGroup:
    """The coordinator: who owns which partition, and what each member has not been told yet.

    Eager: before anything moves everybody gives up all. Incremental (KIP-848): only what moves is given up.
    """

    def __init__(self, kafka: SimKafka, topics: Sequence[str], *, incremental: bool = False) -> None:
        self.kafka = kafka
        self.topics = topics
        self.incremental = incremental
        self.members: list[SimConsumer] = []
        self.owners: dict[TopicPartition, SimConsumer] = {}
        self.generation = 0
        self.on_join: Callable[[], None] = lambda: None

    def join(self, events: Callbacks) -> "SimConsumer":
        """A new member."""
        self.on_join()
        member = SimConsumer(self, events)
        self.members.append(member)
        self.rebalance()
        return member

    def rebalance(self) -> None:
        """Deal all partitions there are anew; members are told when they read."""
        self.generation += 1

    def target(self, member: "SimConsumer") -> list[TopicPartition]:
        """What a member is to own: every so-manyth partition."""
        known = self.kafka.topics
        every = [(name, n) for name in self.topics if name in known for n in range(len(known[name][1]))]
        return every[self.members.index(member) :: len(self.members)]

    def expel(self, member: "SimConsumer") -> None:
        """Its session has timed out, which it learns when it next reads."""
        self.members.remove(member)
        self.owners = {tp: owner for tp, owner in self.owners.items() if owner is not member}
        self.rebalance()


class SimConsumer:
    """As `kafka.group.GroupConsumer`."""

    def __init__(self, group: SimGroup, events: Callbacks) -> None:
        self._group = group
        self._kafka = group.kafka
        self._events = events
        self._generation = 0
        self.owned: list[TopicPartition] = []
        self.positions: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = {}
        self._at_end: set[TopicPartition] = set()
        self.fenced: OrgstatsError | None = None
        """What `read` raises once the broker has fenced this member."""
        self.commit_fails: OrgstatsError | None = None
        self.closed = False
        self._telling = False

    def read(self, most: int, seconds: float) -> ReadBatch:
        """News of the group first; then records of every partition in turn."""
        self._learn()
        if self.fenced is not None:
            raise self.fenced
        batch = ReadBatch([], [], [], [])
        for tp in [tp for tp in self.positions if tp[0] in self._kafka.topics]:
            self._fetch(tp, most, batch)
        self._kafka.clock.sleep(0.001 if batch.runs else seconds)
        return batch

    def _fetch(self, tp: TopicPartition, most: int, batch: ReadBatch) -> None:
        log, at = self._kafka.log(tp), self.positions[tp]
        epoch = self._epochs.pop(tp, None)
        if not log.low <= at <= log.end or (epoch is not None and log.epoch_end(epoch) < at):
            batch.lost_position.append(tp)
            del self.positions[tp]
            return
        run = log.within(at, log.end)[:most]
        if run:
            batch.runs.append((tp, cast("Sequence[Record]", run)))
            self.positions[tp] = run[-1].at + 1
            self._at_end.discard(tp)
        elif tp not in self._at_end or at < log.end:
            self.positions[tp] = log.end
            self._at_end.add(tp)
            batch.ends.append((tp, log.end))

    def _learn(self) -> None:
        if self not in self._group.members:
            lost, self.owned = self.owned, []
            self._tell(self._events.on_lost, lost)
            self.start({})
            self._group.members.append(self)
            self._group.rebalance()
        if self._generation == self._group.generation:
            return
        target = self._group.target(self)
        keep = [tp for tp in self.owned if tp in target] if self._group.incremental else []
        self._give_up([tp for tp in self.owned if tp not in keep])
        new = [tp for tp in target if tp not in keep]
        if not any(tp in self._group.owners for tp in new):  # else another one has to give up something first
            self._generation = self._group.generation
            self._group.owners |= dict.fromkeys(new, self)
            self.owned = [*keep, *new]
            if not self._group.incremental:
                self.start({})
            self._tell(self._events.on_assign, new)

    def _tell(self, call: Callable[[list[TopicPartition]], None], tps: list[TopicPartition]) -> None:
        self._telling = True
        call(tps)
        self._telling = False

    def _give_up(self, tps: list[TopicPartition]) -> None:
        if not tps:
            return
        self._tell(self._events.on_revoke, tps)
        self.owned = [tp for tp in self.owned if tp not in tps]
        for tp in tps:
            self._group.owners.pop(tp, None)
            self.positions.pop(tp, None)

    def start(self, offsets: Mapping[TopicPartition, int], epochs: Mapping[TopicPartition, int] | None = None) -> None:
        """Read these and no others; what an incremental member reads already goes on where it is."""
        assert not self.closed
        assert not self._telling, "the group is answered first"
        known = self.positions if self._group.incremental else {}
        self.positions = {tp: known.get(tp, offset) for tp, offset in offsets.items()}
        self._epochs = dict(epochs or {})
        self._at_end &= known.keys() & offsets.keys()

    def commit(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], *, wait: bool
    ) -> None:
        """Only an owner's commit is taken; without waiting nobody hears of a failure."""
        failed = self.commit_fails or self._kafka.away
        if failed is None and self not in self._group.members:
            failed = Unavailable("Kafka: UNKNOWN_MEMBER_ID")
        if failed is None:
            self._kafka.commits |= {tp: Committed(offset, metadata[tp]) for tp, offset in offsets.items()}
        elif wait:
            raise failed

    def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        """What the group has committed."""
        self._kafka.answer()
        return {tp: self._kafka.commits[tp] for tp in tps if tp in self._kafka.commits}

    def close(self) -> None:
        """Leave the group; who was fenced is told nothing any more."""
        owned, self.owned = self.owned, []
        if owned and not self.fenced:
            self._tell(self._events.on_revoke, owned)
        self.closed = True
        if self in self._group.members:
            self._group.expel(self)
