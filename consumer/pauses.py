"""Why nothing is read at the moment; membership in the group is kept by polling on."""

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
        self._reasons: set[PauseReason] = set()

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def set(self, why: PauseReason, *, on: bool) -> bool:
        """A reason holds, or does not any more; returns whether reading is to be paused or resumed now."""
        before = bool(self._reasons)
        (self._reasons.add if on else self._reasons.discard)(why)
        if bool(self._reasons) == before:
            return False
        metrics.paused.set(bool(self._reasons))
        reasons = sorted(reason.value for reason in self._reasons)
        logger.info("paused" if reasons else "resumed", why=reasons or why.value)
        return True
