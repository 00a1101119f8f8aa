"""Chunk lengths in ClickHouse: the one a source was registered with, and changes of it from later offsets on.

A change is one row that is written up to three times under one key, `state` higher each time: it is proposed, and then
either taken back or decided. Decided wins over taken back, and is for ever: chunks may have been counted by it.
Nobody opens a chunk at or beyond a change that is only proposed. consumer/ops/chunk_length.py writes them.
"""

from collections.abc import Collection
from enum import IntEnum
from typing import Final

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import read
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.source import BEYOND_ALL
from orgstats.schemas.tables import ChunkLengthRow

_COLUMNS: Final = ", ".join(ChunkLengthRow._fields)


class State(IntEnum):
    """Of a change."""

    PROPOSED = 0
    TAKEN_BACK = 1
    DECIDED = 2


def grids(client: Client, source_ids: Collection[int]) -> dict[int, Grid]:
    """The chunks of registered sources, by source id, as they are decided by now."""
    if not source_ids:
        return {}
    rows = read(
        client,
        "SELECT source_id, toUInt64(0) AS from_offset, '' AS entry_id, chunk_length AS length, toUInt8(2) AS state"
        " FROM sources FINAL WHERE source_id IN %(ids)s UNION ALL"
        " SELECT source_id, from_offset, entry_id, length, state FROM chunk_lengths FINAL WHERE source_id IN %(ids)s",
        {"ids": list(source_ids)},
    )
    return grids_of(rows)


def grids_of(rows: Collection[tuple[int, int, str, int, int]]) -> dict[int, Grid]:
    """Grids of rows (source id, from offset, entry id, length, state); those of the registration begin at 0."""
    entries: dict[int, dict[int, int]] = {}
    proposed: dict[int, int] = {}
    for source_id, from_offset, _, length, state in sorted(rows):  # of two at one offset the same one for everybody
        if state == State.DECIDED:
            entries.setdefault(source_id, {})[from_offset] = length
        elif state == State.PROPOSED:
            proposed[source_id] = min(from_offset, proposed.get(source_id, BEYOND_ALL))
    return {
        source_id: Grid(tuple(sorted(its.items())), proposed.get(source_id, BEYOND_ALL))
        for source_id, its in entries.items()
        if 0 in its
    }


def changes(client: Client, source_ids: Collection[int]) -> list[ChunkLengthRow]:
    """Every change there ever was of these sources, by source and offset."""
    if not source_ids:
        return []
    rows = read(
        client,
        f"SELECT {_COLUMNS} FROM chunk_lengths FINAL WHERE source_id IN %(ids)s"
        " ORDER BY source_id, from_offset, entry_id",
        {"ids": list(source_ids)},
    )
    return [ChunkLengthRow(*row) for row in rows]
