"""What a replay tells the store: what it replaces and changes of whole chunks, several at once."""

from collections.abc import Sequence
from typing import Any

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import read, write
from orgstats.clickhouse.connect import INSERT_SETTINGS
from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.source import version_of
from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.store.rows import dead_letter
from orgstats.consumer.store.store import Store
from orgstats.failpoints import failpoint
from orgstats.schemas.outcomes import DAY_SECONDS
from orgstats.schemas.tables import columns, insert


def write_replaced(store: Store, replay_id: str, changes: Sequence[ChunkDifference], at: Any) -> None:
    """Keep what a repair is about to replace; the same rows when it is done again."""
    tps = [((replay_id, c.counted.source.source_id, c.counted.chunk), c) for c in changes]
    for family in FAMILIES:
        rows = [(*p, *key, *was) for p, c in tps for key, (was, _) in c.cells[family].items()]
        insert_rows(store, family.replaced, rows)
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
    """Write what differs of chunks: the days of cells, dead letters, then the cells, family by family.

    Failure semantics: as a flush, it may be repeated in part or whole; a row of one version is always the same.
    """
    at = [(c, (c.counted.source.source_id, c.counted.chunk)) for c in changes]
    days = {
        (*chunk, key.bucket - key.bucket % DAY_SECONDS)
        for c, chunk in at
        for cells in c.cells.values()
        for key in cells
    }
    insert_rows(store, "chunk_days", sorted(days))
    insert_rows(
        store,
        "dead_letters",
        [dead_letter(c.counted.source, dead) for c in changes for _, dead in c.dead.values()],
    )
    for c in changes:
        _withdraw(store, c)
    for family in FAMILIES:
        rows = [(*key, *chunk, *after, c.version) for c, chunk in at for key, (_, after) in c.cells[family].items()]
        insert_rows(store, family.table, rows)
        failpoint("replay_torn")


def write_logs(store: Store, changes: Sequence[ChunkDifference], fingerprint: str, rewinds: int, at: Any) -> None:
    """Record the log of which chunks are counted now, where it is another than before."""
    rows = [_log(c, mark, fingerprint, rewinds, at) for c in changes if (mark := c.counted.log_to_record)]
    insert_rows(store, "chunks", rows)


def _log(c: ChunkDifference, mark: Mark, fingerprint: str, rewinds: int, at: Any) -> tuple[Any, ...]:
    chunk = (c.counted.source.source_id, c.counted.chunk)
    return (*chunk, c.revision, rewinds, *mark, fingerprint, at, version_of(rewinds, c.revision))


_DEAD_LETTER_COLUMNS = [name for name in columns("dead_letters") if name not in ("withdrawn", "version")]


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
                "revision": version_of(c.revision, 0),
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
