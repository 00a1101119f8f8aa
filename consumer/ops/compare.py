"""What a recount of a chunk changes in the store, and whether only a new revision may do it; pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.chunk import CellKey, Count, HourKey, ProjectKey, Stored, hour_sums
from orgstats.consumer.counting.partition import DeadRecord
from orgstats.consumer.counting.source import Source, revision_of, version_of
from orgstats.schemas.outcomes import COMPARED_STATS, STAT_CATEGORIES, STAT_OUTCOMES, Stat

_LAST_OFFSET: Final = (1 << 48) - 1

Key = TypeVar("Key")


class Value(NamedTuple):
    """Whole count of a cell; a project's cell has no events."""

    quantity: int
    events: int


class StoredDead(NamedTuple):
    """A dead letter as stored."""

    code: str
    text: str
    withdrawn: bool
    version: int


@dataclass(frozen=True, slots=True)
class StoredCells:
    """What ClickHouse holds of one chunk, withdrawn dead letters too."""

    cells: Mapping[CellKey, Stored] = field(default_factory=dict)
    project_cells: Mapping[ProjectKey, Stored] = field(default_factory=dict)
    dead: Mapping[int, StoredDead] = field(default_factory=dict)
    hours: Mapping[HourKey, tuple[int, ...]] = field(default_factory=dict)

    @property
    def revision(self) -> int:
        """The highest revision that wrote any of it."""
        versions = [one.version for one in (*self.cells.values(), *self.project_cells.values())]
        versions += [one.version for one in self.dead.values()]
        return max(map(revision_of, versions), default=0)


@dataclass(frozen=True, slots=True)
class RecountedChunk:
    """What one pass over the log gives for one chunk up to `next_offset`. `project_cells` None: not counted.

    `other_log` is the mark of the log as it is, if its records are not those that were counted.
    """

    source: Source
    chunk: int
    next_offset: int
    cells: Mapping[CellKey, Count]
    project_cells: Mapping[ProjectKey, Count] | None
    dead: Mapping[int, DeadRecord]
    other_log: Mark | None = None


@dataclass(frozen=True, slots=True)
class ChunkDifference:
    """What has to be written so that the store holds what was counted of a chunk, and what was there before.

    `conflicts` says why that needs a revision of its own: rows of one version must never differ, and only a
    new revision can take back what the log does not give. Empty: the rows only add what is missing.
    """

    counted: RecountedChunk
    revision: int
    cells: Mapping[CellKey, tuple[Value, Value]]
    project_cells: Mapping[ProjectKey, tuple[Value, Value]]
    dead: Mapping[int, tuple[StoredDead | None, DeadRecord]]
    withdrawn: Mapping[int, StoredDead]
    hours: Mapping[HourKey, tuple[tuple[int, ...], tuple[int, ...]]]
    conflicts: Mapping[str, int]

    @property
    def count(self) -> int:
        """Cells and dead letters that change, sums by hour that do so on their own, and the log they are made of."""
        cells = len(self.cells) + len(self.project_cells) + len(self.hours)
        return cells + len(self.dead) + len(self.withdrawn) + (self.counted.other_log is not None)

    @property
    def version(self) -> int:
        """Version of the rows of `counts` and `project_counts`."""
        return version_of(self.revision, self.counted.next_offset)

    def dead_version(self, offset: int) -> int:
        """Version of a dead letter's row; beyond what is counted it must lose to what is counted there later."""
        if offset < self.counted.next_offset:
            return version_of(self.revision, offset)
        return version_of(self.revision - 1, _LAST_OFFSET)

    def by_stat(self) -> Iterator[tuple[int, Stat, int, int]]:
        """(org_id, stat, bucket, how much more) of the cells that a stat of the endpoint sums."""
        for key, (before, after) in self.cells.items():
            for stat in COMPARED_STATS:
                if key.outcome in STAT_OUTCOMES[stat] and key.category in STAT_CATEGORIES:
                    yield key.org_id, stat, key.bucket, after.quantity - before.quantity


_NOTHING: Final = Value(0, 0)
_NO_SUMS: Final = (0, 0, 0)


def compare(counted: RecountedChunk, stored: StoredCells, revision: int) -> ChunkDifference:
    """The changes that make the store hold what was counted, as rows of `revision`."""
    version = version_of(revision, counted.next_offset)
    conflicts: dict[str, int] = {}
    cells = _compare_cells(counted.cells, stored.cells, version, conflicts)
    projects = (
        {}
        if counted.project_cells is None
        else _compare_cells(counted.project_cells, stored.project_cells, version, conflicts, events=False)
    )
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
    return ChunkDifference(
        counted, revision, cells, projects, dead, withdrawn, _compare_hours(counted, stored, cells), conflicts
    )


def _compare_hours(
    counted: RecountedChunk, stored: StoredCells, changed: Iterable[CellKey]
) -> dict[HourKey, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Hours whose sums differ although none of their cells does: (before, after).

    Sums follow from cells: they are written again with them, and writing them is never a conflict.
    """
    expected = {key.hour for key in changed}
    sums = hour_sums((key, count.row_values()[0]) for key, count in counted.cells.items())
    return {
        hour: (before, after)
        for hour in (stored.hours.keys() | sums.keys()) - expected
        if (before := tuple(stored.hours.get(hour, _NO_SUMS))) != (after := tuple(sums.get(hour, _NO_SUMS)))
    }


def _compare_cells(
    counted: Mapping[Key, Count],
    stored: Mapping[Key, Stored],
    version: int,
    conflicts: dict[str, int],
    *,
    events: bool = True,
) -> dict[Key, tuple[Value, Value]]:
    """Cells that differ: (before, after). Values at a lower version that are smaller are only older ones."""
    differing: dict[Key, tuple[Value, Value]] = {}
    for key, count in counted.items():
        after = Value(*count.row_values()) if events else Value(count.row_values()[0], 0)
        held = stored.get(key)
        before = _NOTHING if held is None else Value(held.quantity, held.events)
        if before == after:
            continue
        differing[key] = before, after
        if held is not None and (held.version >= version or not _is_older(before, after, events=events)):
            _note(conflicts, "cells with another count")
    for key, held in stored.items():
        if key not in counted and (held.quantity or held.events):
            differing[key] = Value(held.quantity, held.events), _NOTHING
            _note(conflicts, "cells that the log does not give")
    return differing


def _is_older(before: Value, after: Value, *, events: bool) -> bool:
    return before.quantity <= after.quantity and (not events or before.events < after.events)


def _note(conflicts: dict[str, int], what: str) -> None:
    conflicts[what] = conflicts.get(what, 0) + 1
