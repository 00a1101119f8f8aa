"""What a replay asks of the store and tells it: whole chunks of a source, several at once."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import read, write
from orgstats.clickhouse.connect import INSERT_SETTINGS
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.chunk import CellKey, HourKey, ProjectKey, Stored
from orgstats.consumer.counting.source import Source, chunk_of, version_of
from orgstats.consumer.ops.compare import ChunkDifference, StoredCells, StoredDead, Value
from orgstats.consumer.store.rows import dead_letter
from orgstats.consumer.store.store import Store
from orgstats.failpoints import failpoint
from orgstats.schemas.tables import TABLES, columns, insert


def chunks(store: Store, source: Source, first: int, end: int) -> dict[int, StoredCells]:
    """What is stored of the chunks that begin in [first, end), by chunk; chunks without a row are absent.

    `end` is a chunk's end, or beyond all offsets: dead letters at or above it are left out.
    """
    values = {"source": source.source_id, "first": first, "end": end}
    cells: dict[int, dict[CellKey, Stored]] = defaultdict(dict)
    project_cells: dict[int, dict[ProjectKey, Stored]] = defaultdict(dict)
    dead: dict[int, dict[int, StoredDead]] = defaultdict(dict)
    hours: dict[int, dict[HourKey, tuple[int, ...]]] = defaultdict(dict)
    where = "source_id = %(source)s AND chunk >= %(first)s AND chunk < %(end)s"
    for chunk, *row in ask(
        store,
        "SELECT chunk, org_id, toUnixTimestamp(bucket), category, outcome, toString(reason),"
        f" argMax(quantity, version), argMax(events, version), max(version) FROM counts WHERE {where}"
        " GROUP BY chunk, org_id, bucket, category, outcome, reason",
        values,
    ):
        cells[chunk][CellKey(*row[:5])] = Stored(*row[5:])
    for chunk, *row in ask(
        store,
        "SELECT chunk, org_id, project_id, toUnixTimestamp(bucket), category, outcome,"
        f" argMax(quantity, version), max(version) FROM project_counts WHERE {where}"
        " GROUP BY chunk, org_id, project_id, bucket, category, outcome",
        values,
    ):
        project_cells[chunk][ProjectKey(*row[:5])] = Stored(row[5], 0, row[6])
    for chunk, *row in ask(
        store,
        "SELECT chunk, org_id, toUnixTimestamp(bucket), accepted, filtered, rate_limited FROM hour_counts FINAL"
        f" WHERE {where}",
        values,
    ):
        hours[chunk][HourKey(*row[:2])] = tuple(row[2:])
    for offset, *row in ask(
        store,
        "SELECT offset, toString(reason), error, withdrawn, version FROM dead_letters FINAL"
        " WHERE source_id = %(source)s AND offset >= %(first)s AND offset < %(end)s",
        values,
    ):
        dead[chunk_of(offset)][offset] = StoredDead(*row)
    return {
        chunk: StoredCells(cells[chunk], project_cells[chunk], dead[chunk], hours[chunk])
        for chunk in sorted({*cells, *project_cells, *dead, *hours})
    }


def write_replaced(store: Store, replay_id: str, changes: Sequence[ChunkDifference], at: Any) -> None:
    """Keep what a repair is about to replace; the same rows when it is done again."""
    tps = [((replay_id, c.counted.source.source_id, c.counted.chunk), c) for c in changes]
    insert_rows(store, "replaced_counts", [(*p, *key, *was) for p, c in tps for key, (was, _) in c.cells.items()])
    insert_rows(
        store,
        "replaced_project_counts",
        [(*p, *key, was.quantity) for p, c in tps for key, (was, _) in c.project_cells.items()],
    )
    dead = [
        (*tp, offset, was.code if was else found.code, was.text if was else found.text, not was or was.withdrawn)
        for tp, c in tps
        for offset, (was, found) in c.dead.items()
    ]
    dead += [(*tp, o, was.code, was.text, False) for tp, c in tps for o, was in c.withdrawn.items()]
    insert_rows(store, "replaced_dead_letters", [(*row, at) for row in dead])


def write_repairs(store: Store, changes: Sequence[ChunkDifference], fingerprint: str, why: str, at: Any) -> None:
    """Record revisions, before their first row."""
    rows = [(c.counted.source.source_id, c.counted.chunk, c.revision, 0, fingerprint, why, at) for c in changes]
    insert_rows(store, "repairs", rows)


def write_changes(store: Store, changes: Sequence[ChunkDifference]) -> None:
    """Write what differs of chunks of one source: dead letters, counts, project counts, sums by hour.

    Failure semantics: as a flush, it may be repeated in part or whole; a row of one version is always the same.
    """
    insert_rows(
        store,
        "dead_letters",
        [dead_letter(c.counted.source, dead) for c in changes for _, dead in c.dead.values()],
    )
    for c in changes:
        _withdraw(store, c)
    insert_rows(store, "counts", [_cell(c, key, after) for c in changes for key, (_, after) in c.cells.items()])
    failpoint("replay_torn")
    insert_rows(
        store,
        "project_counts",
        [
            (*key, c.counted.source.source_id, c.counted.chunk, after.quantity, c.version)
            for c in changes
            for key, (_, after) in c.project_cells.items()
        ],
    )
    if changes:
        found = [c.counted.chunk for c in changes]
        store.sum_hours(changes[0].counted.source, min(found), max(found) + 1)


def write_logs(store: Store, changes: Sequence[ChunkDifference], rewinds: int, at: Any) -> None:
    """Record the log of which chunks are counted now, where it is another than before."""
    insert_rows(store, "chunks", [_log(c, c.counted.other_log, rewinds, at) for c in changes if c.counted.other_log])


def _log(c: ChunkDifference, mark: Mark, rewinds: int, at: Any) -> tuple[Any, ...]:
    buckets = [key.bucket for key in c.counted.cells]
    return (
        *(c.counted.source.source_id, c.counted.chunk, c.revision, rewinds, *mark),
        *(min(buckets, default=0), max(buckets, default=0), at, version_of(rewinds, c.revision)),
    )


def _cell(c: ChunkDifference, key: CellKey, after: Value) -> tuple[Any, ...]:
    return (*key, c.counted.source.source_id, c.counted.chunk, *after, c.version)


_DEAD_LETTER_COLUMNS = [name for name in columns(TABLES["dead_letters"]) if name not in ("withdrawn", "version")]


def _withdraw(store: Store, c: ChunkDifference) -> None:
    """Mark dead letters as decoded after all; the payload stays, so that this can be undone."""
    beyond = [offset for offset in c.withdrawn if offset >= c.counted.next_offset]
    names = ", ".join(_DEAD_LETTER_COLUMNS)
    for offsets, version in (
        ([offset for offset in c.withdrawn if offset < c.counted.next_offset], "bitOr(%(revision)s, offset)"),
        (beyond, "%(lost)s"),
    ):
        if offsets:
            values = {
                "source": c.counted.source.source_id,
                "offsets": offsets,
                "revision": c.revision << 48,
                "lost": c.dead_version(beyond[0]) if beyond else 0,
            }
            run(
                store,
                f"INSERT INTO dead_letters ({names}, withdrawn, version)"
                f" SELECT {names}, true, toUInt64({version}) FROM dead_letters FINAL"
                " WHERE source_id = %(source)s AND offset IN %(offsets)s",
                values,
            )


def run(store: Store, sql: str, values: dict[str, Any]) -> None:
    """A statement that answers nothing, with the settings that inserts need."""
    store.run(lambda client: write(client, sql, values))


def ask(store: Store, sql: str, values: dict[str, Any]) -> list[Any]:
    """The rows of an answer."""
    return store.run(lambda client: read(client, sql, values))


def insert_rows(store: Store, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of a table's row type."""
    if not rows:
        return

    def call(client: Client) -> None:
        client.execute(insert(table), rows, settings=INSERT_SETTINGS)

    store.run(call)
