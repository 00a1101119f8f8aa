"""Opens what is assigned: tried again and again, until it is known where each partition goes on.

One that fails alone waits alone. All are asked for together, which takes few statements; when that fails, half of
them, and so on until the one is found that it fails for. That one is tried by itself from then on, the more rarely the
more often it failed, and the others are opened, read and counted meanwhile.
"""

from typing import Final, NamedTuple

import structlog

from orgstats.consumer.assignment import Opened, open_partitions
from orgstats.consumer.backoff import backoff_seconds
from orgstats.consumer.counting_options import CountingOptions
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.partitions import Partitions
from orgstats.consumer.ports import Clients, GroupConsumer
from orgstats.consumer.states import PartitionState
from orgstats.errors import Unavailable

AGAIN_SECONDS: Final = 1.0
"""Between two tries while nobody answers."""
SHARE: Final = 5
"""A partition that cannot be opened takes at most one part in so many of the loop's time, however slowly it fails."""
ALL: Final = 1 << 30

logger = structlog.get_logger("orgstats.consumer")


class BackOff(NamedTuple):
    """Of a partition: how often in a row it could not be opened, and when it is tried again, monotonic seconds."""

    failures: int
    due: float


class Opening:
    """When to try what, monotonic seconds."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._next = 0.0
        self._most = ALL  # to be tried together
        self._failed: dict[TopicPartition, BackOff] = {}

    def hurry(self) -> None:
        """Try at once: there is news."""
        self._next = 0.0

    def open(
        self, partitions: Partitions, consumer: GroupConsumer, counting: CountingOptions, now: float
    ) -> Opened | None:
        """What can be opened now; None when nothing is to be tried.

        Not to be called while a checkpoint is under way, which may hold their counts. Raises Unavailable when Kafka or
        the store answers nothing at all.
        """
        partitions.see_drained()
        self._see_due(partitions, now)
        tried = self._choose(partitions)
        if not tried or now < self._next:
            return None
        began = self._clients.clock.monotonic()
        try:
            opened = open_partitions(
                tried, consumer, self._clients.topics, self._clients.store, counting, partitions.suspects
            )
        except Unavailable as error:
            self._next = now + AGAIN_SECONDS
            logger.warning("cannot open the partitions yet", error=str(error))
            raise
        for tp in opened.partitions:
            self._failed.pop(tp, None)
        if len(opened.failed) > 1:
            self._most = len(opened.failed) // 2
        else:
            self._most = min(2 * self._most, ALL)
            self._back_off(partitions, opened.failed, self._clients.clock.monotonic() - began)
        absent = {tp: Unavailable("the topic does not exist (yet)") for tp in tried if tp[0] in opened.absent}
        self._back_off(partitions, absent, 0.0)
        return opened

    def _see_due(self, partitions: Partitions, now: float) -> None:
        for tp in partitions.within({PartitionState.NOT_OPENED}):
            if now >= self._failed[tp].due:
                partitions.due(tp)
        if not partitions.opening:
            self._failed.clear()  # those that failed were taken away

    def _choose(self, partitions: Partitions) -> list[TopicPartition]:
        opening = partitions.within({PartitionState.OPENING})
        return [tp for tp in opening if tp not in self._failed][: self._most] or opening[:1]

    def _back_off(self, partitions: Partitions, failed: dict[TopicPartition, Unavailable], took: float) -> None:
        for tp, error in failed.items():
            failures = self._failed[tp].failures + 1 if tp in self._failed else 1
            seconds = max(backoff_seconds(failures), (SHARE - 1) * took)
            self._failed[tp] = BackOff(failures, self._clients.clock.monotonic() + seconds)
            partitions.not_opened(tp)
            logger.warning(
                "not opened, trying again",
                topic=tp[0],
                partition=tp[1],
                error=str(error),
                failures=failures,
                wait_seconds=round(seconds, 3),
            )
