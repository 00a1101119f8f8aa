"""What a recount of a chunk changes in the store, and whether only a new revision may do it; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orgstats.consumer.counting.cell_table import CellView
from orgstats.consumer.counting.cells import (
    FAMILIES,
    TOTALS,
    Family,
    Key,
    Stored,
    StoredChunk,
    StoredDead,
    TotalKey,
)
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.partition import DeadRecord
from orgstats.consumer.counting.source import BEYOND_ALL, Source, version_of
from orgstats.schemas.outcomes import COMPARED_STATS, HOUR_SECONDS, STAT_OUTCOMES, Stat

Change = tuple[tuple[int, ...], tuple[int, ...]]
"""The values of a cell: as stored, and as counted."""


@dataclass(frozen=True, slots=True)
class RecountedChunk:
    """What one pass over the log gives for one chunk up to `next_offset`.

    `other_log` is the mark of the log as it is, if its records are not those that were counted; `new_log` is that of a
    chunk that gets its first one.
    """

    source: Source
    chunk: int
    next_offset: int
    cells: Mapping[Family, Mapping[Key, CellView]]
    dead: Mapping[int, DeadRecord]
    other_log: Mark | None = None
    new_log: Mark | None = None

    @property
    def log_to_record(self) -> Mark | None:
        """The mark that is to be stored, if it is another than before."""
        return self.other_log or self.new_log


@dataclass(frozen=True, slots=True)
class ChunkDifference:
    """What has to be written so that the store holds what was counted of a chunk, and what was there before.

    `conflicts` says why that needs a revision of its own: rows of one version must never differ, and only a
    new revision can take back what the log does not give. Empty: the rows only add what is missing.
    """

    counted: RecountedChunk
    revision: int
    cells: Mapping[Family, Mapping[Key, Change]]
    dead: Mapping[int, tuple[StoredDead | None, DeadRecord]]
    withdrawn: Mapping[int, StoredDead]
    conflicts: Mapping[str, int]

    @property
    def count(self) -> int:
        """Cells and dead letters that change, and the log they are made of."""
        cells = sum(map(len, self.cells.values()))
        return cells + len(self.dead) + len(self.withdrawn) + (self.counted.log_to_record is not None)

    @property
    def version(self) -> int:
        """Version of the rows of cells."""
        return version_of(self.revision, self.counted.next_offset)

    def dead_version(self, offset: int) -> int:
        """Version of a dead letter's row; beyond what is counted it must lose to what is counted there later."""
        if offset < self.counted.next_offset:
            return version_of(self.revision, offset)
        return version_of(self.revision - 1, BEYOND_ALL - 1)

    def by_stat(self) -> Iterator[tuple[int, Stat, int, int]]:
        """(org_id, stat, start of the hour, how much more) of the hours that the endpoint shows."""
        for key, (before, after) in self.cells[TOTALS].items():
            if isinstance(key, TotalKey) and key.width == HOUR_SECONDS:
                then, now = shown(before), shown(after)
                for stat in COMPARED_STATS:
                    yield key.org_id, stat, key.bucket, now[stat] - then[stat]


def shown(values: Sequence[int]) -> dict[Stat, int]:
    """The compared stats of a cell of `totals`."""
    return {
        stat: sum(values[TOTALS.values.index(outcome.name)] for outcome in STAT_OUTCOMES[stat])
        for stat in COMPARED_STATS
    }


def compare(counted: RecountedChunk, stored: StoredChunk, revision: int) -> ChunkDifference:
    """The changes that make the store hold what was counted, as rows of `revision`."""
    version = version_of(revision, counted.next_offset)
    conflicts: dict[str, int] = {}
    cells = {
        family: _compare_cells(family, counted.cells[family], stored.cells[family], version, conflicts)
        for family in FAMILIES
    }
    dead: dict[int, tuple[StoredDead | None, DeadRecord]] = {}
    for offset, found in counted.dead.items():
        before = stored.dead.get(offset)
        if before is None or before.withdrawn or before.code != found.code:
            dead[offset] = before, found
            if before is not None:
                _note(conflicts, "dead letters for another reason")
    withdrawn = {o: one for o, one in stored.dead.items() if not one.withdrawn and o not in counted.dead}
    if withdrawn:
        conflicts["dead letters that can be decoded"] = len(withdrawn)
    if counted.other_log is not None:
        conflicts["log with other records than those that were counted"] = 1
    return ChunkDifference(counted, revision, cells, dead, withdrawn, conflicts)


def _compare_cells(
    family: Family,
    counted: Mapping[Key, CellView],
    stored: Mapping[Key, Stored],
    version: int,
    conflicts: dict[str, int],
) -> dict[Key, Change]:
    """Cells that differ. Values at a lower version that are smaller are only older ones."""
    nothing = (0,) * len(family.values)
    differing: dict[Key, Change] = {}
    for key, cell in counted.items():
        after = cell.row_values()
        held = stored.get(key)
        before = nothing if held is None else held.values
        if before == after:
            continue
        differing[key] = before, after
        if held is not None and (held.version >= version or not _is_older(family, before, after)):
            _note(conflicts, "cells with another count")
    for key, held in stored.items():
        if key not in counted and any(held.values):
            differing[key] = held.values, nothing
            _note(conflicts, "cells that the log does not give")
    return differing


def _is_older(family: Family, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether `after` may be `before` and more events: none of the values is less, and there are more events."""
    more_events = not family.events or before[family.events] < after[family.events]
    return more_events and all(one <= another for one, another in zip(before, after, strict=True))


def _note(conflicts: dict[str, int], what: str) -> None:
    conflicts[what] = conflicts.get(what, 0) + 1
