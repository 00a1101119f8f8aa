"""Whether what is stored of a chunk can be true: the conservation check, roll-ups, and cell by cell; pure.

Two counts bound what may be stored: `surely` of the records that must be counted, `at_most` of those that may be
(records in a listed gap may be or not). Where the log has lost the chunk's head there is no upper bound.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from orgstats.consumer.counting.cells import COUNTS, FAMILIES, HOURLY, TOTALS, Family, StoredChunk
from orgstats.consumer.counting.chain import SameLog
from orgstats.consumer.counting.reference import ReferenceCounts
from orgstats.consumer.counting.source import BEYOND_ALL
from orgstats.consumer.ops.screening import Screened
from orgstats.schemas.outcomes import HOUR_SECONDS, STAT_CATEGORIES, outcome_name

_UINT64_MAX: Final = (1 << 64) - 1

Gap = tuple[int, int]
"""Offsets [from, to) that are listed as never counted."""


class Difference(NamedTuple):
    """Something stored that cannot be: which, as it is stored, and as it must be."""

    table: str
    key: str
    stored: str
    wanted: str


@dataclass(frozen=True, slots=True)
class ChunkExtent:
    """Which offsets of a chunk count: from where counting or the chunk began, to its end or as far as it is stored.

    `low` is the log's first offset, `gaps` what is listed, `expired_before` the bucket (epoch seconds) before
    which ClickHouse itself deletes rows, 0 when it keeps them. What is written seldom is stored up to `hourly_end`.
    """

    first: int
    end: int
    low: int
    gaps: tuple[Gap, ...] = ()
    expired_before: int = 0
    hourly_end: int = BEYOND_ALL

    @property
    def readable(self) -> int:
        """First offset that is still in the log."""
        return min(max(self.first, self.low), self.end)

    @property
    def whole(self) -> bool:
        """Whether the log still holds all of it."""
        return self.low <= self.first

    @property
    def behind(self) -> int:
        """How many of its offsets need not be in what is written seldom yet."""
        return max(0, self.end - max(self.first, self.hourly_end))

    @property
    def log(self) -> str:
        """What the log still has of it: whole, head gone, or gone."""
        return "whole" if self.whole else "head gone" if self.readable < self.end else "gone"

    def is_left(self, chunk_end: int) -> bool:
        """Whether counting went on in a later chunk; a mark of it can only be of a log from before, since cut back."""
        return any(self.first < start < chunk_end <= stop for start, stop in self.gaps)

    def in_gap(self, offset: int) -> bool:
        """Whether an offset is listed as never counted."""
        return any(start <= offset < stop for start, stop in self.gaps)

    @property
    def listed(self) -> int:
        """How many of its offsets are listed as never counted."""
        return sum(max(0, min(stop, self.end) - max(start, self.first)) for start, stop in self.gaps)


def in_order(extent: ChunkExtent, found: Screened, *, moving: bool) -> bool:
    """Whether sums alone show that neither the conservation check nor, unless it is `moving`, a roll-up differs.

    False where in doubt: then the chunk is to be looked at cell by cell, and perhaps in the log.
    """
    accounted, offsets = found.accounted(extent.end), extent.end - extent.first
    balanced = accounted == offsets and extent.whole  # each is a record, and counted: the log has nothing to add
    balanced = balanced or (accounted <= offsets and extent.readable == extent.end)  # nothing of it is left to read
    rolled_up = moving or not (found.events_off > extent.behind or found.cells_off or found.totals_off)
    return balanced and rolled_up and not extent.listed and not found.holds_erased


def conservation(extent: ChunkExtent, accounted: int, surely: int, at_most: int) -> Iterator[Difference]:
    """Events and dead letters against records: `accounted` stored, `surely` and `at_most` records in the log."""
    gone = 0 if extent.whole else extent.readable - extent.first
    lowest, highest = (0 if extent.expired_before else surely), gone + at_most
    if not lowest <= accounted <= highest:
        yield Difference("conservation", "events + dead letters", str(accounted), _between(lowest, highest))


def cells(
    extent: ChunkExtent, held: StoredChunk, surely: ReferenceCounts, at_most: ReferenceCounts
) -> Iterator[Difference]:
    """Every cell of every family, and every dead letter, outside of the bounds.

    `surely` has of what is written seldom only what must be stored by now.
    """
    for family in FAMILIES:
        stored, least, most = held.cells[family], surely.cells[family.table], at_most.cells[family.table]
        nothing = (0,) * len(family.values)
        for key in sorted({*stored, *most}):
            found = stored[family.key(*key)].values if key in stored else nothing
            upper = most.get(key, nothing) if extent.whole else None
            yield from _outside(extent, family, key, found, (least.get(key, nothing), upper))
    dead = {offset: letter.code for offset, letter in held.dead.items() if not letter.withdrawn}
    for offset in sorted(dead.keys() | at_most.dead.keys()):
        if offset >= extent.readable:
            code = dead.get(offset)
            if code is None and at_most.dead_ms[offset] // 1000 < extent.expired_before:
                continue  # stored no earlier than this, and perhaps deleted since
            if code != at_most.dead.get(offset) and not (code is None and offset not in surely.dead):
                yield Difference("dead_letters", f"offset={offset}", str(code), str(at_most.dead.get(offset)))


def roll_ups(extent: ChunkExtent, held: StoredChunk) -> Iterator[Difference]:
    """Every cell of `hourly` and `totals` that is not the sum of the stored cells of `counts`, over keys and time.

    A torn flush that nobody could complete, as its records were deleted, has left records in one table and not in
    another; these offsets are listed. So where some are, `hourly` may differ by as many events, and no more; of
    `totals`, which has no events, only a recount can tell. Of the open chunk `hourly` may also lack as many events as
    there are offsets from where it is written to up to where the others are.
    """
    hourly: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    totals: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for (org_id, bucket, project_id, _, category, outcome, reason), stored in held.cells[COUNTS].items():  # type: ignore[misc]
        quantity, events = stored.values
        hour = bucket - bucket % HOUR_SECONDS
        sums = hourly[org_id, hour, project_id, category, outcome, reason]
        sums[0] += quantity
        sums[1] += events
        if category in STAT_CATEGORIES and outcome <= 2:  # accepted, filtered, rate limited
            totals[org_id, 10, bucket][outcome] += quantity
            totals[org_id, HOUR_SECONDS, hour][outcome] += quantity
    differing = list(_not_the_sum(extent, held, HOURLY, hourly))
    if sum(events for _, events in differing) > extent.listed + extent.behind:
        yield from (difference for difference, events in differing if events or not extent.listed)
    elif not extent.listed:
        yield from (difference for difference, events in differing if not events)
    if not extent.listed:
        yield from (difference for difference, _ in _not_the_sum(extent, held, TOTALS, totals))


def _not_the_sum(
    extent: ChunkExtent, held: StoredChunk, family: Family, sums: Mapping[tuple[Any, ...], list[int]]
) -> Iterator[tuple[Difference, int]]:
    """Cells that differ, and by how many events."""
    stored, nothing = held.cells[family], (0,) * len(family.values)
    for key in sorted({*stored, *sums}):
        wanted = tuple(min(one, _UINT64_MAX) for one in sums.get(key, nothing))
        found = stored[family.key(*key)].values if key in stored else nothing
        events = abs(found[family.events] - wanted[family.events]) if family.events else 0
        for difference in _outside(extent, family, key, found, (wanted, wanted)):
            yield difference, events


def other_log(same_log: SameLog, chunk_end: int) -> Iterator[Difference]:
    """Whether the log has other records than those that were counted, whatever they count as."""
    if same_log.differs:
        table = "progress" if same_log.until < chunk_end else "chunks"
        which = f"records of offsets {same_log.mark.chain_from} to {same_log.until}"
        chains = (f"chain {chain:016x}" for chain in (same_log.mark.chain, same_log.found))
        yield Difference(table, which, *chains)


def _outside(
    extent: ChunkExtent,
    family: Family,
    key: tuple[Any, ...],
    stored: tuple[int, ...],
    bounds: tuple[tuple[int, ...], tuple[int, ...] | None],
) -> Iterator[Difference]:
    """A cell outside of its bounds (at least, at most), unless ClickHouse may have deleted it for its age."""
    least, most = bounds
    told = family.key(*key)._asdict()
    if told["bucket"] < extent.expired_before:
        return
    too_little = any(found < bound for found, bound in zip(stored, least, strict=True))
    too_much = most is not None and any(found > bound for found, bound in zip(stored, most, strict=True))
    if too_little or too_much:
        told |= {"outcome": outcome_name(told["outcome"])} if "outcome" in told else {}
        named = " ".join(f"{name}={value!r}" for name, value in told.items())
        wanted = [_between(*bound) for bound in zip(least, most or [None] * len(least), strict=True)]
        yield Difference(family.table, named, " / ".join(map(str, stored)), " / ".join(wanted))


def _between(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return str(least) if least == most else f"{least} to {most}"
