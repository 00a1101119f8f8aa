"""Looks from Kafka's side at what is counted: how far behind it is, and when retention would overtake it.

Failure semantics: a thread with clients of its own, which asks nothing of ClickHouse; so what the metrics say stays
true while counting waits for ClickHouse. What Kafka does not answer is left as it was, and it never ends the daemon.
What was seen is handed on once the metrics are set (telling.py).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from orgstats.consumer import metrics
from orgstats.consumer.checkpoint import Position
from orgstats.consumer.kafka.broker import Broker
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.retention import RATE_SECONDS, Retention, retention_deadline, retention_of
from orgstats.consumer.kafka.topics import Topics
from orgstats.consumer.ports import Clock
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import OrgstatsError, Unavailable

WATCH_SECONDS: Final = 5.0
SETTINGS_SECONDS: Final = 300.0
"""How old what is known of a topic's retention may be."""

logger = structlog.get_logger("orgstats.consumer")


class Seen(NamedTuple):
    """What was seen of a partition's log; `retention_deadline` in epoch seconds, None for never or not known."""

    topic: str
    partition: int
    log_start: int
    log_end: int
    readable_end: int
    retention_deadline: float | None


class Watch(threading.Thread):
    """Keeps the metrics about the logs of the partitions whose `positions` are known."""

    def __init__(
        self,
        settings: ConsumerSettings,
        positions: Callable[[], Mapping[TopicPartition, Position]],
        clock: Clock,
        tell: Callable[[Sequence[Seen], float], None] = lambda _seen, _now: None,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self._settings = settings
        self._positions = positions
        self._clock = clock
        self._tell = tell
        self._topics = Topics(settings.kafka_properties())
        self._broker = Broker(settings.kafka_properties())
        self._retention: dict[str, Retention] = {}
        self._ask_retention_at = 0.0
        self._shown: set[TopicPartition] = set()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask it to end; it may still be waiting for Kafka."""
        self._stopping.set()

    def run(self) -> None:
        """One look every few seconds."""
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                self.look(self._clock.epoch_ms() / 1000)
            except OrgstatsError as error:
                logger.warning("cannot look at the logs", error=str(error))

    def look(self, now: float) -> None:
        """Ask Kafka, and set the metrics. Raises Unavailable, or ConfigurationError when a right is missing.

        Partitions without a leader keep the values of the last look; they take none from the others.
        """
        positions = self._positions()
        metrics.forget(self._shown - positions.keys())
        self._shown = set(positions)
        told = self._topics.told_ends(positions, "read_uncommitted")
        if positions and not told.ends:
            raise next(iter(told.silent.values()))
        ends = told.ends
        positions = {tp: position for tp, position in positions.items() if tp in ends}
        starts = self._topics.starts(positions)
        readable = self._topics.ends(positions, self._settings.isolation)
        recent = self._broker.offsets_at(positions, round((now - RATE_SECONDS) * 1000))
        self._ask_retention(now)
        seen = []
        for tp, position in positions.items():
            metrics.lag_records.labels(*tp).set(max(0, ends[tp] - position.next_offset))
            since = recent[tp]
            rate = 0.0 if since is None else (ends[tp] - since) / RATE_SECONDS
            headroom = position.next_offset - starts[tp]
            metrics.open_transaction_records.labels(*tp).set(max(0, ends[tp] - readable[tp]))
            counted_until = max(position.complete_until, min(position.record_timestamp, now))
            at = retention_deadline(self._retention[tp[0]], counted_until, now, headroom, rate)
            at = at if counted_until else None
            seen.append(Seen(*tp, starts[tp], ends[tp], readable[tp], at))
            if at is None:
                metrics.retention_deadline_timestamp_seconds.remove(*tp)
            else:
                metrics.retention_deadline_timestamp_seconds.labels(*tp).set(at)
        self._tell(seen, now)

    def _ask_retention(self, now: float) -> None:
        """A right to read a topic's settings is not needed to count; without it nothing is foretold."""
        if now < self._ask_retention_at:
            return
        for topic in self._settings.topic:
            try:
                self._retention[topic] = retention_of(self._broker.topic_settings(topic))
            except Unavailable as error:
                logger.warning("cannot read the topic's retention", topic=topic, error=str(error))
                self._retention.setdefault(topic, Retention(None, None))
        self._ask_retention_at = now + SETTINGS_SECONDS
