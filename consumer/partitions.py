"""The partitions that are assigned to this process: in which state each is, and what is counted of it."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import structlog

from orgstats.consumer import metrics
from orgstats.consumer.assignment import OpenPartition
from orgstats.consumer.checkpoint import CheckpointItem, another_topic, gone_topic
from orgstats.consumer.counting.partition import Partition
from orgstats.consumer.counting.source import BEYOND_ALL
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.ports import Store
from orgstats.consumer.states import OPEN, PARTITION, READ, STORING, PartitionEvent, PartitionState, after

MOST_UNSTORED_CELLS: Final = 1_000_000
"""Closed chunks waiting to be stored may hold this many cells before reading pauses."""
MOST_UNSTORED_DEAD_LETTERS: Final = 2_000
"""Their payloads are kept until they are stored, so there may only be so many."""

logger = structlog.get_logger("orgstats.consumer")


class Partitions:
    """State by partition, and an OpenPartition for each in one of the OPEN states."""

    def __init__(self) -> None:
        self._states: dict[TopicPartition, PartitionState] = {}  # closed ones are absent
        self._open: dict[TopicPartition, OpenPartition] = {}
        self._behind: set[TopicPartition] = set()  # their logs' ends were not met since they were opened
        self._uuids: dict[str, str | None] = {}  # of each topic this process counts one topic id, this one
        self.gone: dict[str, str] = {}
        """Topics that are not counted any more, and why."""
        self.suspects: dict[TopicPartition, int] = {}
        """Partitions whose log may not be the one that was counted; compared when they are opened, down to an offset
        at least."""

    def state(self, tp: TopicPartition) -> PartitionState:
        """Of a partition, whether it is assigned or not."""
        return self._states.get(tp, PartitionState.CLOSED)

    def within(self, states: Collection[PartitionState]) -> list[TopicPartition]:
        """Those in one of these states."""
        return [tp for tp, state in self._states.items() if state in states]

    @property
    def opening(self) -> list[TopicPartition]:
        """Those that are to be opened, now or after a while."""
        return self.within({PartitionState.OPENING, PartitionState.NOT_OPENED})

    @property
    def open(self) -> Mapping[TopicPartition, OpenPartition]:
        """Those that have counts in memory."""
        return self._open

    def read(self, tp: TopicPartition) -> Partition | None:
        """What counts the records of a partition; None when it is not to be read now."""
        return self._open[tp].partition if self.state(tp) in READ else None

    @property
    def reading(self) -> list[Partition]:
        """What counts the records that are read now."""
        return [self._open[tp].partition for tp in self.within(READ)]

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Where each goes on that is read."""
        return {tp: self._open[tp].partition.next_offset for tp in self.within(READ)}

    def unchecked_epochs(self) -> dict[TopicPartition, int]:
        """Leader epochs that the broker shall check, of those of which nothing has been read since they were opened."""
        opened = {tp: self._open[tp] for tp in self.within(READ)}
        return {
            tp: one.epoch
            for tp, one in opened.items()
            if one.epoch is not None and one.partition.next_offset == one.assigned.counted
        }

    @property
    def classified_ms(self) -> int:
        """The highest Kafka timestamp of what was classified here; -1 for nothing."""
        return max((opened.partition.kafka_timestamp_ms for opened in self._open.values()), default=-1)

    def halted(self) -> list[str]:
        """Why partitions are counted no further."""
        return [self._open[tp].partition.halted for tp in self.within({PartitionState.HALTED})]

    # Events

    def assigned(self, tps: Iterable[TopicPartition]) -> None:
        """They come to what is assigned already."""
        for tp in tps:
            self._on(tp, PartitionEvent.ASSIGNED)
            if tp[0] in self.gone:
                self._on(tp, PartitionEvent.TOPIC_GONE)

    def taken(self, tps: Iterable[TopicPartition]) -> None:
        """They are another member's now."""
        for tp in tps:
            if tp in self._states:
                self._on(tp, PartitionEvent.TAKEN)

    def opened(self, found: Mapping[TopicPartition, OpenPartition], absent: Collection[str] = ()) -> dict[str, str]:
        """Go on with these; `absent` topics do not exist.

        Returns topics that are not those which this process has counted, and why.
        """
        for tp, one in found.items():
            self._on(tp, PartitionEvent.OPENED)
            self._open[tp] = one
            self._behind.add(tp)
            metrics.not_opened.remove(*tp)
            self.see_caught_up(tp)
        gone = {topic: gone_topic(topic) for topic in absent if topic in self._uuids}
        for (topic, _), one in found.items():
            before = self._uuids.setdefault(topic, one.assigned.uuid)
            if before != one.assigned.uuid:
                gone[topic] = another_topic(topic, before, one.assigned.uuid)
        self.suspects = {tp: down_to for tp, down_to in self.suspects.items() if tp not in found}
        return gone

    def not_opened(self, tp: TopicPartition) -> None:
        """It could not be opened, and is no more to be opened until it is `due`."""
        self._on(tp, PartitionEvent.OPENING_FAILED)
        metrics.not_opened.labels(*tp).set(1)

    def due(self, tp: TopicPartition) -> None:
        """One that could not be opened is to be opened again."""
        self._on(tp, PartitionEvent.DUE)

    def see_caught_up(self, tp: TopicPartition) -> None:
        """After reading: whether it has reached the position that it must not be stored below."""
        if self._states[tp] is PartitionState.CATCHING_UP and not self._open[tp].partition.catching_up:
            self._on(tp, PartitionEvent.CAUGHT_UP)

    def see_ends(self, tps: Iterable[TopicPartition]) -> bool:
        """The ends of these logs were met; whether that was the last one that was waited for."""
        behind = bool(self._behind)
        self._behind.difference_update(tps)
        return behind and not self._behind

    def see_limit(self, tp: TopicPartition) -> str:
        """After reading: why it is counted no further from now on; else nothing."""
        why = self._open[tp].partition.halted
        if why:
            self._on(tp, PartitionEvent.LIMIT_REACHED)
        return why

    def lost_position(self, tps: Iterable[TopicPartition]) -> list[TopicPartition]:
        """The log no longer has what comes next; returns those that were read."""
        lost = [tp for tp in tps if self.state(tp) in READ]
        for tp in lost:
            self._suspect(tp, BEYOND_ALL)
            self._on(tp, PartitionEvent.POSITION_LOST)
        return lost

    def chunk_not_known(self, tp: TopicPartition) -> None:
        """Which chunk comes next is to be found out."""
        self._on(tp, PartitionEvent.CHUNK_NOT_KNOWN)

    def log_changed(self, tp: TopicPartition, chunk: int = BEYOND_ALL) -> None:
        """What is read again is not what was counted; in the chunk that begins there, where that is known."""
        self._suspect(tp, chunk)
        self._on(tp, PartitionEvent.DISTRUSTED)

    def _suspect(self, tp: TopicPartition, down_to: int) -> None:
        self.suspects[tp] = min(down_to, self.suspects.get(tp, BEYOND_ALL))

    def cut_back(self, tps: Iterable[TopicPartition]) -> None:
        """Their logs end before what was read. Those that are another member's by now are none of ours."""
        for tp in tps:
            if tp in self._states:
                self.log_changed(tp)

    def distrust_all(self) -> None:
        """Look at all anew, as after a rebalance: what is not stored is counted again."""
        for tp in [*self._states]:
            self._on(tp, PartitionEvent.DISTRUSTED)

    def see_drained(self) -> None:
        """What is stored to its end can be opened again. Not to be asked while a checkpoint is under way."""
        for tp in self.within({PartitionState.DRAINING}):
            if not self.unstored([tp]):
                self._on(tp, PartitionEvent.STORED)

    def give_up(self, topics: Mapping[str, str]) -> list[TopicPartition]:
        """Topics went away, and why; returns their partitions."""
        for topic, why in topics.items():
            metrics.topic_gone.labels(topic).set(1)
            logger.error("topic gone", topic=topic, why=why)
        self.gone |= topics
        tps = [tp for tp in self._states if tp[0] in topics]
        for tp in tps:
            self._on(tp, PartitionEvent.TOPIC_GONE)
        return tps

    def _on(self, tp: TopicPartition, event: PartitionEvent) -> None:
        state = after(PARTITION, self.state(tp), event)
        self._states[tp] = state
        if state not in OPEN:
            self._open.pop(tp, None)
            self._behind.discard(tp)
        if state is PartitionState.CLOSED:
            del self._states[tp]

    # What is to be stored

    def unstored(self, tps: Iterable[TopicPartition]) -> bool:
        """Whether anything counted of these is not stored yet."""
        storing = [self._open[tp].partition for tp in tps if self.state(tp) in STORING]
        return any(partition.next_offset != partition.stored_offset for partition in storing)

    def too_much_is_unstored(self) -> bool:
        """Whether memory has to be spared. What is catching up can only be stored after more reading."""
        storing = [self._open[tp].partition for tp in self.within(STORING)]
        return (
            sum(partition.unstored_cells for partition in storing) > MOST_UNSTORED_CELLS
            or sum(partition.unstored_dead_letters for partition in storing) > MOST_UNSTORED_DEAD_LETTERS
        )

    def take(self, store: Store, *, idle: bool, seldom: bool) -> list[CheckpointItem]:
        """What there is to store, of `idle` partitions and what is written `seldom` too; zeroes stale cells on the way.

        Raises Unavailable when the store does not tell what it has of them; nothing is taken then.
        """
        due = {tp: self._open[tp] for tp in self.within(STORING) if idle or self.unstored([tp])}
        for opened in due.values():
            partition = opened.partition
            for chunk in partition.to_reconcile():
                partition.reconcile(chunk, store.chunk(partition.source, chunk.first_offset, chunk.end))
        self._tell_unnamed()
        return [
            CheckpointItem(
                tp,
                opened.assigned,
                opened.partition.stored_offset,
                opened.partition.hourly_offset,
                opened.partition.take(seldom=seldom),
                opened.partition.last_timestamp_ms,
                opened.seen,
                opened.seen_hourly,
            )
            for tp, opened in due.items()
        ]

    def _tell_unnamed(self) -> None:
        for (topic, _), opened in self._open.items():
            found = opened.partition.unnamed_outcomes
            while found:
                outcome, events = found.popitem()
                metrics.unnamed_outcomes.labels(topic, str(outcome)).inc(events)

    def stored(self, work: Iterable[CheckpointItem]) -> list[CheckpointItem]:
        """A checkpoint is stored; returns those of its items that are still ours."""
        ours = [one for one in work if one.tp in self._open]
        for one in ours:
            self._open[one.tp].partition.stored(one.changes)
        metrics.live_cells.set(sum(opened.partition.live_cells for opened in self._open.values()))
        return ours

    def not_stored(self, work: Iterable[CheckpointItem]) -> None:
        """A checkpoint failed: its changes are changes again."""
        for one in work:
            if one.tp in self._open:
                self._open[one.tp].partition.not_stored(one.changes)
