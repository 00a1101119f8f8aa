"""The three families of cells, all by one rule: a key, the whole count of it in one chunk, a version.

Whatever is done with cells (counted, stored, loaded, zeroed, compared, replayed, undone) goes through `FAMILIES`, in
their order, which is the one in which they are stored. The SQL of each table says what it is for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from orgstats.consumer.counting.source import next_offset_of, revision_of
from orgstats.schemas.outcomes import BUCKET_SECONDS, DAY_SECONDS, HOUR_SECONDS, STAT_CATEGORIES, STAT_OUTCOMES

SHOWN: Final = tuple(map(int, STAT_OUTCOMES["received"]))
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
    if category not in STAT_CATEGORIES or outcome not in SHOWN:
        return ()
    at = SHOWN.index(outcome)
    hour = bucket - bucket % HOUR_SECONDS
    return (TotalKey(org_id, BUCKET_SECONDS, bucket), at), (TotalKey(org_id, HOUR_SECONDS, hour), at)


COUNTS: Final = Family("counts", CountKey, ("quantity", "events"), 1, _finest)
HOURLY: Final = Family("hourly", HourKey, ("quantity", "events"), 1, _by_hour, seldom=True)
TOTALS: Final = Family("totals", TotalKey, ("accepted", "filtered", "rate_limited"), 0, _totals)
FAMILIES: Final = (COUNTS, HOURLY, TOTALS)


ERASED_CATEGORY: Final = 255
ERASED_REASON: Final = "erased"


@lru_cache(maxsize=1 << 12)
def erased_mark(org_id: int) -> int:
    """What stands for an erased organization in the place of a project: above every id that an event can carry."""
    return 1 << 63 | int.from_bytes(blake2b(b"erased %d" % org_id, digest_size=8).digest())


def erased_key(key: CountKey) -> CountKey:
    """The cell in which an event of an erased organization counts: of all that it was only its day is left.

    It belongs to no organization and is in no stat. Without it nobody could check that every record was counted.
    """
    day = key.bucket - key.bucket % DAY_SECONDS
    return CountKey(0, day, erased_mark(key.org_id), 0, ERASED_CATEGORY, 0, ERASED_REASON)


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

    def holds(self, org_ids: Collection[int]) -> frozenset[int]:
        """Which of these organizations have events in it."""
        return frozenset(
            key.org_id for key, one in self.cells[COUNTS].items() if key.org_id in org_ids and any(one.values)
        )

    def without_moved(self, org_ids: Collection[int]) -> "StoredChunk":
        """The same without the cells of organizations whose day is counted as erased already.

        They are not deleted yet, or a consumer that was cut off has stored them again.
        """
        marks = {erased_mark(org_id): org_id for org_id in org_ids}
        moved = {
            (marks[key.project_id], key.bucket)
            for key, one in self.cells[COUNTS].items()
            if isinstance(key, CountKey) and key.org_id == 0 and key.project_id in marks and any(one.values)
        }
        if not moved:
            return self
        return self._only(lambda key, _: (key.org_id, key.bucket - key.bucket % DAY_SECONDS) not in moved)

    def without_zeros_of(self, org_ids: Collection[int]) -> "StoredChunk":
        """The same without the cells of organizations that are 0: they may be deleted while this is looked at."""
        if not org_ids:
            return self
        return self._only(lambda key, one: key.org_id not in org_ids or any(one.values))

    def _only(self, kept: Callable[[Key, Stored], bool]) -> "StoredChunk":
        cells = {family: {key: one for key, one in its.items() if kept(key, one)} for family, its in self.cells.items()}
        return StoredChunk(cells, self.dead)

    def _versions(self) -> list[int]:
        return [one.version for cells in self.cells.values() for one in cells.values()]
