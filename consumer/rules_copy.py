"""The copy of the rules by which records are classified, and how old it is."""

from typing import Final

import structlog

from orgstats.consumer import metrics
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.ports import Clock, Store
from orgstats.consumer.store.rules import STALE_SECONDS
from orgstats.errors import Unavailable

RULES_SECONDS: Final = 10.0
"""Between two looks at the rules."""
AGAIN_SECONDS: Final = 1.0
"""After a look that was not answered."""

logger = structlog.get_logger("orgstats.consumer")


class RulesCopy:
    """Read anew every few seconds. Raises Unavailable when the store does not tell the first one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._read_at = clock.monotonic()
        self._next = 0.0
        self.history = store.rule_history()

    @property
    def stale(self) -> bool:
        """Whether the copy is too old now: an entry may have come into force that it does not have."""
        return self._clock.monotonic() > self._read_at + STALE_SECONDS

    def hurry(self) -> None:
        """Look again at once."""
        self._next = 0.0

    def refresh(self, classified_ms: int) -> RuleHistory | None:
        """Look again if it is time; returns what was read, None when nothing was.

        `classified_ms` is the highest Kafka timestamp of what was classified by the copy so far. An entry that should
        have been in force by then was not known: another pass would count differently, which is told in the log.
        """
        now = self._clock.monotonic()
        if now < self._next:
            return None
        self._next = now + RULES_SECONDS
        try:
            history = self._store.rule_history()
        except Unavailable as error:
            self._next = now + AGAIN_SECONDS
            logger.warning("cannot read the rules", error=str(error))
            return None
        self._read_at = now
        metrics.rules_read_timestamp_seconds.set(self._clock.epoch_ms() / 1000)
        for entry in history.missed_by(self.history, classified_ms):
            logger.error(
                "rules became known after records of their time were classified: void them and publish them again",
                version=entry.version,
            )
        self.history = history
        return history
