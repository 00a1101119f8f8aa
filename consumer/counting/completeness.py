"""Up to when the counts of one partition are complete. Pure.

A record's own timestamp cannot tell when it was acknowledged: a producer may write any, and a later record may have an
earlier one. What can be told is where the log ended when somebody looked: every record acknowledged before the look
lies below that end. So when all below it is counted, the counts are complete until that look.
"""

from typing import Final

MOST_LOOKS: Final = 256
"""Ends are remembered until they are counted up to; of more than these, every other one is forgotten."""


class SeenEnds:
    """The ends of one log that are not counted up to yet, and up to when its counts are complete.

    An end is the high watermark: an open transaction hides records from a consumer, not from this.
    """

    def __init__(self, complete_until_ms: int = 0) -> None:
        """`complete_until_ms` is what was known before, epoch milliseconds; 0 for nothing."""
        self._complete_until_ms = complete_until_ms
        self._looks: list[tuple[int, int]] = []  # (when, end), both rising

    def saw(self, now_ms: int, end: int) -> None:
        """The log ended at `end` at `now_ms` or later. A time that is still to come was told by a wrong clock."""
        self._complete_until_ms = min(self._complete_until_ms, now_ms)
        self._looks = [(min(when, now_ms), older) for when, older in self._looks if older < end]
        self._looks.append((now_ms, end))
        if len(self._looks) > MOST_LOOKS:
            del self._looks[1:-1:2]

    def complete_until_ms(self, next_offset: int) -> int:
        """Every record acknowledged before this moment is counted, once all below `next_offset` is; 0: unknown."""
        counted = [when for when, end in self._looks if end <= next_offset]
        if counted:
            del self._looks[: len(counted)]
            self._complete_until_ms = max(self._complete_until_ms, counted[-1])
        return self._complete_until_ms
