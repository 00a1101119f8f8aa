"""Cells hold whole counts, reasons are capped in offset order, stored cells are gone on from exactly."""

from typing import Any

import pytest

from orgstats.consumer.counting.cells import COUNTS, HOURLY, TOTALS, CountKey, Family, HourKey, Key, Stored, TotalKey
from orgstats.consumer.counting.chunk import MAX_REASONS, Chunk, Tally
from orgstats.consumer.counting.grid import CHUNK_LENGTH, Grid
from orgstats.consumer.counting.source import Source, next_offset_of, revision_of, version_of

pytestmark = pytest.mark.usefixtures("each_table")


def tally(reason: str | None = None, quantity: int | None = None, org_id: int | None = 1) -> Tally:
    return Tally(org_id, 7, 3, 1_700_000_000, None, 0, reason, quantity)


def held(chunk: Chunk, family: Family = COUNTS) -> dict[Key, tuple[int, ...]]:
    """Values by key."""
    return {key: cell.row_values() for key, cell in chunk.cells[family].items()}


def test_absent_fields_get_their_defaults() -> None:
    """A missing organization, project or key is 0, category error, quantity 1, reason the empty string."""
    chunk = Chunk(0)
    chunk.add([(tally(org_id=None)._replace(project_id=None, key_id=None), 3)])
    assert held(chunk) == {CountKey(0, 1_700_000_000, 0, 0, 1, 0, ""): (3, 3)}


def test_quantity_is_summed_and_events_are_counted() -> None:
    """An event adds its quantity to quantity and one to events."""
    chunk = Chunk(0)
    chunk.add([(tally(quantity=5), 2), (tally(quantity=0), 1)])
    assert (*held(chunk).values(), *held(chunk, HOURLY).values()) == ((10, 3), (10, 3))
    assert list(held(chunk, TOTALS).values()) == [(10, 0, 0)] * 2


def test_an_event_counts_in_its_ten_seconds_and_in_its_hour() -> None:
    """`counts` and `hourly` have every outcome; `totals` what the endpoint shows, in both widths."""
    chunk, hour = Chunk(0), 1_700_000_000 // 3600 * 3600
    events = [(0, 1, 5), (0, 3, 2), (1, None, 1), (2, 0, 7), (3, 1, 9), (0, 2, 9), (9, 1, 4)]
    for outcome, category, quantity in events:
        chunk.add([(Tally(1, 7, 3, 1_700_000_000 + 10 * outcome, category, outcome, None, quantity), 1)])
    assert held(chunk, TOTALS) == {
        TotalKey(1, 10, 1_700_000_000): (7, 0, 0),
        TotalKey(1, 10, 1_700_000_010): (0, 1, 0),
        TotalKey(1, 10, 1_700_000_020): (0, 0, 7),
        TotalKey(1, 3600, hour): (7, 1, 7),
    }
    assert held(chunk)[CountKey(1, 1_700_000_090, 7, 3, 1, 9, "")] == (4, 1)
    assert held(chunk, HOURLY) == {_hour(key): value for key, value in held(chunk).items() if isinstance(key, CountKey)}
    assert {key.bucket for key in held(chunk, HOURLY)} == {hour}


def test_without_projects_all_are_one() -> None:
    """Where projects are not counted each is 0, and so is each key of one; nothing else changes."""
    chunk = Chunk(0, projects=False)
    chunk.add([(tally(), 1), (tally()._replace(project_id=8), 1), (tally()._replace(key_id=4), 1)])
    assert held(chunk) == {CountKey(1, 1_700_000_000, 0, 0, 1, 0, ""): (3, 3)}


def test_keys_are_told_apart_in_the_finest_cells_only() -> None:
    """A cell of `counts` is of one key, or of none; the hour and what the endpoint shows have all keys together."""
    chunk = Chunk(0)
    chunk.add([(tally()._replace(key_id=key_id), events) for key_id, events in ((3, 5), (4, 2), (None, 1), (0, 1))])
    assert {key.key_id: events for key, (_, events) in held(chunk).items() if isinstance(key, CountKey)} == {
        3: 5,
        4: 2,
        0: 2,
    }
    assert list(held(chunk, HOURLY).values()) == [(9, 9)]
    assert list(held(chunk, TOTALS).values()) == [(9, 0, 0)] * 2


def test_a_sum_beyond_uint64_stays_at_its_maximum() -> None:
    """Quantities of up to 2^63-1 may add up to more than the column holds; it does not wrap, in no family."""
    chunk = Chunk(0)
    chunk.add([(tally("a", 2**63 - 1), 3), (tally("b", 2**63 - 1), 1)])
    assert sorted(held(chunk).values()) == [(2**63 - 1, 1), (2**64 - 1, 3)]
    assert list(held(chunk, TOTALS).values()) == [(2**64 - 1, 0, 0)] * 2


def test_reasons_beyond_the_cap_become_other() -> None:
    """The first thousand distinct reasons keep their name, also when they come again later."""
    chunk = Chunk(0)
    chunk.add([(tally(f"r{i}"), 1) for i in range(MAX_REASONS + 2)])
    chunk.add([(tally("r0"), 1), (tally(""), 1), (tally(None), 1)])
    chunk.add([(tally(f"r{MAX_REASONS}"), 1)])
    by_reason = {key[-1]: events for key, (_, events) in held(chunk).items()}
    assert len(by_reason) == MAX_REASONS + 2
    assert (by_reason["other"], by_reason["r0"], by_reason[""]) == (3, 2, 2)


def test_long_reasons_are_cut() -> None:
    """Reasons that agree in their first 64 characters are one reason."""
    chunk = Chunk(0)
    chunk.add([(tally("x" * 64), 1), (tally("x" * 65), 1)])
    assert [key[-1] for key in held(chunk)] == ["x" * 64]


def test_events_that_a_stored_cell_holds_are_skipped_cell_by_cell() -> None:
    """After a torn flush one cell may be stored further than another; each goes on from its own position."""
    one, two = (CountKey(1, 1_700_000_000, 7, 3, 1, 0, reason) for reason in "ab")
    total = TotalKey(1, 10, 1_700_000_000)
    chunk = Chunk(0)
    stored: dict[Family, dict[Key, Stored]] = {
        COUNTS: {one: Stored((10, 10), version_of(0, 100)), two: Stored((5, 5), version_of(2, 50))},
        HOURLY: {_hour(one): Stored((10, 10), version_of(0, 100)), _hour(two): Stored((5, 5), version_of(2, 50))},
        TOTALS: {total: Stored((15, 0, 0), version_of(2, 60))},
    }
    chunk.load(stored)
    assert not chunk.changed
    for offset in (49, 50, 60, 100):
        chunk.add_one(tally("a"), offset)
        chunk.add_one(tally("b"), offset)
    assert (chunk.revision, chunk.skip_until) == (2, 100)
    assert held(chunk) == {one: (11, 11), two: (8, 8)}
    assert held(chunk, TOTALS)[total] == (15 + 4, 0, 0)
    assert held(chunk, HOURLY) == {_hour(one): (11, 11), _hour(two): (8, 8)}


def _hour(key: CountKey) -> HourKey:
    return HourKey(key.org_id, key.bucket // 3600 * 3600, key.project_id, key.category, key.outcome, key.reason)


def test_hourly_that_is_behind_is_made_of_counts() -> None:
    """A cell of an hour is the sum of its cells of `counts`, over times and keys, and takes what its own cell takes."""
    one = CountKey(1, 1_700_000_000, 7, 3, 1, 0, "a")
    other, stale = one._replace(bucket=one.bucket + 10), one._replace(org_id=9)
    another_key = one._replace(key_id=4)
    chunk = Chunk(0)
    chunk.load(
        {
            COUNTS: {
                one: Stored((10, 10), version_of(0, 100)),
                other: Stored((5, 5), version_of(0, 50)),
                another_key: Stored((3, 3), version_of(0, 70)),
            },
            HOURLY: {_hour(one): Stored((8, 8), version_of(0, 40)), _hour(stale): Stored((2, 2), version_of(0, 40))},
        }
    )
    chunk.next_offset = 100
    rows = dict(chunk.take().rows[HOURLY])
    assert rows == {_hour(one): (18, 18), _hour(stale): (0, 0)}
    for offset in (40, 99, 100):
        chunk.add_one(tally("a"), offset)
    for offset in (49, 50, 100):
        chunk.add_one(tally("a")._replace(bucket=other.bucket), offset)
    for offset in (69, 70):
        chunk.add_one(tally("a")._replace(key_id=4), offset)
    assert held(chunk, HOURLY)[_hour(one)] == (18 + 1 + 2 + 1, 18 + 1 + 2 + 1)


def test_hourly_of_a_closed_chunk_does_not_follow_counts() -> None:
    """It is whole, and what a recount misses may be cells of `counts` that were lost."""
    one = CountKey(1, 1_700_000_000, 7, 3, 1, 0, "a")
    chunk = Chunk(0)
    chunk.load({COUNTS: {}, HOURLY: {_hour(one): Stored((8, 8), version_of(0, 40))}}, closed=True)
    assert not chunk.changed
    for offset in (39, 40):
        chunk.add_one(tally("a"), offset)
    assert held(chunk, HOURLY)[_hour(one)] == (8 + 1, 8 + 1)


def test_what_is_written_seldom_stays_to_be_stored() -> None:
    """With its whole count as it is when it is taken in the end."""
    chunk = Chunk(0)
    chunk.add([(tally(), 2)])
    assert not chunk.take(seldom=False).rows[HOURLY]
    assert chunk.changed
    chunk.add([(tally(), 1)])
    assert [values for _, values in chunk.take().rows[HOURLY]] == [(3, 3)]
    assert not chunk.changed


def test_stale_cells_get_a_zero() -> None:
    """A stored cell that the recount does not produce is written as zero; others are left as they are."""
    chunk = Chunk(0)
    chunk.add([(tally(), 1)])
    stale: dict[Family, Any] = {COUNTS: CountKey(9, 0, 0, 0, 1, 0, ""), TOTALS: TotalKey(9, 10, 0)}
    chunk.overwrite({family: [key, *chunk.cells[family]] for family, key in stale.items()})
    rows = {family: dict(cells) for family, cells in chunk.take().rows.items()}
    assert (rows[COUNTS][stale[COUNTS]], rows[TOTALS][stale[TOTALS]]) == ((0, 0), (0, 0, 0))
    assert len(rows[COUNTS]) == 2


def test_what_changed_is_handed_out_once_and_again_when_it_was_not_stored() -> None:
    """Rows are what cells hold when they are taken; the day of a cell is told before its first row."""
    chunk = Chunk(0)
    chunk.add([(tally(), 2)])
    first = chunk.take()
    assert (set(first.days), chunk.changed, len(chunk.take().taken)) == ({1_700_000_000 // 86_400 * 86_400}, False, 0)
    chunk.add([(tally(), 1)])
    second = chunk.take()
    assert (len(second.days), [values for _, values in second.rows[COUNTS]]) == (0, [(3, 3)])
    chunk.not_stored(second)
    chunk.not_stored(first)
    again = chunk.take()
    assert (again.days, [values for _, values in again.rows[COUNTS]]) == (first.days, [(3, 3)])


def test_versions_order_by_revision_then_position() -> None:
    """A higher revision wins whatever its position."""
    assert version_of(1, 0) > version_of(0, 2**48 - 1)
    assert (revision_of(version_of(3, 5)), next_offset_of(version_of(3, 5))) == (3, 5)


def test_chunks_are_named_by_their_first_offset() -> None:
    """The last offset of a chunk and the first of the next have names of their own."""
    grid = Grid()
    assert [grid.chunk_of(CHUNK_LENGTH - 1), grid.chunk_of(CHUNK_LENGTH), grid.chunk_end(5)] == [0, *[CHUNK_LENGTH] * 2]


def test_a_source_is_its_topic_topic_id_and_partition() -> None:
    """The id is stable for ever: it is part of stored keys."""
    assert Source("outcomes", "abc", 0).source_id == 9_670_702_045_387_799_494
    assert len({Source(*it).source_id for it in (("a", "u", 0), ("a", "u", 1), ("a", "v", 0), ("b", "u", 0))}) == 4
