"""The buckets of a window and the gap-free series over them; nothing here knows HTTP or SQL."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from orgstats import times

RESOLUTIONS: Final[dict[str, int]] = {"10s": 10, "1h": 3_600, "1d": 86_400}
"""Spelling and width in seconds, finest first."""

LAST_SECOND: Final = times.LAST_SECOND

Point = tuple[int, int]
"""Start of a bucket in epoch seconds, and its count."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Consecutive buckets of one width, the first at `first` epoch seconds, a multiple of `width`."""

    first: int
    width: int
    length: int

    @property
    def last(self) -> int:
        """Start of the last bucket."""
        return self.first + (self.length - 1) * self.width

    def __iter__(self) -> Iterator[int]:
        """The start of each bucket, ascending."""
        return iter(range(self.first, self.last + 1, self.width))


def buckets_of(since: float, until: float, width: int) -> Buckets:
    """The buckets that hold `until`, `until - width`, … as long as the value is >= `since`.

    `since` <= `until`, in epoch seconds. Exact for every float: a rounded difference could gain or lose
    the first bucket. `since` may be negative (the default window of an early `until`).
    """
    length = int((Fraction(until) - Fraction(since)) // width) + 1
    last = int(until) // width * width
    return Buckets(last - (length - 1) * width, width, length)


def default_width(since: float, until: float) -> int:
    """The finest width for a window: 10 s up to an hour, 1 h up to a week, otherwise a day."""
    seconds = int(until) - int(since)
    if seconds <= 3_600:
        return RESOLUTIONS["10s"]
    return RESOLUTIONS["1h"] if seconds <= 604_800 else RESOLUTIONS["1d"]


def filled(buckets: Buckets, counts: Mapping[int, int]) -> list[Point]:
    """One point per bucket, ascending; a bucket that `counts` (start -> count) lacks is there with 0."""
    return [(start, counts.get(start, 0)) for start in buckets]
