"""What the audit looks at together: chunks in windows, and of a window what is stored and asked with it; pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orgstats.consumer.counting.cells import StoredChunk
from orgstats.consumer.ops.audit_rules import ChunkExtent, Gap
from orgstats.consumer.ops.connections import SourceStatus


@dataclass(frozen=True, slots=True)
class Look:
    """What is `held` of chunks of a source, with its progress from before they were read, and up to where it was
    counted `after`.
    """

    one: SourceStatus
    held: Mapping[int, StoredChunk]
    after: int
    gaps: tuple[Gap, ...]

    def end(self, chunk: int, reached: int) -> tuple[int, bool]:
        """How far a chunk is stored, and whether that changed meanwhile.

        What was stored meanwhile, or by a flush that was torn, may have been seen or not: as with a listed gap. What
        the log does not reach is from before a rewind: a cell that it did not change is as it was stored then.
        """
        before = self.one.progress.next_offset if self.one.progress else 0
        chunk_end = self.one.grid.chunk_end(chunk)
        end = min(chunk_end, max(before, min(reached, self.one.end), self.after))
        return end, before < end

    def extent(self, chunk: int, end: int, expired_before: int, unsure: tuple[Gap, ...] = ()) -> ChunkExtent:
        """The offsets of a chunk up to `end`; those that are `unsure` may be stored or not."""
        hourly = self.one.progress.hourly_offset if self.one.progress else 0
        first = max(chunk, self.one.first_offset)
        return ChunkExtent(first, end, self.one.low, (*self.gaps, *unsure), expired_before, hourly)


def windows(
    chunks: Iterable[tuple[SourceStatus, int]], most: int, *, mixed: bool = True
) -> Iterator[list[tuple[SourceStatus, int]]]:
    """Chunks in their order, as many together as have about `most` offsets; unless `mixed`, of one source each."""
    window: list[tuple[SourceStatus, int]] = []
    offsets = 0
    for one, chunk in chunks:
        if window and (offsets >= most or not (mixed or window[0][0] is one)):
            yield window
            window, offsets = [], 0
        window.append((one, chunk))
        offsets += one.grid.chunk_end(chunk) - chunk
    if window:
        yield window
