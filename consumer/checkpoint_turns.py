"""The checkpoint under way, of which there is at most one, and when the next one is due."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from orgstats.consumer import metrics
from orgstats.consumer.backoff import backoff_seconds
from orgstats.consumer.checkpoint import CheckpointItem, Checkpoints, Position
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.ports import Executor
from orgstats.errors import Unavailable

HEARTBEAT_SECONDS: Final = 5.0
"""A source without new records still tells this often up to when it is complete."""

logger = structlog.get_logger("orgstats.consumer")


class CheckpointState(StrEnum):
    """What storing is at."""

    IDLE = "idle"
    IN_FLIGHT = "in flight"
    BACKING_OFF = "backing off"
    """The last one failed, and the next one waits the longer the more failed in a row."""


@dataclass(frozen=True, slots=True)
class InFlightCheckpoint:
    """A checkpoint under way, and what it stores."""

    future: Future[Mapping[TopicPartition, Position]]
    work: list[CheckpointItem]
    fingerprint: str


class CheckpointTurns:
    """Begins checkpoints one after the other. `now` is in monotonic seconds throughout."""

    def __init__(
        self, checkpoints: Checkpoints, executor: Executor, flush_seconds: float, hourly_seconds: float
    ) -> None:
        self._checkpoints = checkpoints
        self._executor = executor
        self._flush_seconds = flush_seconds
        self._hourly_seconds = hourly_seconds
        self._flight: InFlightCheckpoint | None = None
        self._failures = 0
        self._next = 0.0
        self._soon = False
        self._heartbeat = 0.0
        self._hourly = 0.0

    @property
    def state(self) -> CheckpointState:
        """Of the three."""
        if self._flight is not None:
            return CheckpointState.IN_FLIGHT
        return CheckpointState.BACKING_OFF if self._failures else CheckpointState.IDLE

    @property
    def in_flight(self) -> bool:
        """Whether one is under way, or has ended and is not taken yet."""
        return self.state is CheckpointState.IN_FLIGHT

    @property
    def backing_off(self) -> bool:
        """Whether the last one failed."""
        return self.state is CheckpointState.BACKING_OFF

    def due(self, now: float) -> bool:
        """Whether one is to begin."""
        return self._flight is None and (now >= self._next or (self._soon and not self._failures))

    def heartbeat_due(self, now: float) -> bool:
        """Whether that one also tells of partitions without anything new."""
        return now >= self._heartbeat or self.hourly_due(now)

    def hourly_due(self, now: float) -> bool:
        """Whether that one also writes what is written seldom."""
        return now >= self._hourly

    def begin(self, work: list[CheckpointItem], fingerprint: str, now: float) -> None:
        """Store this beside the loop."""
        if self.heartbeat_due(now):
            self._heartbeat = now + HEARTBEAT_SECONDS
        if self.hourly_due(now):
            self._hourly = now + self._hourly_seconds
        self._next = now + self._flush_seconds
        self._soon = False
        self._flight = InFlightCheckpoint(
            self._executor.submit(lambda: self._checkpoints.run(work, fingerprint)), work, fingerprint
        )

    def take_ended(self) -> InFlightCheckpoint | None:
        """The checkpoint, once it has ended; afterwards there is none. Say then what came of it."""
        if self._flight is None or not self._flight.future.done():
            return None
        flight, self._flight = self._flight, None
        return flight

    def wait(self, seconds: float) -> None:
        """Until the checkpoint under way has ended, or so long."""
        if self._flight is not None:
            self._executor.wait(self._flight.future, max(0.0, seconds))

    def answered(self) -> None:
        """The store has answered: nothing is waited for any longer than it would be without a failure."""
        self._failures = 0

    def failed(self, now: float, error: Unavailable) -> None:
        """It is tried again, with what is new by then."""
        self._failures += 1
        wait_seconds = backoff_seconds(self._failures)
        self._next = now + wait_seconds
        metrics.flush_failures.inc()
        logger.warning("not stored, trying again", error=str(error), failures=self._failures, wait_seconds=wait_seconds)

    def tell_all(self) -> None:
        """The next one tells of every partition."""
        self._heartbeat = 0.0

    def soon(self) -> None:
        """The next one is due as soon as none is under way, unless the last one failed."""
        self._soon = True

    def nothing_to_store(self) -> None:
        """None has to begin that was due."""
        self._soon = False

    def hurry(self) -> None:
        """The next one is due at once, tells of every partition, and writes what is written seldom."""
        self._next = self._heartbeat = self._hourly = 0.0
