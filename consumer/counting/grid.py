"""How the offsets of a source are divided into chunks: by one length, or by another from some offset on. Pure.

Why nobody ever counts by an older length than others do is told in consumer/ops/chunk_length.py.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from orgstats.consumer.counting.source import BEYOND_ALL

CHUNK_LENGTH: Final = 1 << 17
"""Offsets in a chunk of a source for which nothing else is set."""
SHORTEST: Final = 1 << 14
LONGEST: Final = 1 << 20
"""Bounds of what may be set."""
MARGIN_CHUNKS: Final = 4
"""So many chunks beyond where a log ended when the lengths were read nobody can have changed them unseen."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Chunks of one source. `entries` are (first offset, length) in offset order, the first from 0 on.

    Within an entry chunks begin at multiples of its length; where the next one begins, a chunk ends in any case. So
    every offset is in exactly one chunk, whatever the entries are. `proposed` is where the first change would begin
    that is neither decided nor taken back: which chunks there are from there on is not known.
    """

    entries: tuple[tuple[int, int], ...] = ((0, CHUNK_LENGTH),)
    proposed: int = BEYOND_ALL

    @property
    def margin(self) -> int:
        """How many offsets beyond the end of the log are certain for who has read this."""
        return MARGIN_CHUNKS * max(length for _, length in self.entries)

    def known_to(self, end: int) -> int:
        """Chunks that end here or earlier are certain for who read this when the log ended at `end` or later."""
        return min(end + self.margin, self.proposed)

    def chunk_of(self, offset: int) -> int:
        """First offset of the chunk that holds `offset`."""
        first, length = self.entries[self._at(offset)]
        return max(first, offset - offset % length)

    def chunk_end(self, offset: int) -> int:
        """First offset after the chunk that holds `offset`."""
        at = self._at(offset)
        length = self.entries[at][1]
        end = offset - offset % length + length
        return min(end, self.entries[at + 1][0]) if at + 1 < len(self.entries) else end

    def length_at(self, offset: int) -> int:
        """The length of chunks at an offset."""
        return self.entries[self._at(offset)][1]

    def before(self, first_offset: int) -> int:
        """First offset of the chunk before the one that begins at `first_offset`; 0 where there is none."""
        return self.chunk_of(max(first_offset - 1, 0))

    def _at(self, offset: int) -> int:
        return bisect_right(self.entries, offset, key=_first) - 1 if len(self.entries) > 1 else 0


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a source that begin in [start, stop), as their first offsets; `start` is one, if there are any."""

    grid: Grid
    start: int
    stop: int

    def __bool__(self) -> bool:
        return self.start < self.stop

    def __iter__(self) -> Iterator[int]:
        first = self.start
        while first < self.stop:
            yield first
            first = self.grid.chunk_end(first)


NO_CHUNKS: Final = Chunks(Grid(), 0, 0)


def _first(entry: tuple[int, int]) -> int:
    return entry[0]
