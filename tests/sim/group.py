"""The group: its coordinator with sessions, and members as the loop is given them.

One member after the other learns within `read` what the group has decided, as from librdkafka. While it is told of a
rebalance, nobody may change what is read.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

from confluent_kafka import KafkaError

from orgstats.consumer.counting.batch import Record
from orgstats.consumer.kafka.errors import Fenced, Unreleased
from orgstats.consumer.kafka.group import Callbacks, Committed, ReadBatch, TopicPartition
from orgstats.errors import OrgstatsError, Unavailable
from tests.sim.kafka import SimKafka, no_effect

SESSION_SECONDS: Final = 30.0
"""Of a process that is killed or stopped, after which its member is expelled."""
POLL_SECONDS: Final = 300.0
"""Between two reads of a process that runs, as max.poll.interval.ms."""


class SimGroup:
    """Who owns which partition, and what each member has not been told yet.

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

    def join(self, events: Callbacks, name: str | None = None, effect: Callable[[], None] = no_effect) -> "SimConsumer":
        """A new member; one with the name of another takes its place, or has to wait for it (KIP-848)."""
        self.on_join()
        member = SimConsumer(self, events, name, effect)
        before = next((one for one in self.members if name is not None and one.name == name), None)
        if before is None:
            self.members.append(member)
            self.rebalance()
        elif self.incremental and not before.closed:
            member.fenced = Unreleased("Kafka: UNRELEASED_INSTANCE_ID")
        else:
            self.members[self.members.index(before)] = member
            self._free(before)
            before.fenced = Fenced("Kafka: another process uses the same group.instance.id")
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
        member.called_before(self.generation)
        self.members.remove(member)
        self._free(member)
        self.rebalance()

    def _free(self, member: "SimConsumer") -> None:
        self.owners = {tp: owner for tp, owner in self.owners.items() if owner is not member}

    def expire(self) -> None:
        """Expel whom nobody has heard of for too long."""
        now = self.kafka.clock.monotonic()
        for member in [*self.members]:
            silent = member.silent_since is not None and now > member.silent_since + SESSION_SECONDS
            if silent or (not member.closed and now > member.polled_at + POLL_SECONDS):
                self.expel(member)


class SimConsumer:
    """As `kafka.group.GroupConsumer`."""

    def __init__(
        self, group: SimGroup, events: Callbacks, name: str | None = None, effect: Callable[[], None] = no_effect
    ) -> None:
        self._group = group
        self._kafka = group.kafka
        self._events = events
        self._effect = effect
        self._generation = 0
        self.name = name
        self.owned: list[TopicPartition] = []
        self.positions: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, int] = {}
        """Leader epoch of the record before the position."""
        self._checked: dict[TopicPartition, int | None] = {}
        """The leader's epoch in which the position was last checked."""
        self._newest: dict[TopicPartition, int] = {}
        """The highest leader epoch that was seen of each, be it of a topic of that name which is gone."""
        self._at_end: set[TopicPartition] = set()
        self.fenced: OrgstatsError | None = None
        """What `read` raises once the broker has fenced this member."""
        self.commit_fails: OrgstatsError | None = None
        self.closed = False
        self._closing = False
        self.isolation = "read_committed"
        self.fetches_first = False
        """Whether records are fetched before news of the group is heard, which comes within the same read."""
        self.repeats = 0
        """How many records of the next fetch were delivered before."""
        self.silent_since: float | None = None
        """When its process was last heard of; None while it runs."""
        self.polled_at = group.kafka.clock.monotonic()
        self._telling = False
        self._called = False

    def called_before(self, generation: int) -> None:
        """It is expelled: with the eager protocol it is told of a rebalance that had begun before, as if in time."""
        self._called = self._generation != generation

    def read(self, most: int, seconds: float) -> ReadBatch:
        """News of the group and records of every partition in turn."""
        self._group.expire()
        self.polled_at = self._kafka.clock.monotonic()
        batch = ReadBatch([], [], [], [])
        if self.fetches_first and self.fenced is None:
            self._fetch_all(most, batch)
        if not (self.fenced and self not in self._group.members):
            self._learn()
        if self.fenced is not None:
            raise self.fenced
        if not self.fetches_first:
            self._fetch_all(most, batch)
        self._kafka.clock.sleep(0.001 if batch.runs else seconds)
        return batch

    def _fetch_all(self, most: int, batch: ReadBatch) -> None:
        if self._kafka.away is not None:
            batch.troubles.append(KafkaError(KafkaError._ALL_BROKERS_DOWN))
            return
        for tp in [tp for tp in self.positions if tp[0] in self._kafka.topics and tp not in self._kafka.leaderless]:
            self._fetch(tp, most, batch)

    def _fetch(self, tp: TopicPartition, most: int, batch: ReadBatch) -> None:
        log, at = self._kafka.log(tp), self.positions[tp]
        if log.epoch is not None:
            if log.epoch < self._newest.get(tp, 0):
                return  # librdkafka takes it for old news (its issue 4898), and does not read a topic made again
            self._newest[tp] = log.epoch
        if not log.low <= at <= log.end or self._was_cut_off(tp, at):
            batch.lost_position.append(tp)
            del self.positions[tp]
            return
        if self.repeats and log.low <= at - self.repeats:
            at, self.repeats = at - self.repeats, 0
        end = log.visible_end(self.isolation)
        run = log.within(at, end, self.isolation)[:most]
        if run:
            batch.runs.append((tp, cast("Sequence[Record]", run)))
            self.positions[tp] = max(self.positions[tp], run[-1].at + 1)
            if run[-1].epoch is not None:
                self._epochs[tp] = run[-1].epoch
            self._at_end.discard(tp)
        elif tp not in self._at_end or at < end:
            self.positions[tp] = max(at, end)
            self._at_end.add(tp)
            batch.ends.append((tp, max(at, end)))

    def _was_cut_off(self, tp: TopicPartition, at: int) -> bool:
        """Asked of each new leader: whether the epoch of what was read last ends before the position."""
        log = self._kafka.log(tp)
        if log.epoch is None or self._checked.get(tp, -1) == log.epoch:
            return False
        self._checked[tp] = log.epoch
        return tp in self._epochs and log.epoch_end(self._epochs[tp]) < at

    def _learn(self) -> None:
        if self not in self._group.members:
            lost, self.owned = self.owned, []
            late = self._called and not self._group.incremental
            self._tell(self._events.on_revoke if late else self._events.on_lost, lost)
            self._called = False
            self.start({})
            self.positions.clear()
            self._group.members.append(self)
            self._group.rebalance()
        if self._generation == self._group.generation:
            return
        while True:  # while it gives up some, others may come or go, so that it has to give up more
            target = self._group.target(self)
            keep = [tp for tp in self.owned if tp in target] if self._group.incremental else []
            if keep == self.owned:
                break
            self._give_up([tp for tp in self.owned if tp not in keep])
            if self not in self._group.members:
                return  # it took so long that its session was over
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
        try:
            call(tps)
        finally:
            self._telling = False

    def _give_up(self, tps: list[TopicPartition]) -> None:
        if not tps:
            return
        self._tell(self._events.on_revoke, tps)
        self.owned = [tp for tp in self.owned if tp not in tps]
        for tp in tps:
            if self._group.owners.get(tp) is self:
                del self._group.owners[tp]
            self.positions.pop(tp, None)

    def start(self, offsets: Mapping[TopicPartition, int], epochs: Mapping[TopicPartition, int] | None = None) -> None:
        """Read these and no others; what an incremental member reads already goes on where it is."""
        assert not self.closed
        assert not self._telling, "the group is answered first"
        known = self.positions if self._group.incremental else {}
        self._epochs = {tp: self._epochs[tp] for tp in known if tp in offsets and tp in self._epochs}
        self._epochs |= {tp: epoch for tp, epoch in (epochs or {}).items() if tp not in known}
        self._checked = {tp: self._checked[tp] for tp in known if tp in offsets and tp in self._checked}
        self.positions = {tp: known.get(tp, offset) for tp, offset in offsets.items()}
        self._at_end &= known.keys() & offsets.keys()

    def commit(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], *, wait: bool
    ) -> None:
        """Only an owner's commit is taken; without waiting nobody hears of a failure."""
        self._effect()
        failed = self.commit_fails or self._kafka.away or (Unavailable("Kafka: _DESTROY") if self._closing else None)
        if failed is None and self not in self._group.members:
            failed = Unavailable("Kafka: UNKNOWN_MEMBER_ID")
        if failed is None and self._kafka.lost_commits:
            self._kafka.lost_commits -= 1
            failed = Unavailable("Kafka: REQUEST_TIMED_OUT")
        if failed is None:
            self._kafka.commits |= {tp: Committed(offset, metadata[tp]) for tp, offset in offsets.items()}
        elif wait:
            raise failed
        self._effect()

    def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        """What the group has committed."""
        self._effect()
        self._kafka.answer()
        return {tp: self._kafka.commits[tp] for tp in tps if tp in self._kafka.commits}

    def close(self) -> None:
        """Leave the group, but with a name; who was fenced is told nothing any more.

        No commit is taken from here on: librdkafka may end the membership before the revocation has been answered.
        """
        self._closing = True
        owned, self.owned = self.owned, []
        if owned and not self.fenced:
            self._tell(self._events.on_revoke, owned)
        self.closed = True
        self.silent_since = self._kafka.clock.monotonic()
        if self in self._group.members and self.name is None:
            self._group.expel(self)
