"""How the offsets of a source are divided into chunks: by one length, or by another from some offset on. Pure."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CHUNK_LENGTH: Final = 1 << 17
"""Offsets in a chunk of a source for which nothing else is set."""
SHORTEST: Final = 1 << 14
LONGEST: Final = 1 << 20
"""Bounds of what may be set."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Chunks of one source. `entries` are (first offset, length) in offset order, the first from 0 on.

    Within an entry chunks begin at multiples of its length; where the next one begins, a chunk ends in any case. So
    every offset is in exactly one chunk, whatever the entries are.
    """

    entries: tuple[tuple[int, int], ...] = ((0, CHUNK_LENGTH),)

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
