"""Keeps each partition's knowledge of its chunks ahead of what it reads, so that no chunk has to be waited for."""

from typing import Final

import structlog

from orgstats.consumer.partitions import Partitions
from orgstats.consumer.ports import Clock, Store
from orgstats.errors import Unavailable

SOONEST_SECONDS: Final = 0.25
"""Between two looks at the chunk lengths, however fast chunks go by."""
AGAIN_SECONDS: Final = 1.0
"""After a look that was not answered."""

logger = structlog.get_logger("orgstats.consumer")


class GridsCopy:
    """Reads the chunk lengths anew when some partition will soon come to chunks that are not certain.

    Idle partitions cost nothing. How far a look reaches is told by where the log was known to end before it.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._next = 0.0

    def refresh(self, partitions: Partitions) -> None:
        """Look again if it is time. Raises Refused when a partition counts a chunk that there is not any more."""
        now = self._clock.monotonic()
        if now < self._next:
            return
        reading = partitions.reading
        if not any(partition.wants_grid for partition in reading):
            return
        self._next = now + SOONEST_SECONDS
        ends = {partition.source.source_id: partition.seen_end for partition in reading}
        try:
            grids = self._store.grids(ends)
        except Unavailable as error:
            self._next = now + AGAIN_SECONDS
            logger.warning("cannot read the chunk lengths", error=str(error))
            return
        for partition in reading:
            source_id = partition.source.source_id
            if source_id in grids:
                partition.learn(grids[source_id], ends[source_id])
