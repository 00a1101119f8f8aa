"""The open chunk of a source: cells that always hold whole counts from the chunk's first offset on."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from orgstats.consumer.counting.source import CHUNK_LENGTH, next_offset_of, revision_of, version_of
from orgstats.schemas.outcomes import DEFAULT_CATEGORY, STAT_CATEGORIES, STAT_OUTCOMES

MAX_REASONS: Final = 1000
"""Distinct reasons that a chunk keeps, in offset order; later ones become `other`."""
MAX_REASON_LENGTH: Final = 64
OTHER_REASON: Final = "other"
_UINT64_MAX: Final = (1 << 64) - 1
_BEYOND_ALL: Final = 1 << 48
_HOUR: Final = 3600
_SUMMED: Final = tuple(map(int, STAT_OUTCOMES["received"]))
"""Outcomes 0, 1 and 2: the columns of `hour_counts`."""

Key = TypeVar("Key")


class Tally(NamedTuple):
    """What events of one kind have in common, as on the wire; equal events are counted together.

    `bucket` is the start of the 10 s in epoch seconds. None means what it means on the wire.
    """

    org_id: int | None
    project_id: int | None
    bucket: int
    category: int | None
    outcome: int
    reason: str | None
    quantity: int | None


class HourKey(NamedTuple):
    """Key of a row of `hour_counts` within one chunk of one source; `bucket` is the start of the hour."""

    org_id: int
    bucket: int


class CellKey(NamedTuple):
    """Key of a row of `counts` within one chunk of one source."""

    org_id: int
    bucket: int
    category: int
    outcome: int
    reason: str

    @property
    def hour(self) -> HourKey:
        """The hour in whose sums the cell is, if it is in any."""
        return HourKey(self.org_id, self.bucket - self.bucket % _HOUR)


class ProjectKey(NamedTuple):
    """Key of a row of `project_counts` within one chunk of one source."""

    org_id: int
    project_id: int
    bucket: int
    category: int
    outcome: int


class HourCount(NamedTuple):
    """Whole sums over the cells of an hour, of the outcomes and categories that the endpoint shows."""

    key: HourKey
    accepted: int
    filtered: int
    rate_limited: int


class Count:
    """Whole count of one cell; events below `counted_to` are already in it and are skipped.

    `summed` is what the sum of its hour holds of the quantity.
    """

    __slots__ = ("counted_to", "events", "quantity", "summed")

    def __init__(self, quantity: int = 0, events: int = 0, counted_to: int = 0) -> None:
        self.quantity = quantity
        self.events = events
        self.counted_to = counted_to
        self.summed = 0

    def row_values(self) -> tuple[int, int]:
        """(quantity, events), quantity held at UInt64's maximum instead of wrapping."""
        return min(self.quantity, _UINT64_MAX), self.events

    def unsummed(self) -> int:
        """What the quantity, as it is stored, has more than it had when this was last asked."""
        quantity = min(self.quantity, _UINT64_MAX)
        more, self.summed = quantity - self.summed, quantity
        return more


class Stored(NamedTuple):
    """A cell as ClickHouse holds it: of its rows the one with the highest version."""

    quantity: int
    events: int
    version: int


class Chunk:
    """Cells of one chunk, from its first offset to `next_offset`.

    Pure: what it holds at a position is a function of the log, the rules and the settings that the fingerprint
    fingerprint covers. `changed` and `changed_projects` are the cells that were touched since they were last
    handed out for storing.
    """

    def __init__(self, first_offset: int, revision: int = 0, *, projects: bool = True) -> None:
        self.first_offset = first_offset
        self.revision = revision
        self.next_offset = first_offset
        self.skip_until = 0
        self.cells: dict[CellKey, Count] = {}
        self.project_cells: dict[ProjectKey, Count] | None = {} if projects else None
        self.changed: set[CellKey] = set()
        self.changed_projects: set[ProjectKey] = set()
        self.changed_hours: set[HourKey] = set()
        self._hours: dict[HourKey, list[int]] = {}
        self._reasons: set[str] = {""}

    @property
    def end(self) -> int:
        """First offset after the chunk."""
        return self.first_offset + CHUNK_LENGTH

    @property
    def version(self) -> int:
        """Version of a row that is written now."""
        return version_of(self.revision, self.next_offset)

    def load(
        self,
        cells: Mapping[CellKey, Stored],
        project_cells: Mapping[ProjectKey, Stored],
        revision: int = 0,
        cut_at: int = _BEYOND_ALL,
    ) -> None:
        """Start from stored cells, because retention has deleted the head of the chunk.

        For each cell, events below the position that its stored version holds are skipped afterwards; this is
        exact also after a torn flush, when the cells were stored up to different positions. The hours are
        stored again, since their sums are written after the cells.

        Cells older than `revision` were counted before the log was cut back at `cut_at`: they hold none of the
        events from there on, and are written anew.
        """

        def counted_to(version: int) -> int:
            reached = next_offset_of(version)
            return reached if revision_of(version) >= revision else min(reached, cut_at)

        versions = [stored.version for stored in (*cells.values(), *project_cells.values())]
        self.revision = max([self.revision, revision, *map(revision_of, versions)])
        self.skip_until = max([0, *map(counted_to, versions)])
        for key, stored in cells.items():
            self.cells[key] = Count(stored.quantity, stored.events, counted_to(stored.version))
            self._reasons.add(key.reason)
            if revision_of(stored.version) < revision:
                self.changed.add(key)
        if self.project_cells is not None:
            for project_key, stored in project_cells.items():
                count = Count(stored.quantity, stored.events, counted_to(stored.version))
                self.project_cells[project_key] = count
                if revision_of(stored.version) < revision:
                    self.changed_projects.add(project_key)
        self._sum_hours(cells)

    def add(self, tallies: Iterable[tuple[Tally, int]]) -> None:
        """Count events: (what they have in common, how many), first seen first.

        Only for events at or beyond `skip_until`; see `add_one` for those before.
        """
        for tally, events in tallies:
            key, project_key = self._keys(tally)
            quantity = events * (1 if tally.quantity is None else tally.quantity)
            _bump(self.cells, self.changed, key, quantity, events)
            if self.project_cells is not None:
                _bump(self.project_cells, self.changed_projects, project_key, quantity, events)

    def add_one(self, tally: Tally, offset: int) -> None:
        """Count one event below `skip_until`, in each cell that does not hold it yet."""
        key, project_key = self._keys(tally)
        quantity = 1 if tally.quantity is None else tally.quantity
        if key not in self.cells or offset >= self.cells[key].counted_to:
            _bump(self.cells, self.changed, key, quantity, 1)
        if self.project_cells is not None and (
            project_key not in self.project_cells or offset >= self.project_cells[project_key].counted_to
        ):
            _bump(self.project_cells, self.changed_projects, project_key, quantity, 1)

    def overwrite(self, cells: Iterable[CellKey], project_cells: Iterable[ProjectKey]) -> None:
        """Write each stored cell anew; a stale cell, which this count did not produce, as zero."""
        for key in cells:
            _bump(self.cells, self.changed, key, 0, 0)
        if self.project_cells is not None:
            for project_key in project_cells:
                _bump(self.project_cells, self.changed_projects, project_key, 0, 0)

    def take_hours(self, changed: Iterable[CellKey]) -> list[HourCount]:
        """Whole sums of the hours to be stored again, now that these cells have changed.

        Below `skip_until` none: a sum over cells that were stored up to different positions has no version.
        """
        self._sum_hours(changed)
        if self.next_offset < self.skip_until:
            return []
        hours, self.changed_hours = self.changed_hours, set()
        return [HourCount(hour, *self._hours[hour]) for hour in hours]

    def _sum_hours(self, changed: Iterable[CellKey]) -> None:
        for hour, more in hour_sums((key, self.cells[key].unsummed()) for key in changed).items():
            sums = self._hours.setdefault(hour, [0] * len(_SUMMED))
            sums[:] = map(int.__add__, sums, more)
            self.changed_hours.add(hour)

    def _keys(self, tally: Tally) -> tuple[CellKey, ProjectKey]:
        org_id = tally.org_id or 0
        category = DEFAULT_CATEGORY if tally.category is None else tally.category
        reason = self._admit(tally.reason)
        return (
            CellKey(org_id, tally.bucket, category, tally.outcome, reason),
            ProjectKey(org_id, tally.project_id or 0, tally.bucket, category, tally.outcome),
        )

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


def hour_sums(cells: Iterable[tuple[CellKey, int]]) -> dict[HourKey, list[int]]:
    """Accepted, filtered and rate limited quantities by hour, of the categories that the endpoint shows."""
    sums: dict[HourKey, list[int]] = {}
    for (org_id, bucket, category, outcome, _), quantity in cells:
        if category in STAT_CATEGORIES and outcome in _SUMMED:
            hour = HourKey(org_id, bucket - bucket % _HOUR)
            if hour not in sums:
                sums[hour] = [0] * len(_SUMMED)
            sums[hour][outcome] += quantity
    return sums


def _bump(cells: dict[Key, Count], changed: set[Key], key: Key, quantity: int, events: int) -> None:
    count = cells.get(key)
    if count is None:
        count = cells[key] = Count()
    count.quantity += quantity
    count.events += events
    changed.add(key)
