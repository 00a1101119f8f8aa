"""What histories rely on of ClickHouse, on the simulated one and on the real engine alike."""

from collections.abc import Callable

from orgstats.consumer.counting.cells import FAMILIES, Stored
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.counting.resume import FINGERPRINT_CHANGED, LOG_CUT_BACK, MIXED, Progress, Registration, Repair
from orgstats.consumer.counting.source import version_of
from orgstats.consumer.store.chunk_lengths import State
from orgstats.consumer.store.rows import instant
from orgstats.consumer.store.store import Store
from tests.sim.store_rows import (
    DAY,
    GRID,
    KEY,
    LENGTH,
    OTHER,
    SOURCE,
    cell,
    cells,
    count,
    insert,
    know,
    letter,
    progress,
)


def test_the_highest_version_wins_in_any_order(store: Store) -> None:
    """Also a late insert, and one that came twice."""
    know(store, 0)
    for quantity, version in ((5, 50), (3, 30), (5, 50), (4, 40)):
        insert(store, "counts", count(quantity, version))
    assert cells(store) == {KEY: Stored((5, 1), 50)}


def test_a_torn_insert_is_completed_by_the_next_one(store: Store) -> None:
    """Rows that arrived stay as they are until something newer comes."""
    know(store, 0)
    other = KEY._replace(org_id=2)
    insert(store, "counts", count(1, 10))
    assert cells(store) == {KEY: Stored((1, 1), 10)}
    insert(store, "counts", count(2, 20), count(7, 20, key=other))
    assert cells(store) == {KEY: Stored((2, 1), 20), other: Stored((7, 1), 20)}


def test_a_revision_beats_any_offset_before(store: Store) -> None:
    """Its number is in the version's high bits."""
    know(store, 0)
    insert(store, "counts", count(9, version_of(0, 16_000)), count(1, version_of(1, 10)))
    assert cells(store) == {KEY: Stored((1, 1), version_of(1, 10))}


def test_only_cells_of_known_days_are_found(store: Store) -> None:
    """So a day is stored before the first of its cells."""
    insert(store, "counts", count(1, 10))
    assert cells(store) == {}
    know(store, 0, day=DAY + 86_400)
    assert cells(store) == {}
    know(store, 0)
    assert cells(store) == {KEY: Stored((1, 1), 10)}


def test_sources_and_chunks_are_kept_apart(store: Store) -> None:
    """The same key in another chunk or source is another cell."""
    know(store, 0, LENGTH)
    insert(store, "counts", count(1, 10), count(2, LENGTH + 10, chunk=LENGTH), count(3, 10, source=OTHER))
    assert cells(store) == {KEY: Stored((1, 1), 10)}
    assert cells(store, LENGTH) == {KEY: Stored((2, 1), LENGTH + 10)}
    assert store.highest_chunks([SOURCE, OTHER]) == {SOURCE.source_id: LENGTH}


def test_progress_goes_by_version(store: Store) -> None:
    """An older one that comes later changes nothing; one that is set back is of a higher rewind."""
    insert(store, "progress", progress(20))
    insert(store, "progress", progress(10))
    assert store.progress([SOURCE, OTHER])[SOURCE.source_id].next_offset == 20
    insert(store, "progress", progress(5, rewinds=1))
    found = store.progress([SOURCE, OTHER])
    assert found.keys() == {SOURCE.source_id}
    assert (found[SOURCE.source_id].next_offset, found[SOURCE.source_id].rewinds) == (5, 1)


def test_a_flush_that_was_begun_is_told(store: Store) -> None:
    """By its rewinds and where it ends."""
    assert store.begun([SOURCE]) == {}
    insert(store, "flushes", (SOURCE.source_id, 30, version_of(2, 30)))
    insert(store, "flushes", (SOURCE.source_id, 20, version_of(2, 20)))
    assert store.begun([SOURCE]) == {SOURCE.source_id: (2, 30)}


def test_registrations_keep_what_was_set(store: Store) -> None:
    """The chunks, the isolation level and where counting began."""
    assert store.registrations([SOURCE]) == {SOURCE.source_id: Registration(GRID, "read_committed", 7)}


def test_of_two_registrations_the_later_one_counts(store: Store) -> None:
    """Whichever comes first: a member that stood still may register a source that another one counts by now."""
    before = Registration(GRID, "read_committed", 3)
    store.register([(SOURCE, before)], 1_600_000_000_000)
    assert store.registrations([SOURCE]) == {SOURCE.source_id: Registration(GRID, "read_committed", 7)}


def test_of_repairs_the_last_revision_counts(store: Store) -> None:
    """And which fingerprint came into force with the chunk last."""
    now = instant(0)
    of = SOURCE.source_id, 0
    insert(store, "repairs", (*of, 1, 0, "first", FINGERPRINT_CHANGED, now), (*of, 2, 3, "second", LOG_CUT_BACK, now))
    repair = store.repairs([SOURCE])[SOURCE.source_id][0]
    assert repair == Repair(2, "second", "first", 3)


def test_a_fingerprint_that_came_within_a_chunk_is_told(store: Store) -> None:
    """In the revision that is there, whatever has come since."""
    now = instant(0)
    of = SOURCE.source_id, 0
    insert(store, "repairs", (*of, 0, 0, "first", MIXED, now), (*of, 1, 3, "second", LOG_CUT_BACK, now))
    assert store.repairs([SOURCE])[SOURCE.source_id][0] == Repair(1, "second", "first", 3, mixed=True)


def test_closed_chunks_from_an_offset_on(store: Store) -> None:
    """Of each the mark of the highest revision and rewind."""
    now = instant(0)
    rows = [
        (SOURCE.source_id, chunk, 0, rewinds, 1, chain, chunk, "f", now, version_of(rewinds, 0))
        for chunk, rewinds, chain in ((0, 0, 5), (LENGTH, 1, 6), (LENGTH, 0, 7), (2 * LENGTH, 0, 8))
    ]
    insert(store, "chunks", *rows)
    found = store.chunks({SOURCE: LENGTH})[SOURCE.source_id]
    assert found == {LENGTH: Mark(1, 6, LENGTH), 2 * LENGTH: Mark(1, 8, 2 * LENGTH)}


def test_a_cut_is_recorded(store: Store) -> None:
    """Progress is what is known since, in the next rewind."""
    insert(store, "progress", progress(50))
    known = store.progress([SOURCE])[SOURCE.source_id]
    cut = Progress(
        20, known.fingerprint, 1, known.kafka_timestamp_ms, 1_699_999_999_000, Mark(4, 9, 0), 20, LENGTH, 50, 0
    )
    store.record_cut(SOURCE, cut, 50)
    assert store.progress([SOURCE])[SOURCE.source_id] == cut


def test_chunks_that_are_taken_back_become_zero(store: Store) -> None:
    """Their cells, in any table, and their dead letters are withdrawn; what is counted there later wins."""
    know(store, 0, LENGTH)
    insert(store, "counts", count(1, 10), count(2, LENGTH + 10, chunk=LENGTH))
    insert(store, "dead_letters", letter(3, 3), letter(LENGTH + 3, LENGTH + 3))
    insert(store, "progress", progress(10, rewinds=1))
    known = store.progress([SOURCE])[SOURCE.source_id]
    store.take_back(SOURCE, Chunks(GRID, LENGTH, 2 * LENGTH), {}, known, 0)
    assert cells(store) == {KEY: Stored((1, 1), 10)}
    assert {stored.values for stored in cells(store, LENGTH).values()} == {(0, 0)}
    letters = [store.chunk(SOURCE, chunk, chunk + LENGTH).dead for chunk in (0, LENGTH)]
    assert [dead.withdrawn for found in letters for dead in found.values()] == [False, True]
    again = version_of(store.repairs([SOURCE])[SOURCE.source_id][LENGTH].revision, LENGTH + 1)
    insert(store, "counts", count(6, again, chunk=LENGTH))
    assert cells(store, LENGTH) == {KEY: Stored((6, 1), again)}


def test_a_merge_changes_nothing_that_is_read(store: Store, merge: Callable[[str], None]) -> None:
    """Rows that lost are gone, and what comes late still loses."""
    know(store, 0)
    insert(store, "counts", count(3, 30))
    insert(store, "counts", count(5, 50))
    merge("counts")
    assert cells(store) == {KEY: Stored((5, 1), 50)}
    insert(store, "counts", count(4, 40))
    merge("counts")
    assert cells(store) == {KEY: Stored((5, 1), 50)}


def test_cells_of_each_table_are_found_by_their_own_key(store: Store) -> None:
    """And each by its own version."""
    know(store, 0)
    for at, family in enumerate(FAMILIES):
        insert(store, family.table, cell(family, 7, 10 + at))
    found = store.chunk(SOURCE, 0, LENGTH).cells
    for at, family in enumerate(FAMILIES):
        assert [(one.values[0], one.version) for one in found[family].values()] == [(7, 10 + at)]


def test_chunks_of_which_anything_is_stored(store: Store) -> None:
    """Cells, or dead letters alone; of what is outside of the range nothing is told."""
    know(store, 0, 2 * LENGTH)
    insert(store, "counts", count(1, 10), count(2, 2 * LENGTH + 10, chunk=2 * LENGTH))
    insert(store, "dead_letters", letter(3 * LENGTH + 3, 3 * LENGTH + 3), letter(5 * LENGTH + 3, 5 * LENGTH + 3))
    found = store.stored_chunks(SOURCE, Chunks(GRID, LENGTH, 4 * LENGTH))
    assert {chunk: len(one.cells[FAMILIES[0]]) for chunk, one in found.items()} == {2 * LENGTH: 1, 3 * LENGTH: 0}
    assert list(found[3 * LENGTH].dead) == [3 * LENGTH + 3]


def test_chunk_lengths_change_where_it_is_decided(store: Store) -> None:
    """What is proposed bounds the grid, what was taken back does not, and decided wins over taken back."""
    now, of = instant(0), SOURCE.source_id
    assert store.grids([of, OTHER.source_id]) == {of: GRID, OTHER.source_id: GRID}

    def change(at: int, entry: str, state: State) -> None:
        insert(store, "chunk_lengths", (of, at * LENGTH, entry, 2 * LENGTH, "me", now, state))

    change(2, "a", State.PROPOSED)
    assert store.grids([of])[of].proposed == 2 * LENGTH
    change(2, "a", State.TAKEN_BACK)
    assert store.grids([of]) == {of: GRID}
    change(4, "b", State.PROPOSED)
    change(4, "b", State.DECIDED)
    change(4, "b", State.TAKEN_BACK)
    decided = Grid(((0, LENGTH), (4 * LENGTH, 2 * LENGTH)))
    assert store.grids([of]) == {of: decided}
    assert [(row.from_offset, row.entry_id, row.state) for row in store.length_changes([of, OTHER.source_id])] == [
        (2 * LENGTH, "a", State.TAKEN_BACK),
        (4 * LENGTH, "b", State.DECIDED),
    ]
    know(store, LENGTH, 5 * LENGTH, 6 * LENGTH, 7 * LENGTH)
    assert store.misplaced_chunks({of: decided, OTHER.source_id: GRID}) == {of: 5 * LENGTH}
    insert(store, "repairs", (of, 5 * LENGTH, 1, 0, "f", LOG_CUT_BACK, now))
    assert store.misplaced_chunks({of: decided}) == {of: 7 * LENGTH}
