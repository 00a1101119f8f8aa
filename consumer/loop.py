"""The chain, in one place: poll → decode → classify → count → flush → commit, commit last."""

from collections.abc import Iterable, Mapping, Sequence
from threading import Event
from typing import Final, cast

import structlog
from confluent_kafka import KafkaError

from orgstats.consumer import metrics, ports
from orgstats.consumer.assignment import CountingOptions, OpenPartition, open_partitions
from orgstats.consumer.checkpoint import (
    CheckpointItem,
    Checkpoints,
    Position,
    StoreWentBack,
    TopicsGone,
    another_topic,
    commit,
    gone_topic,
)
from orgstats.consumer.counting.batch import BatchCounter, Record
from orgstats.consumer.counting.fingerprint import fingerprint_of
from orgstats.consumer.counting.partition import LogChanged, Partition
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.health import HEALTH
from orgstats.consumer.in_flight import CheckpointState, CheckpointTurns
from orgstats.consumer.kafka.errors import Fenced, Unreleased
from orgstats.consumer.kafka.group import ReadBatch, TopicPartition
from orgstats.consumer.pauses import PauseReason, Pauses
from orgstats.consumer.rules_copy import RulesCopy
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import OrgstatsError, Refused, Unavailable
from orgstats.failpoints import failpoint

FINISH_AGAIN_SECONDS: Final = 0.25
"""Between two tries to store the last of a partition that is taken away."""
MOST_UNSTORED_CELLS: Final = 1_000_000
"""Closed chunks waiting to be stored may hold this many cells before reading pauses."""
MOST_UNSTORED_DEAD_LETTERS: Final = 2_000
"""Their payloads are kept until they are stored, so there may only be so many."""

UNRELEASED_SECONDS: Final = 90.0
"""How long a name may be taken by a member that was killed: twice the broker's default session timeout."""
RELEASE_POLL_SECONDS: Final = 2.0

FENCED_AGAIN_SECONDS: Final = 60.0
"""A member that is fenced twice within this time has a namesake."""

logger = structlog.get_logger("orgstats.consumer")


class Loop:
    """Counts the partitions that the group assigns, until `stopping` is set.

    All state is on the caller's thread; only a checkpoint, on what was handed to it, runs beside.
    """

    def __init__(self, settings: ConsumerSettings, clients: ports.Clients, stopping: Event) -> None:
        """Raises Unavailable when ClickHouse does not tell the rules; then nothing has been joined yet."""
        self._settings = settings
        self._clients = clients
        self._clock, self._store, self._topics = clients.clock, clients.store, clients.topics
        self._partitions: dict[TopicPartition, OpenPartition] = {}
        self._positions: dict[TopicPartition, Position] = {}
        self._unopened: list[TopicPartition] = []
        self._pauses = Pauses()
        self._open_at = 0.0
        self._stopping = stopping
        self._leaving = False  # the last commit before partitions go has to be waited for
        self._reopening = False  # nothing is read until what was counted is stored; see `_lose_position`
        self._uuids: dict[str, str | None] = {}  # of each topic this process counts one topic id, this one
        self._suspects: set[TopicPartition] = set()
        """Partitions whose log may not be the one that was counted; compared when they are opened."""
        self._broken = False
        self._unsaved = False  # partitions were given up before all that was counted was stored and committed
        self._gone: dict[str, str] = {}  # topics that are not counted any more, and why
        self._fenced = -FENCED_AGAIN_SECONDS
        self._unreleased = 0.0
        self._rules = RulesCopy(clients.store, clients.clock)
        self._counting = self._count_by(self._rules.history)
        self._log = self._join()
        self._checkpoints = CheckpointTurns(
            Checkpoints(self._topics, clients.checkpoint_store, self._clock), clients.executor, settings.flush_seconds
        )

    def assigned_tps(self) -> set[TopicPartition]:
        """What is being counted now; may be asked on any thread."""
        return set(self._partitions)

    def positions(self) -> dict[TopicPartition, Position]:
        """How far is stored what is being counted, where anything is yet; may be asked on any thread."""
        return self._positions.copy()

    def run(self) -> None:
        """Count until stopped; then flush, commit and leave.

        Raises what an operator must decide: at once, or at the end where other partitions could be counted on, which
        is so for partitions that halted and topics that went away. Unavailable when the last flush was not stored or
        not committed.
        """
        halted: list[str] = []
        try:
            while not self._stopping.is_set():
                self.turn()
            halted = self._halted()
        except BaseException:
            self._broken = True  # nothing more is stored or committed; the next owner counts it again
            raise
        finally:
            self._unsaved = False
            try:
                self._log.close()
            finally:
                self._clients.executor.shutdown(wait=not self._broken)
        if halted or self._gone:
            raise Refused("\n".join([*halted, *self._gone.values()]))
        if self._unsaved or self._unstored(self._partitions):
            raise Unavailable(
                "stopped before all that was counted was stored and committed: Kafka or ClickHouse did not answer in "
                "time. Nothing is lost, the next consumer counts it again"
            )

    def turn(self) -> None:
        """Once around: read, count, and whatever is due."""
        try:
            self._step(self._clock.monotonic())
        except Fenced as error:
            self._join_again(error)

    def _halted(self) -> list[str]:
        return [opened.partition.halted for opened in self._partitions.values() if opened.partition.halted]

    def _join(self) -> ports.GroupConsumer:
        return self._clients.join(ports.GroupEvents(self._assigned, self._revoked, self._lost, _kafka_error))

    def _join_again(self, error: Fenced) -> None:
        """A restarted broker may have forgotten us; but of two processes with one name, one has to end."""
        now = self._clock.monotonic()
        if isinstance(error, Unreleased):
            self._wait_for_release(error, now)
        elif now < self._fenced + FENCED_AGAIN_SECONDS:
            raise error
        self._fenced, self._broken = now, True  # what was counted here is counted again
        logger.warning("fenced: joining the group again", error=str(error))
        try:
            self._log.close()
        except OrgstatsError as closing:
            logger.warning("the old membership ended badly", error=str(closing))
        self._drop([*self._partitions, *self._unopened])
        self._log, self._broken = self._join(), False

    def _wait_for_release(self, error: Fenced, now: float) -> None:
        """A member that was killed keeps its name until its session has timed out; a namesake that lives, for ever."""
        if not self._unreleased or now > self._fenced + FENCED_AGAIN_SECONDS:
            self._unreleased = now
        if now > self._unreleased + UNRELEASED_SECONDS:
            raise error
        self._clock.wait(self._stopping, RELEASE_POLL_SECONDS)

    def _step(self, now: float) -> None:
        HEALTH.turned()
        batch = self._log.read(self._settings.batch_size, 0.1)
        if batch.runs and self._rules.stale:
            self._rules.hurry()
            self._pause_for(PauseReason.RULES, on=True)
            self._open_again()  # this batch could be classified wrongly: it is read again once the rules are known
        else:
            self._count(batch)
        for trouble in batch.troubles:
            _kafka_error(trouble)
        if lost := [tp for tp in batch.lost_position if tp in self._partitions]:
            self._suspects.update(lost)
            self._lose_position()
        self._settle(now)
        self._begin_checkpoint(now)
        self._refresh_rules()
        self._open(now)
        self._pause_for(PauseReason.UNSTORED, on=self._too_much_is_unstored())

    def _count(self, batch: ReadBatch) -> None:
        for tp, run in batch.runs:
            if tp not in self._partitions:
                continue
            partition = self._partitions[tp].partition
            chunk, moved, halted = partition.chunk, partition.out_of_bounds, partition.halted
            try:
                partition.count(cast("Sequence[Record]", run))
            except LogChanged as error:
                self._suspect(tp, error)
                return
            metrics.records.labels(tp[0]).inc(len(run))
            metrics.out_of_bounds.labels(tp[0]).inc(partition.out_of_bounds - moved)
            if partition.chunk is not chunk:
                failpoint("at_chunk_boundary")
            if partition.halted and not halted:
                self._halt(tp, partition.halted)
        if batch.runs:
            failpoint("after_decode")
        for tp, next_offset in batch.ends:
            if tp in self._partitions:
                try:
                    self._partitions[tp].partition.advance(next_offset)
                except LogChanged as error:
                    self._suspect(tp, error)
                    return

    def _suspect(self, tp: TopicPartition, error: LogChanged) -> None:
        """What is read again is not what was counted: compare, and open the partitions anew."""
        logger.warning("the log has changed", topic=tp[0], partition=tp[1], error=str(error))
        self._suspects.add(tp)
        self._open_again()

    def _halt(self, tp: TopicPartition, why: str) -> None:
        logger.error("halted", why=why)
        metrics.halted.labels(*tp).set(1)
        self._log.pause([tp])

    def _pause_or_resume(self) -> None:
        if self._pauses:
            self._log.pause(self._partitions)
        else:
            self._log.resume([tp for tp, opened in self._partitions.items() if not opened.partition.halted])

    def _too_much_is_unstored(self) -> bool:
        # What is still quiet can only be stored after more reading, so that must go on.
        partitions = [opened.partition for opened in self._partitions.values() if not opened.partition.catching_up]
        return (
            sum(partition.unstored_cells for partition in partitions) > MOST_UNSTORED_CELLS
            or sum(partition.unstored_dead_letters for partition in partitions) > MOST_UNSTORED_DEAD_LETTERS
        )

    # Checkpoints

    def _begin_checkpoint(self, now: float) -> None:
        if not self._checkpoints.due(now):
            return
        try:
            work = self._work(idle=self._checkpoints.heartbeat_due(now))
        except Unavailable as error:
            self._try_later(now, error)
            return
        if work:
            self._checkpoints.begin(work, self._counting.fingerprint, now)

    def _work(self, *, idle: bool) -> list[CheckpointItem]:
        """What there is to store, of the partitions that may be stored; zeroes stale cells on the way."""
        due = {
            tp: opened
            for tp, opened in self._partitions.items()
            if not opened.partition.catching_up
            and (idle or opened.partition.next_offset != opened.partition.stored_offset)
        }
        for opened in due.values():
            self._reconcile(opened.partition)
        self._tell_unnamed()
        return [
            CheckpointItem(
                tp,
                opened.assigned,
                opened.partition.stored_offset,
                opened.partition.take(),
                opened.partition.last_timestamp_ms,
                opened.seen,
            )
            for tp, opened in due.items()
        ]

    def _tell_unnamed(self) -> None:
        for (topic, _), opened in self._partitions.items():
            found = opened.partition.unnamed_outcomes
            while found:
                outcome, events = found.popitem()
                metrics.unnamed_outcomes.labels(topic, str(outcome)).inc(events)

    def _reconcile(self, partition: Partition) -> None:
        for chunk in partition.to_reconcile():
            partition.reconcile(chunk, self._store.chunk(partition.source, chunk.first_offset))

    def _settle(self, now: float) -> None:
        """Commit a checkpoint that is stored, or make its changes changes again."""
        flight = self._checkpoints.take_ended()
        if flight is None:
            return
        try:
            positions = flight.future.result()
        except (Unavailable, TopicsGone) as error:
            for one in flight.work:
                if one.tp in self._partitions:
                    self._partitions[one.tp].partition.not_stored(one.changes)
            if isinstance(error, TopicsGone):
                self._give_up(error.topics)
            else:
                self._try_later(now, error)
            return
        except StoreWentBack as error:
            logger.error("ClickHouse holds less than it did: counting that again", error=str(error))  # noqa: TRY400
            self._unsaved = self._unsaved or self._leaving  # then nobody here counts it again
            self._open_again()
            return
        self._checkpoints.answered()
        HEALTH.counts()
        self._pause_for(PauseReason.NOT_STORED, on=False)
        still_ours = [one for one in flight.work if one.tp in self._partitions]
        for one in still_ours:
            self._partitions[one.tp].partition.stored(one.changes)
            self._measure(one, positions[one.tp])
        metrics.live_cells.set(sum(opened.partition.live_cells for opened in self._partitions.values()))
        if still_ours:
            self._commit(still_ours, flight.fingerprint)

    def _measure(self, work: CheckpointItem, position: Position) -> None:
        self._positions[work.tp] = position
        metrics.next_offset.labels(*work.tp).set(position.next_offset)
        if position.complete_until:
            metrics.complete_until_timestamp_seconds.labels(*work.tp).set(position.complete_until)
        for dead in work.changes.notes.dead_letters:
            metrics.dead_letters.labels(work.tp[0], dead.code).inc()

    def _commit(self, work: list[CheckpointItem], fingerprint: str) -> None:
        try:
            commit(self._log, work, fingerprint, wait=self._leaving)
        except Unavailable as error:
            self._unsaved = self._unsaved or self._leaving
            logger.warning("stored, but not committed", error=str(error))

    def _try_later(self, now: float, error: Unavailable) -> None:
        self._checkpoints.failed(now, error)
        self._pause_for(PauseReason.NOT_STORED, on=True)

    # Assignment

    def _assigned(self, tps: list[TopicPartition]) -> None:
        """These come to what is counted already; with the eager protocols that is nothing."""
        metrics.rebalances.labels("assigned").inc()
        self._unopened += [tp for tp in tps if tp[0] not in self._gone]
        self._open_at = 0.0
        if not tps:
            HEALTH.counts()  # a spare one: there is nothing that it could store

    def _revoked(self, tps: list[TopicPartition]) -> None:
        """Flush and commit what was counted, within a deadline; the next owner recounts what is not committed."""
        metrics.rebalances.labels("revoked").inc()
        logger.info("revoked", partitions=len(tps))
        if not self._broken:
            failpoint("in_revoke")
            self._finish(tps, self._clock.monotonic() + self._settings.revoke_seconds)
        self._drop(tps)

    def _finish(self, tps: list[TopicPartition], deadline: float) -> None:
        """The last checkpoint, if ClickHouse answers before the deadline (monotonic seconds).

        It is also where a topic is found to be gone before the group takes it away.
        """
        self._leaving, self._unsaved = True, False
        self._wait(deadline)
        tried = False
        while not self._in_flight() and (self._unstored(tps) or not tried) and self._clock.monotonic() < deadline:
            if self._checkpoints.state is CheckpointState.BACKING_OFF:
                if not self._stopping.is_set():
                    break  # the others wait for these partitions
                self._clock.sleep(FINISH_AGAIN_SECONDS)
            tried = True
            self._checkpoints.hurry()
            self._begin_checkpoint(self._clock.monotonic())
            self._wait(deadline)
        if self._in_flight() or self._unstored(tps):
            self._unsaved = True
            logger.warning("revoked before all was stored: the next owner counts it")
        self._leaving = False

    def _unstored(self, tps: Iterable[TopicPartition]) -> bool:
        return not all(_is_stored(self._partitions[tp]) for tp in tps if tp in self._partitions)

    def _in_flight(self) -> bool:
        return self._checkpoints.state is CheckpointState.IN_FLIGHT

    def _wait(self, deadline: float) -> None:
        if self._in_flight():
            self._checkpoints.wait(deadline - self._clock.monotonic())
            self._settle(self._clock.monotonic())

    def _lost(self, tps: list[TopicPartition]) -> None:
        metrics.rebalances.labels("lost").inc()
        logger.warning("lost: another member owns the partitions", partitions=len(tps))
        self._unsaved = self._unstored(tps)
        self._drop(tps)

    def _drop(self, tps: Iterable[TopicPartition]) -> None:
        """These are another member's now."""
        dropped = set(tps)
        for known in (self._partitions, self._positions):
            for tp in dropped & known.keys():
                del known[tp]
        self._unopened = [tp for tp in self._unopened if tp not in dropped]
        self._reopening = self._reopening and bool(self._partitions)
        if not self._partitions:
            self._pause_for(PauseReason.NOT_STORED, on=False)  # it is the next owner's trouble now
        if not self._unopened:
            self._pause_for(PauseReason.NOT_OPENED, on=False)
        metrics.forget(dropped)
        metrics.assigned_partitions.set(len(self._partitions))

    def _give_up(self, topics: Mapping[str, str]) -> None:
        """Topics that went away are counted no more, the others are. Refused when none is left."""
        self._gone |= topics
        for topic, why in topics.items():
            metrics.topic_gone.labels(topic).set(1)
            logger.error("topic gone", topic=topic, why=why)
        tps = [*self._partitions, *self._unopened]
        self._drop([tp for tp in tps if tp[0] in topics])
        if all(topic in self._gone for topic in self._settings.topic):
            raise Refused(" ".join(self._gone.values()))
        if not self._leaving:  # the group is about to take partitions, and is answered first
            self._read()

    def _read(self, epochs: Mapping[TopicPartition, int] | None = None) -> None:
        """Read what is counted, from where it is, and nothing else; `epochs` are those of newly opened partitions."""
        if not self._reopening:
            self._log.start({tp: one.partition.next_offset for tp, one in self._partitions.items()}, epochs)
            self._pause_or_resume()

    def _lose_position(self) -> None:
        """Read no more until all that was counted is stored: the log may no longer have it. Then open again."""
        if not self._reopening:
            logger.warning("the log no longer has the next record: storing what is counted, then looking anew")
            self._log.start({})
            self._reopening = True

    def _open_again(self) -> None:
        """Look at all partitions anew, as after a rebalance: what is not stored is counted again."""
        self._log.start({})
        self._unopened += self._partitions
        self._partitions.clear()
        self._reopening = False
        self._open_at = 0.0

    def _open(self, now: float) -> None:
        if not self._in_flight() and self._reopening and all(map(_is_stored, self._partitions.values())):
            self._open_again()
        if not self._unopened or self._in_flight() or now < self._open_at:
            return
        try:
            opened = open_partitions(
                self._unopened, self._log, self._topics, self._store, self._counting, self._suspects
            )
        except Unavailable as error:
            self._open_at = now + 1.0
            self._pause_for(PauseReason.NOT_OPENED, on=True)
            logger.warning("cannot open the partitions yet", error=str(error))
            return
        self._partitions |= opened
        self._unopened = [tp for tp in self._unopened if tp not in opened]
        self._checkpoints.tell_all()  # also that partitions without a record are complete
        self._checkpoints.answered()  # and what is catching up has to be read before it can be stored
        self._pause_for(PauseReason.NOT_STORED, on=False)
        self._pause_for(PauseReason.NOT_OPENED, on=False)
        if self._unopened:
            self._open_at = now + 1.0
            logger.warning("topics do not exist (yet)", topics=sorted({topic for topic, _ in self._unopened}))
        metrics.assigned_partitions.set(len(self._partitions))
        self._suspects -= opened.keys()
        if gone := self._not_those_counted(opened):
            self._give_up(gone)
        else:
            self._read({tp: one.epoch for tp, one in opened.items() if one.epoch is not None})

    def _not_those_counted(self, opened: Mapping[TopicPartition, OpenPartition]) -> dict[str, str]:
        """Topics that are not there, or not the ones, that this process has counted, and what to tell of each."""
        gone = {topic: gone_topic(topic) for topic, _ in self._unopened if topic in self._uuids}
        for (topic, _), one in opened.items():
            before = self._uuids.setdefault(topic, one.assigned.uuid)
            if before != one.assigned.uuid:
                gone[topic] = another_topic(topic, before, one.assigned.uuid)
        return gone

    # Pauses and rules

    def _pause_for(self, why: PauseReason, *, on: bool) -> None:
        if self._pauses.set(why, on=on) and self._partitions:
            self._pause_or_resume()

    def _refresh_rules(self) -> None:
        classified_ms = max((opened.partition.kafka_timestamp_ms for opened in self._partitions.values()), default=-1)
        history = self._rules.refresh(classified_ms)
        if history is None:
            if self._rules.stale:
                self._pause_for(PauseReason.RULES, on=True)
            return
        self._pause_for(PauseReason.RULES, on=False)
        if history.edition != self._counting.batch.rules.edition:
            logger.warning("a new edition of the rules: counting the open chunks again", edition=history.edition)
            self._counting = self._count_by(history)
            self._open_again()
        self._counting.batch.rules = history

    def _count_by(self, history: RuleHistory) -> CountingOptions:
        settings = self._settings
        return CountingOptions(
            BatchCounter(settings.limits, history),
            fingerprint_of(settings.limits, history.edition, projects=settings.projects),
            settings.isolation,
            settings.projects,
            settings.topic_id,
            settings.accept_skip,
            settings.allow_compaction,
            settings.dead_letter_limits,
            self._clients.reader,
            self._clock,
        )


def _is_stored(opened: OpenPartition) -> bool:
    partition = opened.partition
    return partition.catching_up or partition.next_offset == partition.stored_offset


def _kafka_error(error: KafkaError) -> None:
    """librdkafka's own troubles, which it mends by itself; fatal ones come out of `read`."""
    logger.warning("kafka", error=error.name(), detail=error.str())
