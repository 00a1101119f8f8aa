"""The cells of one chunk, and which of them are still to be stored: plain here, compiled in `compiled_cells.pyx`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from orgstats.consumer.counting.cells import FAMILIES, Family, Key
from orgstats.schemas.outcomes import DAY_SECONDS

_UINT64_MAX: Final = (1 << 64) - 1

Columns = Mapping[Family, Sequence[Sequence[Any]]]
"""What cells hold, by family: a list or array for each part of the key, then for each of the values as stored."""


class CellView(Protocol):
    """What can be asked of a cell, and set. Events below `counted_to` are already in it and are skipped."""

    values: list[int]
    counted_to: int

    @property
    def family(self) -> Family: ...
    @property
    def key(self) -> Key: ...
    @property
    def changed(self) -> bool: ...
    def row_values(self) -> tuple[int, ...]: ...


class Taken(Protocol):
    """Cells that are to be stored."""

    def __len__(self) -> int: ...
    def columns(self) -> Columns:
        """What they held when they were taken; counting may go on meanwhile, on another thread."""
        ...


class CellTable(Protocol):
    """The two tables have this in common, and what they do is the same, by test."""

    @property
    def changed(self) -> bool: ...
    def count(self, family: Family) -> int: ...
    def days(self) -> set[int]: ...
    def of(self, family: Family) -> Mapping[Key, CellView]: ...
    def cell(self, family: Family, key: Key) -> CellView: ...
    def add(self, cell: Any, at: int, quantity: int, events: int) -> None: ...
    def touch(self, cell: Any) -> None: ...
    def touch_again(self, taken: Any) -> None: ...
    def take(self, *, seldom: bool) -> Taken: ...


class Cell:
    """Whole count of one key; `changed` as long as it is among the cells to be stored."""

    __slots__ = ("changed", "counted_to", "family", "key", "values")

    def __init__(self, family: Family, key: Key, values: list[int]) -> None:
        self.family = family
        self.key = key
        self.values = values
        self.counted_to = 0
        self.changed = False

    def row_values(self) -> tuple[int, ...]:
        """The values as stored: held at UInt64's maximum instead of wrapping."""
        if max(self.values) > _UINT64_MAX:
            return tuple([min(value, _UINT64_MAX) for value in self.values])
        return tuple(self.values)


class TakenCells:
    """What the plain table hands out."""

    def __init__(self, cells: Sequence[Cell], columns: Columns) -> None:
        self.cells = cells
        self._columns = columns

    def __len__(self) -> int:
        return len(self.cells)

    def columns(self) -> Columns:
        """As they were."""
        return self._columns


class Cells:
    """The plain table: what the compiled one is compared with, and the one there is without a compiler."""

    def __init__(self) -> None:
        self._cells: dict[Family, dict[Key, Cell]] = {family: {} for family in FAMILIES}
        self._changed: list[Cell] = []
        self._days: set[int] = set()

    @property
    def changed(self) -> bool:
        """Whether any cell is still to be stored."""
        return bool(self._changed)

    def count(self, family: Family) -> int:
        """How many there are of a family."""
        return len(self._cells[family])

    def days(self) -> set[int]:
        """Starts of the days that there are cells of, epoch seconds."""
        return set(self._days)

    def of(self, family: Family) -> Mapping[Key, Cell]:
        """The cells of a family, by key."""
        return self._cells[family]

    def cell(self, family: Family, key: Key) -> Cell:
        """The cell of a key, made if there is none."""
        found = self._cells[family].get(key)
        if found is None:
            found = self._cells[family][key] = Cell(family, key, [0] * len(family.values))
            self._days.add(key.bucket - key.bucket % DAY_SECONDS)
        return found

    def add(self, cell: Cell, at: int, quantity: int, events: int) -> None:
        """Add so many events to a cell, each with a quantity that goes to one of the values."""
        cell.values[at] += quantity * events
        if cell.family.events:
            cell.values[cell.family.events] += events
        self.touch(cell)

    def touch(self, cell: Cell) -> None:
        """It is to be stored, whether it has changed or not."""
        if not cell.changed:
            cell.changed = True
            self._changed.append(cell)

    def touch_again(self, taken: TakenCells) -> None:
        """What was taken is to be stored again."""
        for cell in taken.cells:
            self.touch(cell)

    def take(self, *, seldom: bool) -> TakenCells:
        """The cells that are to be stored, of all families or without those that are written `seldom`."""
        cells, later = self._changed, []
        if not seldom:
            cells, later = [one for one in cells if not one.family.seldom], [one for one in cells if one.family.seldom]
        self._changed = later
        rows: dict[Family, list[tuple[Any, ...]]] = {family: [] for family in FAMILIES}
        for cell in cells:
            cell.changed = False
            rows[cell.family].append((*cell.key, *cell.row_values()))
        columns = {family: [list(column) for column in zip(*its, strict=True)] for family, its in rows.items()}
        return TakenCells(cells, columns)
