"""What the audit takes for a difference between tables, and what a gap may have left."""

import pytest

from orgstats.consumer.counting.cells import (
    COUNTS,
    HOURLY,
    TOTALS,
    CountKey,
    HourKey,
    Key,
    Stored,
    StoredChunk,
    TotalKey,
)
from orgstats.consumer.counting.grid import CHUNK_LENGTH
from orgstats.consumer.counting.reference import ReferenceCounts
from orgstats.consumer.ops.audit_rules import ChunkExtent, cells, roll_ups

BUCKET = 1_700_000_000
HOUR = BUCKET // 3600 * 3600
KEYS = [CountKey(1, BUCKET, 7, 4, 1, 0, ""), *(CountKey(1, BUCKET + 10 * at, 7, 3, 1, 0, "") for at in range(2))]


def chunk(hourly: tuple[int, int], totals: int) -> StoredChunk:
    """Three cells of 5 quantity and 2 events each, two of them of two keys in one bucket, and their roll-ups as given.

    Those by 10 s are right.
    """
    shown: dict[Key, Stored] = {TotalKey(1, 10, BUCKET + 10 * at): Stored((10 - 5 * at, 0, 0), 9) for at in range(2)}
    shown[TotalKey(1, 3600, HOUR)] = Stored((totals, 0, 0), 9)
    return StoredChunk(
        {
            COUNTS: {key: Stored((5, 2), 9) for key in KEYS},
            HOURLY: {HourKey(1, HOUR, 7, 1, 0, ""): Stored(hourly, 9)},
            TOTALS: shown,
        }
    )


def found(
    stored: StoredChunk, *gaps: tuple[int, int], expired_before: int = 0, hourly_end: int = CHUNK_LENGTH
) -> list[str]:
    """Tables of the differences."""
    extent = ChunkExtent(0, CHUNK_LENGTH, 0, gaps, expired_before, hourly_end)
    return [difference.table for difference in roll_ups(extent, stored)]


def test_every_roll_up_is_the_sum_of_its_cells() -> None:
    """A quantity or a number of events that is not the sum is a difference, unless its age explains it."""
    assert found(chunk((15, 6), 15)) == []
    assert found(chunk((14, 6), 15)) == ["hourly"]
    assert found(chunk((15, 5), 15)) == ["hourly"]
    assert found(chunk((15, 6), 16)) == ["totals"]
    assert found(chunk((14, 6), 16), expired_before=BUCKET + 3600) == []


@pytest.mark.parametrize(("behind", "tables"), [(2, []), (1, ["hourly"])])
def test_hourly_may_lack_what_it_is_behind(behind: int, tables: list[str]) -> None:
    """As many events as there are offsets that it is not written for yet, and no more; `totals` is not behind."""
    end = CHUNK_LENGTH - behind
    assert found(chunk((10, 4), 15), hourly_end=end) == tables
    assert found(chunk((10, 6), 15), hourly_end=end) == ["hourly"]
    assert found(chunk((15, 6), 10), hourly_end=end) == ["totals"]


@pytest.mark.parametrize(
    ("gap", "tables"), [((100, 102), []), ((100, 101), ["hourly"]), ((1 << 20, 1 << 21), ["hourly", "totals"])]
)
def test_a_gap_leaves_no_more_than_it_lists(gap: tuple[int, int], tables: list[str]) -> None:
    """As many events as offsets are listed in the chunk may be in one table and not in another, and no more."""
    assert found(chunk((10, 4), 10), gap) == tables


@pytest.mark.parametrize(
    ("expired_before", "tables"), [(0, ["dead_letters"]), (BUCKET, ["dead_letters"]), (BUCKET + 1, [])]
)
def test_a_dead_letter_that_may_have_been_deleted_with_age_is_not_missed(
    expired_before: int, tables: list[str]
) -> None:
    """One of a record that is younger than retention is a difference."""
    given = ReferenceCounts(1, dead={5: "empty"}, dead_ms={5: BUCKET * 1000})
    extent = ChunkExtent(0, CHUNK_LENGTH, 0, (), expired_before)
    assert [difference.table for difference in cells(extent, StoredChunk(), given, given)] == tables
