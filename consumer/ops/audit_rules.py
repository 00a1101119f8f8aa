"""Whether what is stored of a chunk can be true: the law of conservation, and cell by cell; pure.

Two counts bound what may be stored: `surely` of the records that must be counted, `at_most` of those that may be
(records in a listed gap may be or not). Where the log has lost the chunk's head there is no upper bound.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from orgstats.consumer.counting.chain import SameLog
from orgstats.consumer.counting.chunk import HourKey
from orgstats.consumer.counting.reference import Cell, ProjectCell, ReferenceCounts
from orgstats.consumer.counting.source import CHUNK_LENGTH
from orgstats.schemas.outcomes import outcome_name

Gap = tuple[int, int]
"""Offsets [from, to) that are listed as never counted."""


class Difference(NamedTuple):
    """Something stored that cannot be: which, as it is stored, and as it must be."""

    table: str
    key: str
    stored: str
    wanted: str


@dataclass(frozen=True, slots=True)
class StoredTotals:
    """What readers see of one chunk in ClickHouse."""

    cells: Mapping[Cell, tuple[int, int]]
    project_cells: Mapping[ProjectCell, int]
    dead: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class ChunkExtent:
    """Which offsets of a chunk count: from where counting or the chunk began, to its end or as far as it is stored.

    `low` is the log's first offset, `gaps` what is listed, `expired_before` the bucket (epoch seconds) before
    which ClickHouse itself deletes rows, 0 when it keeps them.
    """

    first: int
    end: int
    low: int
    gaps: tuple[Gap, ...] = ()
    expired_before: int = 0

    @property
    def readable(self) -> int:
        """First offset that is still in the log."""
        return min(max(self.first, self.low), self.end)

    @property
    def whole(self) -> bool:
        """Whether the log still holds all of it."""
        return self.low <= self.first

    def in_gap(self, offset: int) -> bool:
        """Whether an offset is listed as never counted."""
        return any(start <= offset < stop for start, stop in self.gaps)


def conservation(extent: ChunkExtent, accounted: int, surely: int, at_most: int) -> Iterator[Difference]:
    """Events and dead letters against records: `accounted` stored, `surely` and `at_most` records in the log."""
    gone = 0 if extent.whole else extent.readable - extent.first
    lowest, highest = (0 if extent.expired_before else surely), gone + at_most
    if not lowest <= accounted <= highest:
        yield Difference("conservation", "events + dead letters", str(accounted), _between(lowest, highest))


def cells(
    extent: ChunkExtent, held: StoredTotals, surely: ReferenceCounts, at_most: ReferenceCounts
) -> Iterator[Difference]:
    """Every cell, project cell and dead letter that is not between the bounds."""
    for cell in sorted(held.cells.keys() | at_most.cells.keys()):
        if cell.bucket >= extent.expired_before:
            bounds = surely.cells.get(cell, (0, 0)), at_most.cells.get(cell, (0, 0)) if extent.whole else None
            yield from _outside("counts", cell, held.cells.get(cell, (0, 0)), *bounds)
    for project in sorted(held.project_cells.keys() | at_most.project_cells.keys()):
        if project.bucket >= extent.expired_before:
            least, most = surely.project_cells.get(project, 0), at_most.project_cells.get(project, 0)
            stored = held.project_cells.get(project, 0)
            yield from _outside("project_counts", project, (stored,), (least,), (most,) if extent.whole else None)
    for offset in sorted(held.dead.keys() | at_most.dead.keys()):
        if offset >= extent.readable:
            found = held.dead.get(offset)
            if found != at_most.dead.get(offset) and not (found is None and offset not in surely.dead):
                yield Difference("dead_letters", f"offset={offset}", str(found), str(at_most.dead.get(offset)))


def other_log(same_log: SameLog) -> Iterator[Difference]:
    """Whether the log has other records than those that were counted, whatever they count as."""
    if same_log.differs:
        table = "progress" if same_log.until % CHUNK_LENGTH else "chunks"
        which = f"records of offsets {same_log.mark.chain_from} to {same_log.until}"
        chains = (f"chain {chain:016x}" for chain in (same_log.mark.chain, same_log.found))
        yield Difference(table, which, *chains)


def hours(
    extent: ChunkExtent, differing: Iterable[tuple[HourKey, tuple[int, ...], tuple[int, ...]]]
) -> Iterator[Difference]:
    """Every hour whose sums, as stored, are not those of its cells: (hour, stored, wanted)."""
    for hour, stored, wanted in differing:
        if hour.bucket >= extent.expired_before:
            yield from _outside("hour_counts", hour, stored, wanted, wanted)


def _outside(
    table: str, key: Any, stored: tuple[int, ...], least: tuple[int, ...], most: tuple[int, ...] | None
) -> Iterator[Difference]:
    too_little = any(found < bound for found, bound in zip(stored, least, strict=True))
    too_much = most is not None and any(found > bound for found, bound in zip(stored, most, strict=True))
    if too_little or too_much:
        told = key._asdict() | ({"outcome": outcome_name(key.outcome)} if hasattr(key, "outcome") else {})
        named = " ".join(f"{name}={value!r}" for name, value in told.items())
        wanted = [_between(*bound) for bound in zip(least, most or [None] * len(least), strict=True)]
        yield Difference(table, named, " / ".join(map(str, stored)), " / ".join(wanted))


def _between(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return str(least) if least == most else f"{least} to {most}"
