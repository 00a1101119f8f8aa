"""What is stored of chunks: the one reader of their cells, for the daemon, replays and audits alike.

`chunk_days` knows which chunks may have cells, and of which days: a row of it is there before the first cell that it
tells of. With the days, and with the hash that the index `by_chunk` is over, ClickHouse looks at few granules however
many rows the tables have, although no prefix of their key serves.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import read
from orgstats.consumer.counting.cells import FAMILIES, Family, Key, Stored, StoredChunk, StoredDead
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.source import BEYOND_ALL, Source
from orgstats.schemas.outcomes import DAY_SECONDS

OF_CHUNKS: Final = (
    "source_id = %(source)s AND chunk IN %(chunks)s"
    " AND bucket >= toDateTime(%(since)s, 'UTC') AND bucket < toDateTime(%(until)s, 'UTC')"
    " AND cityHash64(source_id, chunk) IN %(hashes)s"
)
"""What chooses the cells of chunks in any of the tables; its values are those that `known_chunks` gives."""

_ENTRY: Final = (
    "arrayLastIndex((source, since) -> source = {source_id} AND since <= {offset}, %(grid_sources)s, %(grid_since)s)"
)


def read_chunks(client: Client, source: Source, grid: Grid, first: int, end: int) -> dict[int, StoredChunk]:
    """What is stored of the chunks that begin in [first, end), by chunk; chunks without a row are absent.

    Of each cell's rows the one with the highest version. `end` is a chunk's end, or beyond all offsets.
    """
    cells: dict[int, dict[Family, dict[Key, Stored]]] = defaultdict(lambda: {family: {} for family in FAMILIES})
    dead: dict[int, dict[int, StoredDead]] = defaultdict(dict)
    known = known_chunks(client, source, first, end)
    for family in FAMILIES if known else ():
        end_of_values = 1 + len(family.values)
        for row in read(client, select(family), known):
            key = family.key(*row[end_of_values + 1 :])
            cells[row[0]][family][key] = Stored(row[1:end_of_values], row[end_of_values])
    for offset, *letter in read(
        client,
        "SELECT offset, toString(reason), error, withdrawn, version FROM dead_letters FINAL"
        " WHERE source_id = %(source)s AND offset >= %(first)s AND offset < %(end)s ORDER BY offset",
        {"source": source.source_id, "first": first, "end": end},
    ):
        dead[grid.chunk_of(offset)][offset] = StoredDead(*letter)
    return {chunk: StoredChunk(cells[chunk], dead[chunk]) for chunk in sorted({*cells, *dead})}


def known_chunks(client: Client, source: Source, first: int, end: int) -> dict[str, Any]:
    """The values for `OF_CHUNKS` of the chunks that begin in [first, end); nothing when none of them has a cell."""
    found = read(
        client,
        "SELECT groupUniqArray(chunk), groupUniqArray(cityHash64(source_id, chunk)),"
        " toUnixTimestamp(min(day)), toUnixTimestamp(max(day)) FROM chunk_days"
        " WHERE source_id = %(source)s AND chunk >= %(first)s AND chunk < %(end)s",
        {"source": source.source_id, "first": first, "end": end},
    )
    chunks, hashes, since, last = found[0]
    if not chunks:
        return {}
    return {"source": source.source_id, "chunks": chunks, "hashes": hashes, "since": since, "until": last + DAY_SECONDS}


def chunk_of(source_id: str, offset: str) -> str:
    """SQL of the first offset of the chunk that holds an offset, with the values that `entries` gives."""
    at = _ENTRY.format(source_id=source_id, offset=offset)
    return f"greatest(toUInt64(%(grid_since)s[{at}]), toUInt64({offset} - modulo({offset}, %(grid_lengths)s[{at}])))"


def chunk_end(source_id: str, offset: str) -> str:
    """SQL of the first offset after it."""
    at = _ENTRY.format(source_id=source_id, offset=offset)
    multiple = f"toUInt64({offset} - modulo({offset}, %(grid_lengths)s[{at}]) + %(grid_lengths)s[{at}])"
    return f"least(toUInt64(%(grid_until)s[{at}]), {multiple})"


def entries(grids: Mapping[int, Grid]) -> dict[str, list[int]]:
    """The values for `chunk_of` and `chunk_end`, by name: whose chunks, from which offset, until which, how long."""
    of = [
        (source_id, since, until, length)
        for source_id, grid in grids.items()
        for (since, length), (until, _) in zip(grid.entries, (*grid.entries[1:], (BEYOND_ALL, 0)), strict=True)
    ]
    names = ("grid_sources", "grid_since", "grid_until", "grid_lengths")
    return dict(zip(names, map(list, zip(*of, strict=True)), strict=False))


def misplaced(client: Client, grids: Mapping[int, Grid]) -> list[tuple[int, int]]:
    """(source id, first offset) of the first chunk of each source that may have cells and is none of its grid.

    Without those that a repair has begun: it took back what is in them.
    """
    return read(
        client,
        "SELECT source_id, min(chunk) FROM chunk_days WHERE source_id IN %(ids)s"
        f" AND chunk != {chunk_of('source_id', 'chunk')}"
        " AND (source_id, chunk) NOT IN (SELECT source_id, chunk FROM repairs WHERE source_id IN %(ids)s)"
        " GROUP BY source_id",
        {"ids": list(grids), **entries(grids)},
    )


def select(family: Family) -> str:
    """The cells of chunks in one table: rows of (chunk, value…, version, key…).

    Each value has an `argMax` of its own: rows of one version are the same, and one of a tuple takes three times as
    long where there are many cells.
    """
    shown = {"bucket": "toUnixTimestamp(bucket)"}
    key, values = family.key._fields, ", ".join(f"argMax({name}, version)" for name in family.values)
    return (
        f"SELECT chunk, {values}, max(version), {', '.join(shown.get(name, name) for name in key)}"
        f" FROM {family.table} WHERE {OF_CHUNKS} GROUP BY chunk, {', '.join(key)}"
    )
