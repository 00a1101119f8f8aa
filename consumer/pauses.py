"""Why nothing is read at the moment; membership in the group is kept by polling on."""

from collections.abc import Iterator
from enum import StrEnum

import structlog

from orgstats.consumer import metrics

logger = structlog.get_logger("orgstats.consumer")


class PauseReason(StrEnum):
    """As the log tells it."""

    RULES = "rules"
    """The copy of the rules is too old to classify anything by."""
    UNSTORED = "unstored"
    """So much waits to be stored that memory would run out."""
    NOT_STORED = "not stored"
    """The last checkpoint failed."""
    NOT_OPENED = "not opened"
    """It is not known where assigned partitions go on."""


class Pauses:
    """The reasons that hold now."""

    def __init__(self) -> None:
        self._reasons: frozenset[PauseReason] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def __iter__(self) -> Iterator[str]:
        """As the log tells them, in alphabetical order; may be asked on any thread."""
        return iter(sorted(reason.value for reason in self._reasons))

    def set(self, why: PauseReason, *, on: bool) -> bool:
        """A reason holds, or does not any more; returns whether reading is to be paused or resumed now."""
        before = bool(self._reasons)
        self._reasons = self._reasons | {why} if on else self._reasons - {why}
        if bool(self._reasons) == before:
            return False
        metrics.paused.set(bool(self._reasons))
        reasons = list(self)
        logger.info("paused" if reasons else "resumed", why=reasons or why.value)
        return True
