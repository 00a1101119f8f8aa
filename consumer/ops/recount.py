"""Counts ranges of the log again, with the counting code of the daemon, and compares segment by segment."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, cast

from orgstats.consumer.counting.batch import BatchCounter, Record
from orgstats.consumer.counting.chunk import Segment
from orgstats.consumer.counting.partition import DeadRecord, Partition
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.source import SEGMENT_LENGTH, Source, segment_end, segment_of
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.ops import stored
from orgstats.consumer.ops.compare import Changes, Counted, StoredCells, compare
from orgstats.consumer.ops.site import Located, Site

SEGMENTS_AT_ONCE: Final = 4
"""Segments that are counted, compared and stored together: what is held in memory, and what a kill costs."""
_BEYOND_ALL: Final = 1 << 48


class Head(StrEnum):
    """What to do with a segment whose first records are no longer in the log."""

    refuse = "refuse"
    skip = "skip"
    keep = "keep"
    drop = "drop"


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets of one source to be counted again: from a segment's first to a segment's end, or the log's.

    With `whole_log` the log was cut back: what is stored beyond `end` goes too.
    """

    located: Located
    first: int
    end: int
    whole_log: bool = False


@dataclass(slots=True)
class Tally:
    """What was read so far, and how long reading, counting and comparing took; `waited` for the rate comes on top."""

    segments: int = 0
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Recount:
    """How to count again. `rate` in records a second, 0 for as fast as it goes."""

    site: Site
    batch: BatchCounter
    repair: bool = False
    head: Head = Head.refuse
    rate: float = 0.0
    segments_at_once: int = SEGMENTS_AT_ONCE
    tally: Tally = field(default_factory=Tally)
    on_records: Callable[[int], None] = lambda _offsets: None

    def changes(self, span: Span, begun: Mapping[int, int]) -> Iterator[list[Changes]]:
        """Changes of each segment of a span, of a few segments at a time, unchanged ones included.

        `begun` holds the generation of segments that an interrupted run has begun.
        """
        located = span.located
        with LogReader(self.site.settings.kafka_properties(), located.isolation) as reader:
            first = span.first
            while first < span.end:
                end = min(first + self.segments_at_once * SEGMENT_LENGTH, span.end)
                began, waited = time.monotonic(), self.tally.waited
                chunk = list(self._chunk(reader, span, first, end, begun))
                self.tally.seconds += time.monotonic() - began - (self.tally.waited - waited)
                yield chunk
                first = end
        if span.whole_log:
            yield list(self._beyond(span, begun))

    def _chunk(
        self, reader: LogReader, span: Span, first: int, end: int, begun: Mapping[int, int]
    ) -> Iterator[Changes]:
        held = stored.segments(self.site.store, span.located.source, first, segment_end(end - 1))
        generations = {
            segment: begun[segment] if segment in begun else self._generation(span, segment, held)
            for segment in range(first, end, SEGMENT_LENGTH)
        }
        for counted in self._count(reader, span.located, first, end, generations, held):
            self.tally.segments += 1
            known = held.get(counted.segment, StoredCells())
            if span.located.low > counted.segment:  # what became of deleted records is known from the store alone
                still = {o: one for o, one in known.dead.items() if o >= span.located.low}
                known = replace(known, dead=still)
            yield compare(counted, known, generations[counted.segment])

    def _generation(self, span: Span, segment: int, held: Mapping[int, StoredCells]) -> int:
        recorded = span.located.generation(segment)
        before = max(recorded, held[segment].generation if segment in held else 0)
        return before + 1 if self.repair else before

    def _count(
        self,
        reader: LogReader,
        located: Located,
        first: int,
        end: int,
        generations: Mapping[int, int],
        held: Mapping[int, StoredCells],
    ) -> Iterator[Counted]:
        """One pass over the log; all segments of [first, end), also those without a record."""
        start = max(first, located.low)
        keep = start > first and self.head is Head.keep
        partition = Partition(
            located.source,
            Resume(start, start, load_stored=keep),
            self.batch,
            lambda segment: Attempt(generations.get(segment, 0)),
            projects=self.site.settings.projects,
        )
        if keep and first in held:
            partition.segment.load(held[first].cells, held[first].project_cells)
            partition.segment.generation = generations[first]
        kept = partition.segment if keep else None
        self._read(reader, located, partition, start, end)
        yield from _counted(located.source, partition, (first, end), self.site.settings.projects, kept)

    def _read(self, reader: LogReader, located: Located, partition: Partition, start: int, end: int) -> None:
        began = time.monotonic()
        records, position = 0, start
        place = (located.source.topic, located.source.partition)
        for run, reached in reader.read(place, start, end):
            partition.count(cast("Sequence[Record]", run))
            records += len(run)
            self.tally.bytes += sum(len(one) for one in run)
            self.on_records(min(reached, end) - position)
            position = min(reached, end)
            if self.rate and (ahead := records / self.rate - (time.monotonic() - began)) > 0:
                time.sleep(ahead)
                self.tally.waited += ahead
        partition.advance(end)
        self.tally.records += records

    def _beyond(self, span: Span, begun: Mapping[int, int]) -> Iterator[Changes]:
        """Stored segments behind the end of a log that was cut back: all their cells go.

        Their zeros have the lowest version of their generation, so that what is counted there later wins.
        """
        first = segment_end(span.end - 1) if span.end else 0
        held = stored.segments(self.site.store, span.located.source, first, _BEYOND_ALL)
        for segment, cells in held.items():
            generation = begun.get(segment, max(span.located.generation(segment), cells.generation) + 1)
            empty = Segment(segment, projects=self.site.settings.projects)
            counted = Counted(span.located.source, segment, segment, empty.cells, empty.project_cells, {})
            yield compare(counted, cells, generation)


def _counted(
    source: Source, partition: Partition, offsets: tuple[int, int], projects: bool, kept: Segment | None
) -> Iterator[Counted]:
    """What a partition counted, by segment; `kept` began with stored cells, and may not have changed."""
    taken = partition.take()
    segments = {part.segment.first_offset: part.segment for part in taken.segments}
    if kept is not None:
        segments[kept.first_offset] = kept
    dead: dict[int, dict[int, DeadRecord]] = {}
    for one in taken.notes.dead_letters:
        dead.setdefault(segment_of(one.record.offset()), {})[one.record.offset()] = one
    first, end = offsets
    for segment in range(first, end, SEGMENT_LENGTH):
        found = segments.get(segment) or Segment(segment, projects=projects)
        next_offset = min(segment + SEGMENT_LENGTH, end)
        yield Counted(source, segment, next_offset, found.cells, found.project_cells, dead.get(segment, {}))
