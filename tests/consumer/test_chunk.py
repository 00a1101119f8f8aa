"""Cells hold whole counts, reasons are capped in offset order, stored cells are gone on from exactly."""

from orgstats.consumer.counting.chunk import MAX_REASONS, CellKey, Chunk, HourKey, ProjectKey, Stored, Tally
from orgstats.consumer.counting.source import Source, chunk_end, chunk_of, next_offset_of, revision_of, version_of


def tally(reason: str | None = None, quantity: int | None = None, org_id: int | None = 1) -> Tally:
    return Tally(org_id, 7, 1_700_000_000, None, 0, reason, quantity)


def test_absent_fields_get_their_defaults() -> None:
    """A missing organization is 0, category error, quantity 1, reason the empty string."""
    chunk = Chunk(0)
    chunk.add([(tally(org_id=None), 3)])
    assert {k: c.row_values() for k, c in chunk.cells.items()} == {CellKey(0, 1_700_000_000, 1, 0, ""): (3, 3)}


def test_quantity_is_summed_and_events_are_counted() -> None:
    """An event adds its quantity to quantity and one to events."""
    chunk = Chunk(0)
    chunk.add([(tally(quantity=5), 2), (tally(quantity=0), 1)])
    assert [c.row_values() for c in chunk.cells.values()] == [(10, 3)]
    assert [c.quantity for c in (chunk.project_cells or {}).values()] == [10]


def test_a_sum_beyond_uint64_stays_at_its_maximum() -> None:
    """Quantities of up to 2^63-1 may add up to more than the column holds; it does not wrap."""
    chunk = Chunk(0)
    chunk.add([(tally(quantity=2**63 - 1), 3)])
    assert next(iter(chunk.cells.values())).row_values() == (2**64 - 1, 3)


def test_reasons_beyond_the_cap_become_other() -> None:
    """The first thousand distinct reasons keep their name, also when they come again later."""
    chunk = Chunk(0)
    chunk.add([(tally(f"r{i}"), 1) for i in range(MAX_REASONS + 2)])
    chunk.add([(tally("r0"), 1), (tally(""), 1), (tally(None), 1)])
    by_reason = {key.reason: count.events for key, count in chunk.cells.items()}
    assert len(by_reason) == MAX_REASONS + 2
    assert (by_reason["other"], by_reason["r0"], by_reason[""]) == (2, 2, 2)


def test_long_reasons_are_cut() -> None:
    """Reasons that agree in their first 64 characters are one reason."""
    chunk = Chunk(0)
    chunk.add([(tally("x" * 64), 1), (tally("x" * 65), 1)])
    assert [key.reason for key in chunk.cells] == ["x" * 64]


def test_events_that_a_stored_cell_holds_are_skipped_cell_by_cell() -> None:
    """After a torn flush one cell may be stored further than another; each goes on from its own position."""
    one, two = CellKey(1, 1_700_000_000, 1, 0, "a"), CellKey(1, 1_700_000_000, 1, 0, "b")
    project = ProjectKey(1, 7, 1_700_000_000, 1, 0)
    chunk = Chunk(0)
    chunk.load(
        {one: Stored(10, 10, version_of(0, 100)), two: Stored(5, 5, version_of(2, 50))},
        {project: Stored(15, 0, version_of(2, 60))},
    )
    for offset in (49, 50, 60, 100):
        chunk.add_one(tally("a"), offset)
        chunk.add_one(tally("b"), offset)
    assert (chunk.revision, chunk.skip_until) == (2, 100)
    assert (chunk.cells[one].row_values(), chunk.cells[two].row_values()) == ((11, 11), (8, 8))
    assert chunk.project_cells is not None
    assert chunk.project_cells[project].quantity == 15 + 4


def test_stale_cells_get_a_zero() -> None:
    """A stored cell that the recount does not produce is written as zero; others are left alone."""
    chunk = Chunk(0)
    chunk.add([(tally(), 1)])
    stale_cell = CellKey(9, 0, 1, 0, "")
    chunk.overwrite([stale_cell, *chunk.cells], [])
    assert chunk.cells[stale_cell].row_values() == (0, 0)
    assert stale_cell in chunk.changed


def test_versions_order_by_revision_then_position() -> None:
    """A higher revision wins whatever its position."""
    assert version_of(1, 0) > version_of(0, 2**48 - 1)
    assert (revision_of(version_of(3, 5)), next_offset_of(version_of(3, 5))) == (3, 5)


def test_chunks_are_named_by_their_first_offset() -> None:
    """Offsets 2^17-1 and 2^17 lie in neighbouring chunks."""
    assert (chunk_of(131_071), chunk_of(131_072), chunk_end(5)) == (0, 131_072, 131_072)


def test_a_source_is_its_topic_topic_id_and_partition() -> None:
    """The id is stable for ever: it is part of stored keys."""
    assert Source("outcomes", "abc", 0).source_id == 9_670_702_045_387_799_494
    assert len({Source(*it).source_id for it in (("a", "u", 0), ("a", "u", 1), ("a", "v", 0), ("b", "u", 0))}) == 4


HOUR = HourKey(1, 1_700_000_000 // 3600 * 3600)


def test_an_hour_holds_the_whole_sum_of_what_the_endpoint_shows() -> None:
    """Accepted, filtered and rate limited quantities of the error categories; other cells touch no hour."""
    chunk = Chunk(0)
    events = [(0, 1, 5), (0, 3, 2), (1, None, 1), (2, 0, 7), (3, 1, 9), (0, 2, 9)]
    for outcome, category, quantity in events:
        chunk.add([(Tally(1, 7, 1_700_000_000 + 10 * outcome, category, outcome, None, quantity), 1)])
    assert chunk.take_hours(chunk.cells) == [(HOUR, 7, 1, 7)]
    chunk.add([(tally(quantity=1), 1)])
    assert chunk.take_hours([CellKey(1, 1_700_000_000, 1, 0, "")]) == [(HOUR, 8, 1, 7)]
    assert chunk.take_hours([]) == []


def test_an_hour_sums_what_its_cells_store() -> None:
    """A cell that stays at UInt64's maximum adds no more than that; the hour has room for many of them."""
    chunk = Chunk(0)
    chunk.add([(tally("a", 2**63 - 1), 3), (tally("b", 2**63 - 1), 3)])
    assert chunk.take_hours(chunk.cells) == [(HOUR, 2 * (2**64 - 1), 0, 0)]


def test_a_stale_cell_leaves_its_hour() -> None:
    """Where a recount does not produce a stored cell, the hour is stored again without it."""
    chunk = Chunk(0, 1)
    chunk.overwrite([CellKey(1, 1_700_000_000, 1, 0, "")], [])
    assert chunk.take_hours(chunk.changed) == [(HOUR, 0, 0, 0)]


def test_hours_of_stored_cells_wait_until_all_of_them_have_one_position() -> None:
    """Begun with cells of a torn flush, the sums are stored again, but not below the furthest of the cells."""
    chunk = Chunk(0)
    chunk.load({CellKey(1, 1_700_000_000, 1, 0, ""): Stored(10, 10, 100)}, {})
    chunk.next_offset = 99
    assert chunk.take_hours([]) == []
    chunk.next_offset = 100
    assert chunk.take_hours([]) == [(HOUR, 10, 0, 0)]
