"""Sums in ClickHouse clear no chunk in which the audit, cell by cell, finds a difference."""

from collections.abc import Iterator
from random import Random
from typing import cast

import pytest

from orgstats.consumer.counting.cells import COUNTS, FAMILIES, CountKey, Family, Key
from orgstats.consumer.counting.grid import CHUNK_LENGTH, Chunks, Grid
from orgstats.consumer.counting.source import BEYOND_ALL, Source, version_of
from orgstats.consumer.ops.audit_rules import ChunkExtent, in_order, roll_ups
from orgstats.consumer.ops.connections import store_of
from orgstats.consumer.ops.screening import NOTHING, Screened, screen
from orgstats.consumer.ops.stored import insert_rows
from orgstats.consumer.store.store import Store

SOURCES = [Source("events", "uuid", partition) for partition in range(2)]
DAY = 1_700_006_400
"""The start of one."""
CHUNKS = 30
HARMS = ("", "", "more", "lost", "zero", "stray", "wrapped")

Cells = dict[Family, dict[Key, list[int]]]


def drawn(choice: Random) -> tuple[Cells, int]:
    """Cells of one chunk with their roll-ups, and how many events are in them."""
    cells: Cells = {family: {} for family in FAMILIES}
    events = 0
    for _ in range(choice.randrange(1, 12)):
        at = DAY + 10 * choice.randrange(1_000) - 7 * 86_400 * choice.randrange(2)
        key = CountKey(
            choice.randrange(1, 4), at, 7, choice.randrange(2), choice.randrange(3), choice.randrange(4), "a"
        )
        quantity = choice.randrange(1, 9)
        events += 1
        for family in FAMILIES:
            for own, place in family.shares(key):
                values = cells[family].setdefault(own, [0] * len(family.values))
                values[place] += quantity
                if family.events:
                    values[family.events] += 1
    return cells, events


def harm(cells: Cells, how: str, choice: Random) -> None:
    """Spoil a cell of one table."""
    family = choice.choice(FAMILIES)
    if not how or not cells[family]:
        return
    key = choice.choice([*cells[family]])
    values = cells[family][key]
    place = choice.randrange(len(values))
    if how == "more":
        values[place] += 1
    elif how == "lost":
        del cells[family][key]
    elif how == "zero":
        cells[family][key] = [0] * len(values)
    elif how == "stray":
        cells[family][key._replace(org_id=9)] = [1] * len(values)
    else:  # the quantity of one cell does not fit, and its roll-ups were added up without holding at the largest
        finest = cast("CountKey", choice.choice([*cells[COUNTS]]))
        more = (1 << 64) - 1 - cells[COUNTS][finest][0]
        for own_family in FAMILIES:
            for own, at in own_family.shares(finest):
                cells[own_family][own][at] = (cells[own_family][own][at] + more) % (1 << 64)


@pytest.fixture
def store(clickhouse_url: str) -> Iterator[Store]:
    """The test's own database."""
    opened = store_of(clickhouse_url)
    yield opened
    opened.close()


def test_chunks_are_cleared_that_have_no_difference_and_no_others(store: Store) -> None:
    """Older rows of their cells or not, in other parts or not, beside other chunks and other sources."""
    choice = Random(7)
    firsts = range(0, CHUNKS * CHUNK_LENGTH, CHUNK_LENGTH)
    events: dict[tuple[int, int], int] = {}
    rows: dict[str, list[tuple[object, ...]]] = {"chunk_days": [], **{family.table: [] for family in FAMILIES}}
    for this in [(source.source_id, first) for source in SOURCES for first in firsts]:
        cells, events[this] = drawn(choice)
        harm(cells, choice.choice(HARMS), choice)
        rows["chunk_days"] += [(*this, DAY), (*this, DAY - 7 * 86_400)]
        for family, its in cells.items():
            for key, values in its.items():
                rows[family.table].append((*key, *this, *values, version_of(1, this[1] + events[this])))
                if choice.random() < 0.5 and max(values) < 1 << 60:
                    older = [value + 3 for value in values]
                    rows[family.table].append((*key, *this, *older, version_of(0, this[1] + 99)))
    for table, of_table in rows.items():
        choice.shuffle(of_table)
        half = len(of_table) // 2
        insert_rows(store, table, of_table[:half])  # in parts of their own
        insert_rows(store, table, of_table[half:])
    screened = screen(store, {source: [(first, first + CHUNK_LENGTH) for first in firsts] for source in SOURCES}, ())
    cleared, whole = set(), set()
    for source in SOURCES:
        for chunk, stored in store.stored_chunks(source, Chunks(Grid(), 0, BEYOND_ALL)).items():
            this = source.source_id, chunk
            extent = ChunkExtent(chunk, chunk + events[this], 0)
            if in_order(extent, screened[this], moving=False):
                cleared.add(this)
            counted = sum(one.values[1] for one in stored.cells[COUNTS].values())
            if counted == events[this] and not list(roll_ups(extent, stored)):
                whole.add(this)
    assert cleared == whole
    assert 5 < len(whole) < len(screened) - 5


def test_dead_letters_and_erased_organizations_are_told(store: Store) -> None:
    """The offsets of letters that were not withdrawn, chunk by chunk; whether events of an erased one are there."""
    source, key = SOURCES[0], CountKey(5, DAY, 7, 3, 1, 0, "")
    this = source.source_id, CHUNK_LENGTH
    insert_rows(store, "chunk_days", [(*this, DAY)])
    insert_rows(store, "counts", [(*key, *this, 1, 1, 9)])
    letter: tuple[object, ...] = (source.topic, 0, DAY, "", [], "", 0, "empty", "")
    dead = [(3, False), (CHUNK_LENGTH + 4, False), (CHUNK_LENGTH + 5, True), (3 * CHUNK_LENGTH, False)]
    insert_rows(store, "dead_letters", [(source.source_id, at, *letter, gone, 1) for at, gone in dead])
    wanted = {source: [(first, first + CHUNK_LENGTH) for first in (0, CHUNK_LENGTH, 3 * CHUNK_LENGTH)]}
    for erased, holds in (((4, 5), True), ((4,), False), ((), False)):
        found = screen(store, wanted, erased)
        assert found[this].holds_erased == holds
        assert [list(one.dead) for one in found.values()] == [[3], [CHUNK_LENGTH + 4], [3 * CHUNK_LENGTH]]
    assert found[source.source_id, 0] == NOTHING._replace(dead=[3])


def test_a_chunk_is_in_order_only_where_nothing_is_in_doubt() -> None:
    """Balanced, rolled up, and without a listed gap; while counting goes on roll-ups may be behind."""
    good = Screened(8, 10, 0, 0, holds_erased=False, totals_off=False, dead=[2, 3])

    def clear(found: Screened, extent: ChunkExtent, *, moving: bool = False) -> bool:
        return in_order(extent, found, moving=moving)

    extent = ChunkExtent(0, 10, 0)
    assert clear(good, extent)
    assert not clear(good._replace(events=7), extent)
    assert clear(good._replace(events=7), ChunkExtent(0, 10, low=10))  # nothing is left that could be more
    assert not clear(good._replace(events=9), ChunkExtent(0, 10, low=10))
    assert not clear(good, ChunkExtent(0, 10, low=5))
    assert not clear(good, ChunkExtent(0, 10, 0, gaps=((9, 12),)))
    assert clear(good, ChunkExtent(0, 10, 0, gaps=((10, 12),)))
    assert not clear(good._replace(holds_erased=True), extent)
    for off in (good._replace(totals_off=True), good._replace(cells_off=1), good._replace(events_off=3)):
        assert not clear(off, extent)
        assert clear(off, extent, moving=True)
    assert clear(good._replace(events_off=3), ChunkExtent(0, 10, 0, hourly_end=7))
    assert not clear(good._replace(events_off=3), ChunkExtent(0, 10, 0, hourly_end=8))
    assert clear(good._replace(dead=[2, 3, 11]), extent)
