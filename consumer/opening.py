"""Opens what is assigned: tried again and again, until it is known where each partition goes on."""

from typing import Final

import structlog

from orgstats.consumer.assignment import CountingOptions, OpenPartition, open_partitions
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.partitions import Partitions
from orgstats.consumer.ports import Clients, GroupConsumer
from orgstats.errors import Unavailable

AGAIN_SECONDS: Final = 1.0
"""Between two tries."""

logger = structlog.get_logger("orgstats.consumer")


class Opening:
    """When to try, monotonic seconds."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._next = 0.0

    def hurry(self) -> None:
        """Try at once: there is news."""
        self._next = 0.0

    def open(
        self, partitions: Partitions, consumer: GroupConsumer, counting: CountingOptions, now: float
    ) -> dict[TopicPartition, OpenPartition]:
        """Those that can be opened now. Not to be called while a checkpoint is under way, which may hold their counts.

        Raises Unavailable when Kafka or the store does not tell where to go on.
        """
        partitions.see_drained()
        opening = partitions.opening
        if not opening or now < self._next:
            return {}
        self._next = now + AGAIN_SECONDS
        try:
            opened = open_partitions(
                opening, consumer, self._clients.topics, self._clients.store, counting, partitions.suspects
            )
        except Unavailable as error:
            logger.warning("cannot open the partitions yet", error=str(error))
            raise
        if missing := sorted({topic for topic, partition in opening if (topic, partition) not in opened}):
            logger.warning("topics do not exist (yet)", topics=missing)
        return opened
