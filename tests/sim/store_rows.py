"""Rows for the tests that hold the simulated store to the real one."""

from collections.abc import Sequence
from typing import Any

from orgstats.consumer.counting.cells import COUNTS, CountKey, Family, Stored
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.source import Source, version_of
from orgstats.consumer.store.rows import instant
from orgstats.consumer.store.store import Store
from orgstats.schemas.tables import TABLES

SOURCE = Source("events", "uuid", 3)
OTHER = Source("events", "uuid", 4)
LENGTH = 1 << 14
GRID = Grid(((0, LENGTH),))
DAY = 1_700_000_000 // 86_400 * 86_400
KEY = CountKey(1, DAY + 10, 2, 3, 1, 0, "")


def insert(store: Store, table: str, *rows: Sequence[Any]) -> None:
    """One insert of whole rows."""
    store.insert(table, list(zip(*(TABLES[table](*row) for row in rows), strict=True)))


def count(
    quantity: int, version: int, *, key: CountKey = KEY, source: Source = SOURCE, chunk: int = 0
) -> Sequence[Any]:
    """A row of `counts`."""
    return (*key, source.source_id, chunk, quantity, 1, version)


def know(store: Store, *chunks: int, day: int = DAY) -> None:
    """Say that chunks have cells of a day."""
    insert(store, "chunk_days", *((SOURCE.source_id, chunk, day) for chunk in chunks))


def cells(store: Store, chunk: int = 0) -> dict[Any, Stored]:
    """The cells of `counts` of a chunk."""
    return dict(store.chunk(SOURCE, chunk, chunk + LENGTH).cells[COUNTS])


def progress(next_offset: int, rewinds: int = 0) -> Sequence[Any]:
    """A row of `progress`."""
    now = instant(1_700_000_000_000)
    rest = (1, "fingerprint", 0, 11, 0, 0, 0, next_offset, now, now)
    return (SOURCE.source_id, next_offset, now, now, *rest, version_of(rewinds, next_offset))


def letter(offset: int, version: int) -> Sequence[Any]:
    """A row of `dead_letters`."""
    now = instant(1_700_000_000_000)
    return (SOURCE.source_id, offset, "events", 3, now, b"", [], b"{", 1, "not_json", "", False, version)


_KEY_VALUES = {**KEY._asdict(), "width": 10}


def cell(family: Family, quantity: int, version: int, *, chunk: int = 0) -> Sequence[Any]:
    """A row of one of the tables of cells."""
    key = [_KEY_VALUES[name] for name in family.key._fields]
    return (*key, SOURCE.source_id, chunk, quantity, *[1] * (len(family.values) - 1), version)


def replaced(replay_id: str, family: Family, quantity: int, *, chunk: int = 0) -> Sequence[Any]:
    """What a replay has kept of such a row."""
    key = [_KEY_VALUES[name] for name in family.key._fields]
    return (replay_id, SOURCE.source_id, chunk, *key, quantity, *[1] * (len(family.values) - 1))
