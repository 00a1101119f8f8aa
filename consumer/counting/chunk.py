"""The open chunk of a source: cells that always hold whole counts from the chunk's first offset on."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from orgstats.consumer.counting.cells import COUNTS, FAMILIES, CountKey, Family, HourKey, Key, Stored, erased_key
from orgstats.consumer.counting.source import BEYOND_ALL, next_offset_of, revision_of, version_of
from orgstats.schemas.outcomes import DAY_SECONDS, DEFAULT_CATEGORY

MAX_REASONS: Final = 1000
"""Distinct reasons that a chunk keeps, in offset order; later ones become `other`."""
MAX_REASON_LENGTH: Final = 64
OTHER_REASON: Final = "other"
_UINT64_MAX: Final = (1 << 64) - 1


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


class Cell:
    """Whole count of one key; events below `counted_to` are already in it and are skipped.

    `changed` as long as it is among the cells to be stored.
    """

    __slots__ = ("changed", "counted_to", "family", "key", "values")

    def __init__(self, family: Family, key: Key, values: list[int], counted_to: int = 0) -> None:
        self.family = family
        self.key = key
        self.values = values
        self.counted_to = counted_to
        self.changed = False

    def row_values(self) -> tuple[int, ...]:
        """The values as stored: held at UInt64's maximum instead of wrapping."""
        if max(self.values) > _UINT64_MAX:
            return tuple([min(value, _UINT64_MAX) for value in self.values])
        return tuple(self.values)


Share = tuple[Cell, int, int]
"""A cell that a tally counts in, the place of its quantity among the values, and that of its events, 0 for none."""

Row = tuple[Key, tuple[int, ...]]
"""What is stored of a cell, but for the version: key, values."""


@dataclass(frozen=True, slots=True)
class ChunkChanges:
    """Cells of one chunk that were touched since they were last stored, with the version to store them at.

    `rows` are what they hold now; counting goes on meanwhile. `days` are the starts of the days that no earlier flush
    told to have cells of this chunk, epoch seconds.
    """

    chunk: "Chunk"
    version: int
    days: frozenset[int]
    cells: list[Cell]
    rows: Mapping[Family, list[Row]]


class Chunk:
    """Cells of one chunk, from its first offset to `next_offset`, by family and key.

    Pure: what it holds at a position is a function of the log, the rules and the settings that the fingerprint covers.
    Without `projects` every project, and with it every key of a client, is 0. `end` is the first offset after the
    chunk, where that matters. Events of `erased` organizations count as `erased_key` says.
    """

    def __init__(
        self,
        first_offset: int,
        revision: int = 0,
        *,
        end: int = BEYOND_ALL,
        projects: bool = True,
        erased: Collection[int] = frozenset(),
    ) -> None:
        self.first_offset = first_offset
        self.end = end
        self.revision = revision
        self.next_offset = first_offset
        self.skip_until = 0
        self.cells: dict[Family, dict[Key, Cell]] = {family: {} for family in FAMILIES}
        self._projects = projects
        self._erased = frozenset(erased)
        self._changed: list[Cell] = []
        self._days: set[int] = set()
        self._days_stored: set[int] = set()
        self._shares: dict[tuple[int | str | None, ...], tuple[Share, ...]] = {}
        self._reasons: set[str] = {""}
        self._seldom_by_itself = False

    @property
    def version(self) -> int:
        """Version of a row that is written now."""
        return version_of(self.revision, self.next_offset)

    @property
    def changed(self) -> bool:
        """Whether there is anything to store, be it only in a family that is written seldom."""
        return bool(self._changed)

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
                cell = self._add_cell(Cell(family, key, list(one.values), counted_to(one.version)))
                if isinstance(key, CountKey | HourKey):
                    self._reasons.add(key.reason)
                if revision_of(one.version) < revision:
                    self._touch(cell)
        self._erased -= {key.org_id for key, cell in self.cells[COUNTS].items() if any(cell.values)}
        self._seldom_by_itself = closed
        for family in FAMILIES:
            if family.seldom and not closed:
                self._add_up(family)

    def _add_up(self, family: Family) -> None:
        sums: dict[Key, list[int]] = {}
        for finest, cell in self.cells[COUNTS].items():
            for key, _ in family.shares(cast("CountKey", finest)):
                before = sums.get(key, [0] * len(cell.values))
                sums[key] = [one + another for one, another in zip(before, cell.values, strict=True)]
        for key in {*self.cells[family], *sums}:
            cell = self._cell(family, key)
            values = sums.get(key, [0] * len(cell.values))
            if cell.values != values:
                cell.values = values
                self._touch(cell)

    def add(self, tallies: Iterable[tuple[Tally, int]]) -> None:
        """Count events: (what they have in common, how many), first seen first.

        Only for events at or beyond `skip_until`; see `add_one` for those before.
        """
        known, touched = self._shares, self._changed
        for tally, events in tallies:
            quantity = events if tally.quantity is None else events * tally.quantity
            for cell, at, events_at in known.get(tally[:-1]) or self._shares_of(tally):
                cell.values[at] += quantity
                if events_at:
                    cell.values[events_at] += events
                if not cell.changed:
                    cell.changed = True
                    touched.append(cell)

    def add_one(self, tally: Tally, offset: int) -> None:
        """Count one event below `skip_until`, in each cell that does not hold it yet."""
        quantity = 1 if tally.quantity is None else tally.quantity
        shares = self._shares_of(tally)
        finest = shares[0][0]
        for cell, at, events_at in shares:
            by_counts = cell.family.seldom and not self._seldom_by_itself
            if offset >= (finest if by_counts else cell).counted_to:
                cell.values[at] += quantity
                if events_at:
                    cell.values[events_at] += 1
                self._touch(cell)

    def overwrite(self, stored: Mapping[Family, Iterable[Key]]) -> None:
        """Write each stored cell anew; a stale cell, which this count did not produce, as zero."""
        for family, keys in stored.items():
            for key in keys:
                self._touch(self._cell(family, key))

    def take(self, *, seldom: bool = True) -> ChunkChanges:
        """What to store now; it counts as stored unless `not_stored` is called with it.

        Without `seldom` the families that are written seldom stay as they are, still to be stored.
        """
        cells, later = self._changed, []
        if not seldom:
            cells, later = [one for one in cells if not one.family.seldom], [one for one in cells if one.family.seldom]
        self._changed = later
        rows: dict[Family, list[Row]] = {family: [] for family in FAMILIES}
        for cell in cells:
            cell.changed = False
            rows[cell.family].append((cell.key, cell.row_values()))
        days, self._days_stored = frozenset(self._days - self._days_stored), set(self._days)
        return ChunkChanges(self, self.version, days, cells, rows)

    def not_stored(self, changes: ChunkChanges) -> None:
        """Storing failed, perhaps halfway."""
        self._days_stored -= changes.days
        for cell in changes.cells:
            self._touch(cell)

    def _touch(self, cell: Cell) -> None:
        if not cell.changed:
            cell.changed = True
            self._changed.append(cell)

    def _cell(self, family: Family, key: Key) -> Cell:
        return self.cells[family].get(key) or self._add_cell(Cell(family, key, [0] * len(family.values)))

    def _add_cell(self, cell: Cell) -> Cell:
        self.cells[cell.family][cell.key] = cell
        self._days.add(cell.key.bucket - cell.key.bucket % DAY_SECONDS)
        return cell

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
                found.append((self._cell(family, own_key), at, family.events))
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
