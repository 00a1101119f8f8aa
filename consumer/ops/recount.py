"""Counts ranges of the log again, with the counting code of the daemon, and compares chunk by chunk."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, cast

from orgstats.consumer.counting.batch import BatchCounter, Record
from orgstats.consumer.counting.cells import StoredChunk
from orgstats.consumer.counting.chain import Mark, SameLog
from orgstats.consumer.counting.chunk import Chunk
from orgstats.consumer.counting.grid import Chunks
from orgstats.consumer.counting.partition import DeadRecord, Partition, PartitionChanges
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.source import BEYOND_ALL
from orgstats.consumer.kafka.reader import LogReader, LogReaders
from orgstats.consumer.ops.compare import ChunkDifference, RecountedChunk, compare
from orgstats.consumer.ops.connections import Connections, SourceStatus, log_to_compare, with_chunks

OFFSETS_AT_ONCE: Final = 1 << 19
"""As many chunks as have so many offsets are counted, compared and stored together, unless another number of chunks is
asked for: what is held in memory, and what a kill costs."""


class HeadPolicy(StrEnum):
    """What to do with a chunk whose first records are no longer in the log."""

    refuse = "refuse"
    skip = "skip"
    keep = "keep"
    drop = "drop"


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets of one source to be counted again: from a chunk's first to a chunk's end, or the log's.

    With `whole_log` the log was cut back: what is stored beyond `end` goes too.
    """

    located: SourceStatus
    first: int
    end: int
    whole_log: bool = False


@dataclass(slots=True)
class RecountTotals:
    """What was read so far, and how long reading, counting and comparing took; `waited` for the rate comes on top."""

    chunks: int = 0
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to read: `rate` records a second, 0 for as fast as it goes; `on_records` takes how many more were.

    `chunks_at_once` are read and stored together; 0 for as many as have OFFSETS_AT_ONCE.
    """

    rate: float = 0.0
    chunks_at_once: int = 0
    on_records: Callable[[int], None] = lambda _offsets: None


FULL_SPEED: Final = Pace()


@dataclass(frozen=True, slots=True)
class Recount:
    """How to count again."""

    connections: Connections
    readers: LogReaders
    batch: BatchCounter
    repair: bool = False
    head: HeadPolicy = HeadPolicy.refuse
    pace: Pace = FULL_SPEED
    tally: RecountTotals = field(default_factory=RecountTotals)
    ends: dict[int, Mark] = field(default_factory=dict)
    """By source id: of which log its last chunk was counted."""

    def changes(self, span: OffsetRange, begun: Mapping[int, int]) -> Iterator[list[ChunkDifference]]:
        """Changes of each chunk of a span, of a few chunks at a time, unchanged ones included.

        `begun` holds the revision of chunks that an interrupted run has begun.
        """
        located = with_chunks(self.connections, span.located, span.first)
        span = replace(span, located=located)
        first = span.first
        while first < span.end:
            end = min(self._after_a_few(located, first), span.end)
            began, waited = time.monotonic(), self.tally.waited
            chunk = list(self._chunk(span, first, end, begun))
            self.tally.seconds += time.monotonic() - began - (self.tally.waited - waited)
            yield chunk
            first = end
        if span.whole_log:
            yield list(self._beyond(span, begun))

    def _after_a_few(self, located: SourceStatus, first: int) -> int:
        chunks, end = 0, first
        while chunks < self.pace.chunks_at_once or (not self.pace.chunks_at_once and end - first < OFFSETS_AT_ONCE):
            chunks, end = chunks + 1, located.grid.chunk_end(end)
        return end

    def _chunk(self, span: OffsetRange, first: int, end: int, begun: Mapping[int, int]) -> Iterator[ChunkDifference]:
        chunks = Chunks(span.located.grid, first, end)
        held = self.connections.store.stored_chunks(
            span.located.source, Chunks(chunks.grid, first, chunks.grid.chunk_end(end - 1))
        )
        revisions = {chunk: begun[chunk] if chunk in begun else self._revision(span, chunk, held) for chunk in chunks}
        for counted in self._count(span, chunks, revisions, held):
            self.tally.chunks += 1
            known = held.get(counted.chunk, StoredChunk())
            if span.located.low > counted.chunk:  # what became of deleted records is known from the store alone
                still = {o: one for o, one in known.dead.items() if o >= span.located.low}
                known = replace(known, dead=still)
            yield compare(counted, known, revisions[counted.chunk])
        if self.repair:  # what was counted by a chunk length that does not hold here is there twice
            for chunk in sorted(held.keys() - {*chunks}):
                if chunks.grid.chunk_of(chunk) != chunk:
                    yield self._taken_back(span, chunk, held[chunk], begun)

    def _revision(self, span: OffsetRange, chunk: int, held: Mapping[int, StoredChunk]) -> int:
        recorded = span.located.revision(chunk)
        before = max(recorded, held[chunk].revision if chunk in held else 0)
        return before + 1 if self.repair else before

    def _count(
        self,
        span: OffsetRange,
        chunks: Chunks,
        revisions: Mapping[int, int],
        held: Mapping[int, StoredChunk],
    ) -> Iterator[RecountedChunk]:
        """One pass over the log; all these chunks, also those without a record."""
        located, first, end = span.located, chunks.start, chunks.stop
        start = max(first, located.low)
        keep = start > first and self.head is HeadPolicy.keep
        partition = Partition(
            located.source,
            Resume(start, start, load_stored=keep, grid=located.grid),
            self.batch,
            lambda chunk: Attempt(revisions.get(chunk, 0)),
            projects=self.connections.settings.projects,
        )
        if keep and first in held:
            partition.chunk.load(held[first].cells, closed=True)
            partition.chunk.revision = revisions[first]
        kept = partition.chunk if keep else None
        same_log = log_to_compare(self.connections, located, first, end)
        self._read(self.readers.of(located.isolation), partition, start, end, same_log.values())
        others = [chunk for chunk, one in same_log.items() if one.differs]
        others += [chunk for chunk in located.chunks if first <= chunk and _is_stale(located, chunk, end)]
        taken = partition.take()
        self.ends[located.source.source_id] = taken.mark
        # Consumers go on behind them, and find by their marks from where on a log that is cut back is another.
        fresh = set(chunks).difference(located.chunks) if span.whole_log else set[int]()
        yield from _counted(partition, taken, chunks, kept, others, fresh)

    def _read(
        self, reader: LogReader, partition: Partition, start: int, end: int, same_log: Collection[SameLog]
    ) -> None:
        began = time.monotonic()
        records, position = 0, start
        tp = (partition.source.topic, partition.source.partition)
        for run, reached in reader.read(tp, start, end):
            partition.count(cast("Sequence[Record]", run))
            for one in same_log:
                one.take(cast("Sequence[Record]", run))
            records += len(run)
            self.tally.bytes += sum(len(one) for one in run)
            self.pace.on_records(min(reached, end) - position)
            position = min(reached, end)
            if self.pace.rate and (ahead := records / self.pace.rate - (time.monotonic() - began)) > 0:
                time.sleep(ahead)
                self.tally.waited += ahead
        partition.advance(end)
        self.tally.records += records

    def _beyond(self, span: OffsetRange, begun: Mapping[int, int]) -> Iterator[ChunkDifference]:
        """Stored chunks behind the end of a log that was cut back: all their cells go.

        Their zeros have the lowest version of their revision, so that what is counted there later wins.
        """
        first = span.located.grid.chunk_end(span.end - 1) if span.end else 0
        held = self.connections.store.stored_chunks(span.located.source, Chunks(span.located.grid, first, BEYOND_ALL))
        for chunk, cells in held.items():
            yield self._taken_back(span, chunk, cells, begun)

    def _taken_back(
        self, span: OffsetRange, chunk: int, cells: StoredChunk, begun: Mapping[int, int]
    ) -> ChunkDifference:
        revision = begun.get(chunk, max(span.located.revision(chunk), cells.revision) + 1)
        counted = RecountedChunk(span.located.source, chunk, chunk, Chunk(chunk).cells, {})
        return compare(counted, cells, revision)


def _is_stale(located: SourceStatus, chunk: int, end: int) -> bool:
    """Whether a closed chunk's mark is of a log before a cut: the source was set back below it since."""
    counted = located.progress.next_offset if located.progress else 0
    return counted < located.grid.chunk_end(chunk) <= end


def _counted(
    partition: Partition,
    taken: PartitionChanges,
    span: Chunks,
    kept: Chunk | None,
    others: Collection[int],
    fresh: Collection[int],
) -> Iterator[RecountedChunk]:
    """What a partition counted, by chunk; `kept` began with stored cells, and may not have changed.

    Of `others` the log has other records than those that were counted before; `fresh` have no mark yet, and get one
    when they are closed.
    """
    marks = {one.first_offset: one.mark for one in taken.notes.closed} | {partition.chunk.first_offset: taken.mark}
    chunks = {part.chunk.first_offset: part.chunk for part in taken.chunks}
    if kept is not None:
        chunks[kept.first_offset] = kept
    dead: dict[int, dict[int, DeadRecord]] = {}
    for one in taken.notes.dead_letters:
        dead.setdefault(span.grid.chunk_of(one.record.offset()), {})[one.record.offset()] = one
    for chunk in span:
        found = chunks.get(chunk) or Chunk(chunk)
        next_offset = min(span.grid.chunk_end(chunk), span.stop)
        cells = found.cells, dead.get(chunk, {})
        other_log = marks[chunk] if chunk in others else None
        new_log = marks[chunk] if chunk in fresh and next_offset == span.grid.chunk_end(chunk) else None
        yield RecountedChunk(partition.source, chunk, next_offset, *cells, other_log, new_log)
