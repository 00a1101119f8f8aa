"""The open chunk of a source: cells that always hold whole counts from the chunk's first offset on."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from orgstats.consumer.counting.cell_table import Cells, CellTable, CellView, Columns, Taken
from orgstats.consumer.counting.cells import COUNTS, FAMILIES, CountKey, Family, HourKey, Key, Stored, erased_key
from orgstats.consumer.counting.source import BEYOND_ALL, next_offset_of, revision_of, version_of
from orgstats.schemas.outcomes import DEFAULT_CATEGORY

if TYPE_CHECKING:
    from orgstats.consumer.counting.fast_path import FastPath

try:
    from orgstats.consumer.counting.fast_path import CompiledCells
except ImportError:  # there was no C compiler
    CompiledCells = None  # type: ignore[assignment,misc]

MAX_REASONS: Final = 1000
"""Distinct reasons that a chunk keeps, in offset order; later ones become `other`."""
MAX_REASON_LENGTH: Final = 64
OTHER_REASON: Final = "other"


class Tally(NamedTuple):
    """What events of one kind have in common, as on the wire; equal events are counted together.

    `bucket` is the start of the 10 s in epoch seconds. None means what it means on the wire.
    """

    org_id: int | None
    project_id: int | None
    key_id: int | None
    bucket: int
    category: int | None
    outcome: int
    reason: str | None
    quantity: int | None


Share = tuple[CellView, int]
"""A cell that a tally counts in, and the place of its quantity among the values."""

Row = tuple[Key, tuple[int, ...]]
"""What is stored of a cell, but for the version: key, values."""


@dataclass(frozen=True, slots=True)
class ChunkChanges:
    """Cells of one chunk that were touched since they were last stored, with the version to store them at.

    `taken` is what they hold at that version; counting goes on meanwhile. `days` are the starts of the days that no
    earlier flush told to have cells of this chunk, epoch seconds.
    """

    chunk: "Chunk"
    version: int
    days: frozenset[int]
    taken: Taken

    @property
    def columns(self) -> Columns:
        """What is to be stored; made when it is first asked for, so that this can be on another thread."""
        return self.taken.columns()

    @property
    def rows(self) -> Mapping[Family, list[Row]]:
        """The columns by the row."""
        return {
            family: [
                (family.key(*row[: -len(family.values)]), row[-len(family.values) :])
                for row in zip(*columns, strict=True)
            ]
            for family, columns in self.columns.items()
        }


class Chunk:
    """Cells of one chunk, from its first offset to `next_offset`, by family and key.

    Pure: what it holds at a position is a function of the log, the rules and the settings that the fingerprint covers.
    Without `projects` every project, and with it every key of a client, is 0. `end` is the first offset after the
    chunk, where that matters. Events of `erased` organizations count as `erased_key` says. `table` keeps the cells: the
    compiled one where there is one.
    """

    def __init__(
        self,
        first_offset: int,
        revision: int = 0,
        *,
        end: int = BEYOND_ALL,
        projects: bool = True,
        erased: Collection[int] = frozenset(),
        table: CellTable | None = None,
    ) -> None:
        self.first_offset = first_offset
        self.end = end
        self.revision = revision
        self.next_offset = first_offset
        self.skip_until = 0
        self._table: CellTable = table or (Cells() if CompiledCells is None else CompiledCells())
        self._projects = projects
        self._erased = frozenset(erased)
        self._days_stored: set[int] = set()
        self._shares: dict[tuple[int | str | None, ...], tuple[Share, ...]] = {}
        self._reasons: set[str] = {""}
        self._seldom_by_itself = False

    @property
    def cells(self) -> Mapping[Family, Mapping[Key, CellView]]:
        """All its cells, by family and key."""
        return {family: self._table.of(family) for family in FAMILIES}

    def count(self, family: Family) -> int:
        """How many cells there are of a family."""
        return self._table.count(family)

    @property
    def takes_kinds(self) -> bool:
        """Whether `add_kinds` can be asked: its cells are compiled, too."""
        return CompiledCells is not None and isinstance(self._table, CompiledCells)

    @property
    def version(self) -> int:
        """Version of a row that is written now."""
        return version_of(self.revision, self.next_offset)

    @property
    def changed(self) -> bool:
        """Whether there is anything to store, be it only in a family that is written seldom."""
        return self._table.changed

    def load(
        self,
        stored: Mapping[Family, Mapping[Key, Stored]],
        revision: int = 0,
        cut_at: int = BEYOND_ALL,
        *,
        closed: bool = False,
    ) -> None:
        """Start from stored cells, because retention has deleted the head of the chunk.

        For each cell, events below the position that its stored version holds are skipped afterwards; this is
        exact also after a torn flush, when the cells were stored up to different positions. What is written seldom may
        be further behind than that: it is added up of the cells of `counts`, and takes an event when its cell of
        `counts` does. Not so of a `closed` chunk, where it is whole, and cells of `counts` may be what was lost.

        Cells older than `revision` were counted before the log was cut back at `cut_at`: they hold none of the
        events from there on, and are written anew.

        An erased organization that has events in it goes on as ever in this chunk: its events are all in the one place
        or all in the other, so that `orgstats orgs erase` can move them once the chunk is closed.
        """

        def counted_to(version: int) -> int:
            reached = next_offset_of(version)
            return reached if revision_of(version) >= revision else min(reached, cut_at)

        versions = [one.version for cells in stored.values() for one in cells.values()]
        self.revision = max([self.revision, revision, *map(revision_of, versions)])
        self.skip_until = max([0, *map(counted_to, versions)])
        for family, cells in stored.items():
            for key, one in cells.items():
                cell = self._table.cell(family, key)
                cell.values, cell.counted_to = list(one.values), counted_to(one.version)
                if isinstance(key, CountKey | HourKey):
                    self._reasons.add(key.reason)
                if revision_of(one.version) < revision:
                    self._table.touch(cell)
        self._erased -= {key.org_id for key, cell in self._table.of(COUNTS).items() if any(cell.values)}
        self._seldom_by_itself = closed
        for family in FAMILIES:
            if family.seldom and not closed:
                self._add_up(family)

    def _add_up(self, family: Family) -> None:
        sums: dict[Key, list[int]] = {}
        for finest, cell in self._table.of(COUNTS).items():
            values = cell.values
            for key, _ in family.shares(cast("CountKey", finest)):
                before = sums.get(key, [0] * len(values))
                sums[key] = [one + another for one, another in zip(before, values, strict=True)]
        for key in {*self._table.of(family), *sums}:
            cell = self._table.cell(family, key)
            values = sums.get(key, [0] * len(family.values))
            if cell.values != values:
                cell.values = values
                self._table.touch(cell)

    def add(self, tallies: Iterable[tuple[Tally, int]]) -> None:
        """Count events: (what they have in common, how many), first seen first. Where there are none of a tally, it
        only has its reason take its place among the first ones.

        Only for events at or beyond `skip_until`; see `add_one` for those before.
        """
        known, add = self._shares, self._table.add
        for tally, events in tallies:
            if not events:
                self._admit(tally.reason)
                continue
            quantity = 1 if tally.quantity is None else tally.quantity
            for cell, at in known.get(tally[:-1]) or self._shares_of(tally):
                add(cell, at, quantity, events)

    def add_kinds(self, fast: "FastPath") -> Counter[int]:
        """Count what the fast path has counted, all of whose reasons have their place; how many events, by outcome."""
        table = cast("CompiledCells", self._table)
        return table.add_kinds(fast, self._admit, self._erased, projects=self._projects)

    def add_one(self, tally: Tally, offset: int) -> None:
        """Count one event below `skip_until`, in each cell that does not hold it yet."""
        quantity = 1 if tally.quantity is None else tally.quantity
        shares = self._shares_of(tally)
        finest = shares[0][0]
        for cell, at in shares:
            by_counts = cell.family.seldom and not self._seldom_by_itself
            if offset >= (finest if by_counts else cell).counted_to:
                self._table.add(cell, at, quantity, 1)

    def overwrite(self, stored: Mapping[Family, Iterable[Key]]) -> None:
        """Write each stored cell anew; a stale cell, which this count did not produce, as zero."""
        for family, keys in stored.items():
            for key in keys:
                self._table.touch(self._table.cell(family, key))

    def take(self, *, seldom: bool = True) -> ChunkChanges:
        """What to store now; it counts as stored unless `not_stored` is called with it.

        Without `seldom` the families that are written seldom stay as they are, still to be stored.
        """
        taken = self._table.take(seldom=seldom)
        days = self._table.days()
        new, self._days_stored = frozenset(days - self._days_stored), days
        return ChunkChanges(self, self.version, new, taken)

    def not_stored(self, changes: ChunkChanges) -> None:
        """Storing failed, perhaps halfway."""
        self._days_stored -= changes.days
        self._table.touch_again(changes.taken)

    def _shares_of(self, tally: Tally) -> tuple[Share, ...]:
        """The cells that a tally counts in, remembered unless its reason is stored as another: those have no end."""
        reason = self._admit(tally.reason)
        key = CountKey(
            tally.org_id or 0,
            tally.bucket,
            (tally.project_id or 0) if self._projects else 0,
            (tally.key_id or 0) if self._projects else 0,
            DEFAULT_CATEGORY if tally.category is None else tally.category,
            tally.outcome,
            reason,
        )
        if key.org_id in self._erased:
            key = erased_key(key)
        found: list[Share] = []
        for family in FAMILIES:
            for own_key, at in family.shares(key):
                found.append((self._table.cell(family, own_key), at))
        shares = tuple(found)
        if reason == (tally.reason or ""):
            self._shares[tally[:-1]] = shares
        return shares

    def _admit(self, reason: str | None) -> str:
        """The reason as stored: cut, and `other` once the chunk has seen its share of distinct ones."""
        if not reason:
            return ""
        reason = reason[:MAX_REASON_LENGTH]
        if reason not in self._reasons:
            if len(self._reasons) > MAX_REASONS:  # the empty reason is not one of them
                return OTHER_REASON
            self._reasons.add(reason)
        return reason
