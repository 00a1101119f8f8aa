"""What operators are to mend: rows of a closed chunk are lost, count too much, or are of another organization."""

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.grid import Grid
from tests.sim.clickhouse import KEYS, Row
from tests.sim.history import History
from tests.sim.oracle import source_of
from tests.sim.plan import Step
from tests.sim.replaying import grids_of

_CELLS: Final = tuple(family.table for family in FAMILIES)
TABLES: Final = (*_CELLS, "dead_letters")

Chunk = tuple[int, int]


def written_again(history: History, at: Chunk) -> bool:
    """Whether rows of a closed chunk may still come, the same as are there: then nothing of it stays damaged.

    Of a flush of which nobody knows whether it was stored, or one that is on its way.
    """
    store, grids = history.world.store, grids_of(history)
    if any(_chunk_of(row, grids) == at for table, rows in store.late if table in TABLES for row in rows):
        return True
    open_ones = [one.partition for process in history.processes for one in process.loop._partitions.open.values()]
    kept = {(one.source.source_id, chunk.first_offset) for one in open_ones for chunk in one._closed}
    return at in kept or any(process.executor.begun for process in history.processes)


def damage(history: History, step: Step, at: Chunk, choice: Random) -> bool:
    """Lose all rows of some keys of a table, count one more, or one too much; whether there was any such row.

    Or count one organization as another, in all tables, which then agree with each other and with the log's offsets.
    """
    store, table, grids = history.world.store, step["table"], grids_of(history)

    def of(row: Row) -> Chunk:
        return _chunk_of(row, grids)

    if step["harm"] == "mistaken":
        for name in _CELLS:
            store.rows[name] = [
                row._replace(org_id=1001) if of(row) == at and row.org_id == 1 else row for row in store.rows[name]
            ]
        return True
    hit = {_key(table, row) for row in store.final(table) if of(row) == at and choice.random() < 0.5}
    if not hit:
        return False
    if step["harm"] == "lost":
        store.rows[table] = [row for row in store.rows[table] if _key(table, row) not in hit]
    elif table == "dead_letters":
        return _mistake_letters(
            history, at, [row for row in store.final(table) if _key(table, row) in hit], step["harm"]
        )
    else:
        value = next(family for family in FAMILIES if family.table == table).values[0]
        for row in [row for row in store.final(table) if _key(table, row) in hit]:
            other = {"org_id": row.org_id + 1000} if step["harm"] == "stray" else {value: getattr(row, value) + 1}
            store.rows[table] = [*store.rows[table], row._replace(**other)]
    return True


def put_back(rows: dict[str, list[Row]], undamaged: Mapping[str, list[Row]], damaged: Mapping[str, list[Row]]) -> None:
    """What was damaged is as it was before, by the rows of then and of just after it; what was written since stays."""
    for table, before in undamaged.items():
        lost = [row for row in before if row not in damaged[table]]
        more = [row for row in damaged[table] if row not in before]
        rows[table] = [*(row for row in rows[table] if row not in more), *lost]


def _mistake_letters(history: History, at: Chunk, letters: list[Row], harm: str) -> bool:
    """They have another reason; or what can be decoded is a letter, too."""
    store = history.world.store
    if harm == "more":
        store.rows["dead_letters"] = [*store.rows["dead_letters"], *(row._replace(reason="empty") for row in letters)]
        return any(row.reason != "empty" for row in letters)
    one = source_of(store, history.world.kafka, at[0])
    known = {row.offset for row in store.winners("dead_letters").get(at[0], {}).values()}
    end = min(grids_of(history)[at[0]].chunk_end(at[1]), one.next_offset)
    right = [record.at for record in one.log.within(at[1], end, history.plan.world.isolation) if record.at not in known]
    stray = [letters[0]._replace(offset=offset, version=offset) for offset in right[:2]]
    store.rows["dead_letters"] = [*store.rows["dead_letters"], *stray]
    return bool(stray)


def _key(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in KEYS[table])


def _chunk_of(row: Row, grids: Mapping[int, Grid]) -> Chunk:
    known = hasattr(row, "chunk")
    return row.source_id, row.chunk if known else grids[row.source_id].chunk_of(row.offset)
