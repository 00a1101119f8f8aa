"""The statements of `orgstats orgs erase`, answered of the rows of a simulated ClickHouse (see sql.py)."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from orgstats.consumer.counting.cells import COUNTS, FAMILIES, HOURLY, Family
from orgstats.consumer.counting.source import BEYOND_ALL
from orgstats.consumer.ops import erase
from orgstats.consumer.store.rows import instant
from orgstats.schemas.grants import ERASED_FROM
from orgstats.schemas.outcomes import DAY_SECONDS
from orgstats.schemas.tables import TABLES, ErasureRow
from tests.sim.clickhouse import Row, SimClickHouse

Values = dict[str, Any]
Insert = Callable[[str, list[Row]], None]
_CELLS: Final = {family.table for family in FAMILIES}
_NAMED: Final = re.compile(rb'"org_id"[ \t\r\n]*:[ \t\r\n]*"?0*([0-9]{1,20})')


def names(row: Row, org_id: int) -> bool:
    """Whether a dead letter names an organization, and is not emptied."""
    return bool(row.payload) and str(org_id).encode() in _NAMED.findall(row.payload)


def rows_of(server: SimClickHouse, table: str, values: Values, least: int = 0) -> list[Row]:
    """Rows of an organization; of cells only those in closed chunks, once it is known which are open.

    With `least` only those of so many events.
    """
    if table == "dead_letters":
        return [row for row in server.rows[table] if names(row, values["org"])]
    rows = [row for row in server.rows[table] if row.org_id == values["org"] and (not least or row.events >= least)]
    return [row for row in rows if table not in _CELLS or "open" not in values or is_closed(row, values)]


def is_closed(row: Row, values: Values) -> bool:
    """Whether a cell is in a closed chunk."""
    return bool(row.chunk < dict(zip(values["sources"], values["open"], strict=True)).get(row.source_id, BEYOND_ALL))


def begin(server: SimClickHouse, insert: Insert, values: Values) -> None:
    """Its tombstone."""
    insert("erasures", [ErasureRow(values["org"], values["by"], instant(server.epoch_ms()), done=False)])


def age_ms(server: SimClickHouse, values: Values) -> list[Any]:
    """Of its tombstone."""
    (row,) = [row for row in server.erasures() if row.org_id == values["org"]]
    return [(server.epoch_ms() - round(row.at.timestamp() * 1000),)]


def open_chunks(server: SimClickHouse, table: str, values: Values) -> list[Any]:
    """The first chunk of each source that is being counted and holds anything of it."""
    found: dict[int, int] = {}
    for row in cells_of(server, table, values):
        if not is_closed(row, values):
            found[row.source_id] = min(row.chunk, found.get(row.source_id, row.chunk))
    return [*found.items()]


def cells_of(server: SimClickHouse, table: str, values: Values) -> Iterable[Row]:
    """Its cells that are not 0."""
    names = next(family.values for family in FAMILIES if family.table == table)
    rows = [row for row in server.final(table) if row.org_id == values["org"]]
    return [row for row in rows if any(getattr(row, name) for name in names)]


def move(server: SimClickHouse, insert: Insert, family: Family, values: Values) -> None:
    """What is in closed chunks of it to the one cell of its day, where there is none that is more than 0."""
    sums: dict[tuple[int, int, int], list[Row]] = {}
    for row in server.final(family.table):
        wanted = row.org_id == values["org"] or (row.org_id, row.project_id) == (0, values["mark"])
        if wanted and is_closed(row, values):
            sums.setdefault((row.source_id, row.chunk, row.bucket // DAY_SECONDS * DAY_SECONDS), []).append(row)
    moved = [_sum(family, of, rows, values["mark"]) for of, rows in sums.items()]
    insert(family.table, [row for row in moved if row is not None])


def _sum(family: Family, of: tuple[int, int, int], rows: list[Row], mark: int) -> Row | None:
    own, there = [row for row in rows if row.org_id], [row for row in rows if not row.org_id]
    if any(row.events for row in there) or not any(row.events for row in own):
        return None
    row_of: Any = TABLES[family.table]
    key: dict[str, Any] = {"org_id": 0, "bucket": of[2], "project_id": mark, "key_id": 0, "category": 255, "outcome": 0}
    key |= {"reason": "erased", "version": max(row.version for row in rows) + len(there)}
    every = key | {"source_id": of[0], "chunk": of[1]}
    every |= {name: sum(getattr(row, name) for row in own) for name in family.values}
    return row_of(**{name: every[name] for name in row_of._fields})


def delete(server: SimClickHouse, table: str, least: int, values: Values) -> None:
    """Its rows, some time; of cells those of so many events at least."""
    named = {id(row) for row in rows_of(server, table, values, least)}
    server.mutate(table, lambda row: id(row) in named, lambda _row: None)


def empty(server: SimClickHouse, values: Values) -> None:
    """Dead letters that name it, some time."""
    emptied = {"key": b"", "headers": [], "payload": b""}
    server.mutate("dead_letters", lambda row: names(row, values["org"]), lambda row: row._replace(**emptied))


def left(server: SimClickHouse, table: str, least: int, values: Values) -> list[Any]:
    """How many rows of it there are; who looks again finds all deletions done."""
    number = len(rows_of(server, table, values, least))
    server.mutations_end()
    return [(number,)]


def _of_client(call: Callable[..., Any], *arguments: Any, inserts: bool = False) -> Callable[[Any, Values], Any]:
    def answer(client: Any, values: Values) -> Any:
        given = (client._server, client._insert) if inserts else (client._server,)
        return call(*given, *arguments, values)

    return answer


ANSWERS: Final[dict[str, Callable[[Any, Values], Any]]] = {
    "SELECT org_id, by, at, done FROM erasures": lambda client, _values: [
        tuple(row) for row in client._server.erasures()
    ],
    "SELECT org_id FROM erasures FINAL WHERE at": lambda client, values: [
        (row.org_id,) for row in client._server.erasures() if row.at > values["at"]
    ],
    "INSERT INTO erasures (org_id, by, at, done) SELECT": _of_client(begin, inserts=True),
    "SELECT engine_full FROM system.tables": lambda _client, _values: [],
    "SELECT dateDiff('millisecond', at, now64(3)) FROM erasures": _of_client(age_ms),
    "SELECT topic, topic_id, partition FROM sources FINAL": lambda client, _values: [
        (row.topic, row.topic_id, row.partition) for row in client._server.final("sources")
    ],
    "SELECT sum(events) FROM counts FINAL": lambda client, values: [
        (sum(row.events for row in cells_of(client._server, "counts", values)),)
    ],
    "ALTER TABLE dead_letters UPDATE": _of_client(empty),
    **{f"ALTER TABLE {table} DELETE WHERE {own}": _of_client(delete, table, 1) for table, own in erase._EVENTS.items()},
    **{f"ALTER TABLE {table} DELETE": _of_client(delete, table, 0) for table in ERASED_FROM},
    **{f"SELECT count() FROM {table} WHERE {own}": _of_client(left, table, 1) for table, own in erase._EVENTS.items()},
    **{f"SELECT count() FROM {table}": _of_client(left, table, 0) for table in (*ERASED_FROM, "dead_letters")},
    **{
        f"SELECT source_id, min(chunk) FROM (SELECT * FROM {family.table} FINAL": _of_client(open_chunks, family.table)
        for family in FAMILIES
    },
    **{erase._moved(one).strip(): _of_client(move, one, inserts=True) for one in (HOURLY, COUNTS)},
}
