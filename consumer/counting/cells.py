"""The three families of cells, all by one rule: a key, the whole count of it in one chunk, a version.

Whatever is done with cells (counted, stored, loaded, zeroed, compared, replayed, undone) goes through `FAMILIES`, in
their order, which is the one in which they are stored. The SQL of each table says what it is for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from orgstats.consumer.counting.source import next_offset_of, revision_of
from orgstats.schemas.outcomes import BUCKET_SECONDS, HOUR_SECONDS, STAT_CATEGORIES, STAT_OUTCOMES

_SHOWN: Final = tuple(map(int, STAT_OUTCOMES["received"]))
"""Outcomes 0, 1 and 2: the values of a cell of `totals`, in this order."""


class CountKey(NamedTuple):
    """Key of a cell of `counts` within one chunk; `bucket` is the start of its 10 s, `key_id` 0 without one."""

    org_id: int
    bucket: int
    project_id: int
    key_id: int
    category: int
    outcome: int
    reason: str


class HourKey(NamedTuple):
    """Key of a cell of `hourly` within one chunk; `bucket` is the start of its hour, of all keys of the project."""

    org_id: int
    bucket: int
    project_id: int
    category: int
    outcome: int
    reason: str


class TotalKey(NamedTuple):
    """Key of a cell of `totals` within one chunk; `width` in seconds, `bucket` its start."""

    org_id: int
    width: int
    bucket: int


Key = CountKey | HourKey | TotalKey


class Stored(NamedTuple):
    """A cell as ClickHouse holds it: of its rows the one with the highest version."""

    values: tuple[int, ...]
    version: int


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """The cells of one table, whose columns are key, source_id, chunk, values, version.

    `shares` says of the finest key of an event in which cells it counts: (key, which of the values its quantity is
    added to). `events` is the place of the number of events among the values; 0 where they are not counted. A family
    that is written `seldom` has the values of `counts` and is made of them where it is behind.
    """

    table: str
    key: type[CountKey] | type[HourKey] | type[TotalKey]
    values: tuple[str, ...]
    events: int
    shares: Callable[[CountKey], Sequence[tuple[Key, int]]]
    seldom: bool = False

    @property
    def replaced(self) -> str:
        """The table of cells as they were before a repair."""
        return f"replaced_{self.table}"


def _finest(key: CountKey) -> Sequence[tuple[Key, int]]:
    return ((key, 0),)


def _by_hour(key: CountKey) -> Sequence[tuple[Key, int]]:
    org_id, bucket, project_id, _, category, outcome, reason = key
    return ((HourKey(org_id, bucket - bucket % HOUR_SECONDS, project_id, category, outcome, reason), 0),)


def _totals(key: CountKey) -> Sequence[tuple[Key, int]]:
    org_id, bucket, _, _, category, outcome, _ = key
    if category not in STAT_CATEGORIES or outcome not in _SHOWN:
        return ()
    at = _SHOWN.index(outcome)
    hour = bucket - bucket % HOUR_SECONDS
    return (TotalKey(org_id, BUCKET_SECONDS, bucket), at), (TotalKey(org_id, HOUR_SECONDS, hour), at)


COUNTS: Final = Family("counts", CountKey, ("quantity", "events"), 1, _finest)
HOURLY: Final = Family("hourly", HourKey, ("quantity", "events"), 1, _by_hour, seldom=True)
TOTALS: Final = Family("totals", TotalKey, ("accepted", "filtered", "rate_limited"), 0, _totals)
FAMILIES: Final = (COUNTS, HOURLY, TOTALS)


class StoredDead(NamedTuple):
    """A dead letter as stored."""

    code: str
    text: str
    withdrawn: bool
    version: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """What ClickHouse holds of one chunk: cells by family, dead letters by offset, withdrawn ones too."""

    cells: Mapping[Family, Mapping[Key, Stored]] = field(default_factory=lambda: {family: {} for family in FAMILIES})
    dead: Mapping[int, StoredDead] = field(default_factory=dict)

    @property
    def revision(self) -> int:
        """The highest revision that wrote any of it."""
        return max(map(revision_of, [*self._versions(), *(one.version for one in self.dead.values())]), default=0)

    @property
    def reached(self) -> int:
        """The highest position that any of its cells is stored up to; 0 without any."""
        return max(map(next_offset_of, self._versions()), default=0)

    def _versions(self) -> list[int]:
        return [one.version for cells in self.cells.values() for one in cells.values()]
