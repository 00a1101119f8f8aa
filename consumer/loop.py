"""The chain, in one place: poll → decode → classify → count → flush → commit, commit last.

What it speaks with is handed in (ports.py). What it remembers has a file each: partitions and their states
(partitions.py, states.py), the membership (membership.py), the checkpoint under way (checkpoint_turns.py), reasons to
pause (pauses.py), the copies of the rules (rules_copy.py) and of the chunk lengths (grids_copy.py), how far is stored
(positions.py).
"""

from collections.abc import Iterable, Mapping
from threading import Event
from typing import Final

import structlog
from confluent_kafka import KafkaError

from orgstats.consumer import metrics, ports
from orgstats.consumer.batches import count_batch
from orgstats.consumer.checkpoint import (
    CheckpointItem,
    Checkpoints,
    LogsCutBack,
    Position,
    StoreWentBack,
    TopicsGone,
    commit,
)
from orgstats.consumer.checkpoint_turns import CheckpointTurns
from orgstats.consumer.counting_options import counting_by
from orgstats.consumer.grids_copy import GridsCopy
from orgstats.consumer.health import HEALTH
from orgstats.consumer.kafka.errors import Fenced
from orgstats.consumer.kafka.group import Callbacks, ReadBatch, TopicPartition
from orgstats.consumer.membership import Membership
from orgstats.consumer.opening import Opening
from orgstats.consumer.partitions import Partitions
from orgstats.consumer.pauses import PauseReason, Pauses
from orgstats.consumer.positions import Positions
from orgstats.consumer.rules_copy import RulesCopy
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.states import STORING
from orgstats.errors import Refused, Unavailable
from orgstats.failpoints import failpoint

FINISH_AGAIN_SECONDS: Final = 0.25
"""Between two tries to store the last of a partition that is taken away."""
logger = structlog.get_logger("orgstats.consumer")


class Loop:
    """Counts the partitions that the group assigns, until `stopping` is set.

    All state is on the caller's thread; only a checkpoint, on what was handed to it, runs beside.
    """

    def __init__(self, settings: ConsumerSettings, clients: ports.Clients, stopping: Event) -> None:
        """Raises Unavailable when ClickHouse does not tell the rules; then nothing has been joined yet."""
        self._settings = settings
        self._clients = clients
        self._clock = clients.clock
        self._stopping = stopping
        self._partitions = Partitions()
        self._positions = Positions()
        self._pauses = Pauses()
        self._opening = Opening(clients)
        self._read_anew = False  # what is to be read has changed
        self._unsaved = False  # partitions were given up before all that was counted was stored and committed
        self._has_left = False  # the last checkpoint was made, nothing is counted any more
        self._rules = RulesCopy(clients.store, clients.clock)
        self._grids = GridsCopy(clients.store, clients.clock)
        self._counting = counting_by(settings, self._rules.history, clients)
        self._checkpoints = CheckpointTurns(
            Checkpoints(clients.topics, clients.checkpoint_store, clients.clock),
            clients.executor,
            settings.flush_seconds,
            settings.hourly_seconds,
        )
        callbacks = Callbacks(self._assigned, self._revoked, self._lost, _kafka_error)
        self._member = Membership(lambda: clients.join(callbacks), clients.clock, stopping)

    def assigned_tps(self) -> set[TopicPartition]:
        """What is being counted now; may be asked on any thread."""
        return set(self._partitions.open)

    def positions(self) -> dict[TopicPartition, Position]:
        """How far is stored what is being counted, where anything is yet; may be asked on any thread."""
        return self._positions.copy()

    def pause_reasons(self) -> list[str]:
        """Why nothing is read; may be asked on any thread."""
        return list(self._pauses)

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
            halted = self._partitions.halted()
            self._leave()
        except BaseException:
            self._member.fail()  # nothing more is stored or committed; the next owner counts it again
            raise
        finally:
            try:
                self._member.consumer.close()
            finally:
                self._clients.executor.shutdown(wait=self._member.may_store)
        if halted or self._partitions.gone:
            raise Refused("\n".join([*halted, *self._partitions.gone.values()]))
        if self._unsaved or self._partitions.unstored(self._partitions.open):
            raise Unavailable(
                "stopped before all that was counted was stored and committed: Kafka or ClickHouse did not answer in "
                "time. Nothing is lost, the next consumer counts it again"
            )

    def turn(self) -> None:
        """Once around: read, count, and whatever is due."""
        try:
            self._step(self._clock.monotonic())
        except Fenced as error:
            self._member.end(error)
            self._drop([*self._partitions.open, *self._partitions.opening])
            self._member.join_again()
            self._read_anew = False

    def _step(self, now: float) -> None:
        HEALTH.turned()
        batch = self._member.consumer.read(self._settings.batch_size, 0.1)
        if batch.runs and self._rules.stale:
            self._rules.hurry()
            self._pause_for(PauseReason.RULES, on=True)
            self._look_anew()  # this batch could be classified wrongly: it is read again once the rules are known
        else:
            self._count(batch)
        for trouble in batch.troubles:
            _kafka_error(trouble)
        self._settle(now)
        if not self._open(now):  # asked first, so that slow checkpoints, one after the other, leave it a turn
            self._begin_checkpoint(now)  # and of what was just opened something is read first
        self._grids.refresh(self._partitions)
        self._refresh_rules()  # after what may take long: the next batch is not classified by a copy that is too old
        self._pause_for(PauseReason.UNSTORED, on=self._partitions.too_much_is_unstored())
        if self._read_anew:
            self._read()

    def _count(self, batch: ReadBatch) -> None:
        after = count_batch(batch, self._partitions)
        if after.at_ends:
            self._checkpoints.soon()  # who looks after a restart need not wait any longer
        if after.anew:
            self._opening.hurry()
        if after.halted or after.anew:
            self._read_anew = True

    # Checkpoints

    def _begin_checkpoint(self, now: float) -> None:
        if not self._checkpoints.due(now):
            return
        try:
            work = self._partitions.take(
                self._clients.store,
                idle=self._checkpoints.heartbeat_due(now),
                seldom=self._checkpoints.hourly_due(now),
            )
        except Unavailable as error:
            self._try_later(now, error)
            return
        if work:
            self._checkpoints.begin(work, self._counting.fingerprint, now)
            return
        self._checkpoints.nothing_to_store()
        if not self._partitions.within(STORING):  # what could not be stored was taken away
            self._pause_for(PauseReason.NOT_STORED, on=False)

    def _settle(self, now: float) -> None:
        """Commit a checkpoint that is stored, or make its changes changes again."""
        flight = self._checkpoints.take_ended()
        if flight is None:
            return
        try:
            positions = flight.future.result()
        except Unavailable as error:
            self._partitions.not_stored(flight.work)
            self._try_later(now, error)
        except TopicsGone as error:
            self._partitions.not_stored(flight.work)
            self._give_up(error.topics)
        except StoreWentBack as error:
            logger.error("ClickHouse holds less than it did: counting that again", error=str(error))  # noqa: TRY400
            self._look_anew()
        except LogsCutBack as error:
            logger.warning("logs end below what was read: comparing them", partitions=str(error))
            self._partitions.not_stored(flight.work)  # what the others have in memory may be gone from their logs
            self._partitions.cut_back(error.tps)
            self._unsaved = self._unsaved or self._member.is_leaving
            self._opening.hurry()
            self._read_anew = True
        else:
            self._checkpoints.answered()
            HEALTH.counts()
            self._pause_for(PauseReason.NOT_STORED, on=False)
            ours = self._partitions.stored(flight.work)
            for one in ours:
                self._positions.stored(one, positions[one.tp])
            if ours:
                self._commit(ours, flight.fingerprint)

    def _commit(self, work: list[CheckpointItem], fingerprint: str) -> None:
        try:
            commit(self._member.consumer, work, fingerprint, wait=self._member.is_leaving)
        except Unavailable as error:
            self._unsaved = self._unsaved or self._member.is_leaving
            logger.warning("stored, but not committed", error=str(error))

    def _try_later(self, now: float, error: Unavailable) -> None:
        self._checkpoints.failed(now, error)
        self._pause_for(PauseReason.NOT_STORED, on=True)

    # Assignment

    def _assigned(self, tps: list[TopicPartition]) -> None:
        """These come to what is counted already; with the eager protocols that is nothing."""
        metrics.rebalances.labels("assigned").inc()
        self._partitions.assigned(tps)
        self._opening.hurry()
        if not tps:
            HEALTH.counts()  # a spare one: there is nothing that it could store

    def _revoked(self, tps: list[TopicPartition]) -> None:
        """Flush and commit what was counted, within a deadline; the next owner recounts what is not committed."""
        metrics.rebalances.labels("revoked").inc()
        logger.info("revoked", partitions=len(tps))
        if self._member.may_store and not self._has_left:
            self._finish_in_time(tps)
        self._drop(tps)

    def _leave(self) -> None:
        """The last checkpoint, before the group is left.

        Not in the revocation that closing leads to: when a rebalance has begun just before, librdkafka (2.16.1) ends
        the membership while it still calls back, and a commit fails.
        """
        if self._member.may_store:
            self._finish_in_time(list(self._partitions.open))
        self._has_left = True

    def _finish_in_time(self, tps: list[TopicPartition]) -> None:
        failpoint("in_revoke")
        with self._member.leaving():
            self._finish(tps, self._clock.monotonic() + self._settings.revoke_seconds)

    def _finish(self, tps: list[TopicPartition], deadline: float) -> None:
        """The last checkpoint, if ClickHouse answers before the deadline (monotonic seconds).

        It is also where a topic is found to be gone before the group takes it away.
        """
        self._unsaved = False
        self._wait(deadline)
        tried = False
        while not self._checkpoints.in_flight and self._clock.monotonic() < deadline:
            if tried and not self._partitions.unstored(tps):
                break
            if self._checkpoints.backing_off:
                if not self._stopping.is_set():
                    break  # the others wait for these partitions
                self._clock.sleep(FINISH_AGAIN_SECONDS)
            tried = True
            self._checkpoints.hurry()
            self._begin_checkpoint(self._clock.monotonic())
            self._wait(deadline)
        if self._checkpoints.in_flight or self._partitions.unstored(tps):
            self._unsaved = True
            logger.warning("revoked before all was stored: the next owner counts it")

    def _wait(self, deadline: float) -> None:
        if self._checkpoints.in_flight:
            self._checkpoints.wait(deadline - self._clock.monotonic())
            self._settle(self._clock.monotonic())

    def _lost(self, tps: list[TopicPartition]) -> None:
        metrics.rebalances.labels("lost").inc()
        logger.warning("lost: another member owns the partitions", partitions=len(tps))
        self._unsaved = self._partitions.unstored(tps)
        self._drop(tps)

    def _drop(self, tps: Iterable[TopicPartition]) -> None:
        """These are another member's now."""
        self._partitions.taken(tps)
        self._forget(tps)

    def _forget(self, tps: Iterable[TopicPartition]) -> None:
        if not self._partitions.open:
            self._pause_for(PauseReason.NOT_STORED, on=False)  # it is the next owner's trouble now
        if not self._partitions.opening:
            self._pause_for(PauseReason.NOT_OPENED, on=False)
        self._positions.forget(tps)
        metrics.assigned_partitions.set(len(self._partitions.open))

    def _give_up(self, topics: Mapping[str, str]) -> None:
        """Topics that went away are counted no more, the others are. Refused when none is left."""
        self._forget(self._partitions.give_up(topics))
        if all(topic in self._partitions.gone for topic in self._settings.topic):
            raise Refused(" ".join(self._partitions.gone.values()))
        self._read_anew = True

    def _look_anew(self) -> None:
        """Look at all partitions anew, as after a rebalance: what is not stored is counted again."""
        self._unsaved = self._unsaved or self._member.is_leaving  # then nobody here counts it again
        self._partitions.distrust_all()
        self._opening.hurry()
        self._read_anew = True

    def _read(self) -> None:
        """Read what is to be read, from where it is, and nothing else: nothing at all while there is a reason to pause.

        At the end of a turn, because during a rebalance the group is answered first. librdkafka's own pausing is not
        used: it outlives a rebalance, and beside an assignment it gets lost or lasts for ever (its issues 2190, 5591).
        """
        self._read_anew = False
        if self._pauses:
            self._member.consumer.start({})
        else:
            self._member.consumer.start(self._partitions.next_offsets(), self._partitions.unchecked_epochs())

    def _open(self, now: float) -> bool:
        """Open what is due; whether anything was."""
        if self._checkpoints.in_flight or self._read_anew:
            return False  # of what is opened again nothing may be read on from where it was
        try:
            opened = self._opening.open(self._partitions, self._member.consumer, self._counting, now)
        except Unavailable:
            self._pause_for(PauseReason.NOT_OPENED, on=True)
            return False
        if opened is None:
            return False
        self._pause_for(PauseReason.NOT_OPENED, on=False)
        gone = self._partitions.opened(opened.partitions, opened.absent)
        if gone:
            self._give_up(gone)
        if not opened.partitions:
            return False
        self._checkpoints.tell_all()  # also that partitions without a record are complete
        self._checkpoints.answered()  # and what is catching up has to be read before it can be stored
        metrics.assigned_partitions.set(len(self._partitions.open))
        self._read_anew = True
        return True

    # Pauses and rules

    def _pause_for(self, why: PauseReason, *, on: bool) -> None:
        if self._pauses.set(why, on=on):
            self._read_anew = True

    def _refresh_rules(self) -> None:
        history = self._rules.refresh(self._partitions.classified_ms)
        self._pause_for(PauseReason.RULES, on=self._rules.stale)
        if history is None:
            return
        if history.edition != self._counting.batch.rules.edition:
            logger.warning("a new edition of the rules: counting the open chunks again", edition=history.edition)
            self._counting = counting_by(self._settings, history, self._clients)
            self._look_anew()
        self._counting.batch.rules = history


def _kafka_error(error: KafkaError) -> None:
    """librdkafka's own troubles, which it mends by itself; fatal ones come out of `read`."""
    logger.warning("kafka", error=error.name(), detail=error.str())
