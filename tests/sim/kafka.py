"""A Kafka of a few lines: topics with their logs (log.py), what is asked of them, and what groups have committed.

The group itself is in group.py. Where the real client leaves something open, this one is strict.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self, cast

from confluent_kafka import Message

from orgstats.consumer.kafka.group import Committed, TopicPartition
from orgstats.consumer.kafka.topics import ToldEnds
from orgstats.errors import OrgstatsError, Refused, Unavailable
from tests.sim.log import SimLog
from tests.sim.time import SimClock


def no_effect() -> None:
    """Nothing happens at this place."""


class SimKafka:
    """Topics with their logs, and what groups have committed; `away` is what every request raises instead.

    Nobody answers where `leaderless` partitions begin and end. The next `lost_commits` get lost on their way.
    """

    def __init__(self, clock: SimClock, *, epochs: bool = True) -> None:
        self.clock = clock
        self.epochs = epochs
        self.topics: dict[str, tuple[str, list[SimLog]]] = {}
        self.former: list[tuple[str, str, list[SimLog]]] = []
        """(topic, UUID, logs) of topics that were deleted."""
        self.commits: dict[TopicPartition, Committed] = {}
        self.away: OrgstatsError | None = None
        self.leaderless: set[TopicPartition] = set()
        self.lost_commits = 0
        self.policy = "delete"
        self.topic_settings: dict[str, str] = {}
        """Of every topic the same, beside the policy."""
        self.undelivered = ""
        """What becomes of the last record of the next batch that a producer sends: it is refused, or nobody answers."""
        self.producers: dict[str, int] = {}
        """The transaction of each transactional id's newest producer."""
        self.transactions = 1_000_001
        self._made = 0

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, or make it again, with a UUID of its own."""
        self._made += 1
        self.topics[topic] = f"uuid-{self._made}", [self._new_log() for _ in range(partitions)]

    def _new_log(self) -> SimLog:
        return SimLog(epoch=0 if self.epochs else None)

    def add_partition(self, topic: str) -> None:
        """One more."""
        self.topics[topic][1].append(self._new_log())

    def delete(self, topic: str) -> None:
        """A topic goes, and what was committed of it."""
        self.former.append((topic, *self.topics.pop(topic)))
        self.commits = {tp: commit for tp, commit in self.commits.items() if tp[0] != topic}

    def log(self, tp: TopicPartition) -> SimLog:
        """The log of a partition."""
        return self.topics[tp[0]][1][tp[1]]

    def tps(self) -> list[TopicPartition]:
        """Every partition there is."""
        return [(topic, n) for topic, (_, logs) in self.topics.items() for n in range(len(logs))]

    def produce(self, tp: TopicPartition, *bodies: bytes | None, apart: int = 1) -> None:
        """Append records, so many offsets from one to the next."""
        now = self.clock.epoch_ms()
        for body in bodies:
            self.log(tp).append(body, now, now, apart)

    def retain(self, tp: TopicPartition, low: int) -> None:
        """Retention deletes what is below an offset."""
        self.log(tp).low = low

    def cut_back(self, tp: TopicPartition, end: int) -> None:
        """An unclean election: the new leader never had what is from `end` on."""
        self.log(tp).cut(end)
        self.log(tp).cut_at_ms = self.clock.epoch_ms()

    def answer(self) -> None:
        """Every request comes by here."""
        if self.away is not None:
            raise self.away


class SimTopics:
    """As `kafka.group.Topics`."""

    def __init__(self, kafka: SimKafka, effect: Callable[[], None] = no_effect) -> None:
        self._kafka = kafka
        self._effect = effect

    def _answer(self) -> None:
        self._effect()
        self._kafka.answer()

    def describe(self, topics: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(UUID, partitions) by topic, of those that exist."""
        self._answer()
        known = self._kafka.topics
        return {name: (known[name][0], len(known[name][1])) for name in topics if name in known}

    def partitions(self, topic: str) -> int:
        """How many there are."""
        self._answer()
        return len(self._kafka.topics[topic][1]) if topic in self._kafka.topics else 0

    def cleanup_policy(self, _topic: str) -> str:
        """Of every topic the same."""
        return self._kafka.policy

    def starts(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where logs begin."""
        self._answer()
        return {tp: self._log(tp).low for tp in tps}

    def ends(self, tps: Iterable[TopicPartition], isolation: str) -> dict[TopicPartition, int]:
        """Where logs end for who reads like this."""
        self._answer()
        return {tp: self._log(tp).visible_end(isolation) for tp in tps}

    def told_ends(self, tps: Iterable[TopicPartition], isolation: str) -> ToldEnds:
        """Where logs end, of those that have a leader."""
        self._answer()
        told = ToldEnds({}, {})
        for tp in tps:
            try:
                told.ends[tp] = self._log(tp).visible_end(isolation)
            except Unavailable as error:
                told.silent[tp] = error
        return told

    def _log(self, tp: TopicPartition) -> SimLog:
        if tp[0] not in self._kafka.topics:
            raise Unavailable("Kafka: UNKNOWN_TOPIC_OR_PART")
        if tp in self._kafka.leaderless:
            raise Unavailable("Kafka: LEADER_NOT_AVAILABLE")
        return self._kafka.log(tp)


class SimReader:
    """As `kafka.reader.LogReader`; a context manager."""

    def __init__(
        self, kafka: SimKafka, isolation: str = "read_committed", effect: Callable[[], None] = no_effect
    ) -> None:
        self._kafka = kafka
        self._isolation = isolation
        self._effect = effect

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self, tp: TopicPartition, first: int, end: int) -> Iterator[tuple[Sequence[Message], int]]:
        """Records of [first, end), in one run."""
        self._effect()
        self._kafka.answer()
        log = self._kafka.log(tp)
        if log.visible_end(self._isolation) < end or log.low > first:
            raise Refused("the log does not have all of this")
        yield cast("Sequence[Message]", log.within(first, end, self._isolation)), end
