"""Up to when the counts of one partition are complete. Pure.

A record's own timestamp cannot tell when it was acknowledged: a producer may write any, and a later record may have an
earlier one. What can be told is where the log ended when somebody looked: every record acknowledged before the look
lies below that end. So when all below it is counted, the counts are complete until that look.
"""

from typing import Final, NamedTuple

MOST_LOOKS: Final = 256
"""Ends are remembered until they are counted up to; of more than these, every other one is forgotten."""


class Moment(NamedTuple):
    """When the clocks were read: epoch milliseconds by the earlier one, and between which seconds of a steady clock.

    The steady clock goes as fast as others and is never set, so it tells how long ago another moment was.
    """

    epoch_ms: int
    asked: float
    answered: float

    def by(self, later: "Moment") -> "Moment":
        """The same moment by the clocks of a later one, where these show that it had a time that was still to come.

        Clocks are believed to the time that they took to answer.
        """
        if self.epoch_ms <= later.epoch_ms - int((later.asked - self.answered) * 1000):
            return self
        return self._replace(epoch_ms=later.epoch_ms - int((later.answered - self.asked) * 1000) - 1)


class SeenEnds:
    """The ends of one log that are not counted up to yet, and up to when its counts are complete.

    An end is the high watermark: an open transaction hides records from a consumer, not from this.
    """

    def __init__(self, complete_until_ms: int = 0) -> None:
        """`complete_until_ms` is what was known before, epoch milliseconds; 0 for nothing."""
        self._known_ms = complete_until_ms
        self._complete_until: Moment | None = None  # the last look that is counted up to
        self._looks: list[tuple[Moment, int]] = []  # (when, end), both rising

    def saw(self, now: Moment, end: int) -> None:
        """The log ended at `end` at `now` or later.

        A time that is still to come was told by a wrong clock. Of a look taken here it is known how long ago that was;
        of what another process has told nothing is, so then it is not known any more up to when counts are complete.
        """
        if self._known_ms > now.epoch_ms:
            self._known_ms = 0
        if self._complete_until is not None:
            self._complete_until = self._complete_until.by(now)
        self._looks = [(when.by(now), older) for when, older in self._looks if older < end]
        self._looks.append((now, end))
        if len(self._looks) > MOST_LOOKS:
            del self._looks[1:-1:2]

    def complete_until_ms(self, next_offset: int) -> int:
        """Every record acknowledged before this moment is counted, once all below `next_offset` is; 0: unknown."""
        counted = [when for when, end in self._looks if end <= next_offset]
        if counted:
            del self._looks[: len(counted)]
            self._complete_until = counted[-1]
        return max(self._known_ms, self._complete_until.epoch_ms if self._complete_until else 0)
