"""Takes an organization out of every table, and keeps it out when its records are read again.

First a tombstone is stored. Consumers look for it as they look for rules: every few seconds, and they stop reading when
they could not for longer than STALE_SECONDS. Whoever knows it counts the organization's events as `erased_key` says,
and counts the open chunks again, so that what was stored of the organization there becomes 0. What is left is in closed
chunks, which nobody writes any more. There its events are moved into the same cells, by statements that read what is
stored, since the log may be gone. Then its rows are deleted.

Failure semantics: the tombstone comes first and is for ever; every step after it may be repeated, from wherever an
earlier run was interrupted. A day of a chunk is moved once: not where it has been moved, and nothing is deleted before
all are. What a consumer that was cut off stores later, nobody sees; `orgstats doctor` tells of it, and another run
takes it away. A chunk that lost its first records to retention while it was open cannot be counted again; it goes on as
ever until it is closed, and another run moves it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import alter, read
from orgstats.consumer.counting.cells import (
    COUNTS,
    ERASED_CATEGORY,
    ERASED_REASON,
    FAMILIES,
    HOURLY,
    Family,
    erased_mark,
)
from orgstats.consumer.counting.decode import NAMED
from orgstats.consumer.counting.source import BEYOND_ALL, Source
from orgstats.consumer.ops.connections import STORE_SECONDS, Connections
from orgstats.consumer.ops.stored import ask, insert_rows, run
from orgstats.consumer.store.rules import KNOWN_SECONDS, erasures
from orgstats.consumer.store.store import Store
from orgstats.errors import Refused, Unavailable
from orgstats.failpoints import failpoint
from orgstats.schemas.grants import ERASED_FROM

OPEN_SECONDS: Final = 120.0
"""So long it waits for consumers to count their open chunks again."""
DELETE_SECONDS: Final = 3_600.0
_LOOK_SECONDS: Final = 0.5

_MOST: Final = f"toUInt64({(1 << 64) - 1})"
_CLOSED: Final = f"chunk < transform(source_id, %(sources)s, %(open)s, toUInt64({BEYOND_ALL}))"
_NAMED: Final = f"payload != '' AND has(extractAll(payload, '{NAMED}'), toString(%(org)s))"
_OWN: Final = {table: "org_id = %(org)s" + (" AND NOT all_orgs" if table == "tokens" else "") for table in ERASED_FROM}
_CELLS: Final = {family.table: f"{_OWN[family.table]} AND {_CLOSED}" for family in FAMILIES}
_EVENTS: Final = {family.table: f"{_CELLS[family.table]} AND events > 0" for family in (HOURLY, COUNTS)}
_ASKED_BY: Final = ("tokens", "projects", "organizations")
"""By what is in these an organization is asked for."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What is stored of an organization: rows by table, dead letters that name it, and of its events the number."""

    rows: Mapping[str, int]
    dead_letters: int
    events: int


def holding(connections: Connections, org_id: int) -> Holding:
    """What is stored of an organization now; raises Refused for what is none."""
    _refuse_nobody(org_id)
    store, values = connections.store, dict[str, Any](org=org_id)
    rows = {table: _rows(store, table, own, values) for table, own in _OWN.items()}
    dead = _rows(store, "dead_letters", _NAMED, values)
    [(events,)] = ask(store, "SELECT sum(events) FROM counts FINAL WHERE org_id = %(org)s", values)
    return Holding(rows, dead, int(events))


def is_erased(connections: Connections, org_id: int) -> bool:
    """Whether there is a tombstone of it."""
    return any(row.org_id == org_id for row in connections.store.run(erasures))


def erase(
    connections: Connections, org_id: int, by: str, tell: Callable[[str], None], *, wait_seconds: float = OPEN_SECONDS
) -> None:
    """Erase an organization; `tell` takes what it is doing.

    Raises Unavailable when it is not done yet, with what to do; asked again it goes on. Consumers are waited for
    `wait_seconds` once they must know of it. Raises Refused for 0, under which events of nobody count.
    """
    _refuse_nobody(org_id)
    store, values = connections.store, dict[str, Any](org=org_id)
    if not is_erased(connections, org_id):
        # By the server's clock, since consumers must have had the time to learn of it.
        sql = "INSERT INTO erasures (org_id, by, at, done) SELECT %(org)s, %(by)s, now64(3, 'UTC'), false"
        run(store, sql, values | {"by": by})
    failpoint("erase_begun")
    for table in _ASKED_BY:  # from here on nobody can ask for it
        _alter(store, table, f"DELETE WHERE {_OWN[table]}", values)
    _wait_until_known(connections, org_id, tell)
    held = _wait_for_open_chunks(connections, org_id, wait_seconds, tell)
    values |= {"sources": [0, *held], "open": [0, *held.values()], "mark": erased_mark(org_id)}
    tell("counting its events for nobody")
    for family in (HOURLY, COUNTS):
        run(store, _moved(family), values)
        failpoint("erase_torn")
    failpoint("erase_moved")
    _delete(connections, values, tell)
    if held:
        raise Unavailable(
            f"organization {org_id} is erased but for {len(held)} chunks that consumers are counting, whose first "
            "records are no longer in the log or whose consumers do not run. Run this again once they are closed"
        )
    [row] = [row for row in store.run(erasures) if row.org_id == org_id]
    insert_rows(store, "erasures", [row._replace(done=True)])


def unfinished(connections: Connections) -> list[int]:
    """Organizations whose erasure is not done."""
    return [row.org_id for row in connections.store.run(erasures) if not row.done]


def refuse_unfinished(connections: Connections) -> None:
    """Raise Refused while an organization is being erased: what is counted again meanwhile would be counted half."""
    if left := unfinished(connections):
        raise Refused(f"organization {left[0]} is being erased: first orgstats orgs erase {left[0]} --execute")


def left_over(client: Client) -> list[int]:
    """Organizations that are erased, and of which there are cells all the same."""
    sql = "SELECT DISTINCT org_id FROM {} WHERE org_id IN (SELECT org_id FROM erasures WHERE done)"
    found = [read(client, sql.format(family.table)) for family in FAMILIES]
    return sorted({org_id for rows in found for (org_id,) in rows})


def _refuse_nobody(org_id: int) -> None:
    if not 0 < org_id < 1 << 63:
        raise Refused(f"{org_id} is no organization that can be erased: under 0 count the events of nobody")


def _wait_until_known(connections: Connections, org_id: int, tell: Callable[[str], None]) -> None:
    """Until whoever has not seen the tombstone has stopped reading. It can be seen now, and may be no longer than that.

    How old it is tells more only where storing it cannot have taken all the time since.
    """
    age = "SELECT dateDiff('millisecond', at, now64(3)) FROM erasures FINAL WHERE org_id = %(org)s"
    [(age_ms,)] = ask(connections.store, age, {"org": org_id})
    known_in = KNOWN_SECONDS + STORE_SECONDS - age_ms / 1000
    if known_in > 0:
        seconds = min(KNOWN_SECONDS, known_in)
        tell(f"waiting {seconds:.0f} s until every consumer knows it")
        time.sleep(seconds)


def _wait_for_open_chunks(
    connections: Connections, org_id: int, seconds: float, tell: Callable[[str], None]
) -> dict[int, int]:
    """First offsets of chunks that are being counted and hold events of it, by source; of those that stay so.

    All three tables are looked at: a flush comes to one after the other, and what it writes later would stay.
    """
    deadline = time.monotonic() + seconds
    told = 0
    while True:
        held = _open_chunks(connections, org_id)
        if not held or time.monotonic() > deadline:
            return held
        if told != len(held):
            tell(f"waiting for the consumers of {len(held)} partitions to count their open chunks again")
            told = len(held)
        time.sleep(_LOOK_SECONDS)


def _open_chunks(connections: Connections, org_id: int) -> dict[int, int]:
    store = connections.store
    sources = _live_sources(connections)
    progress, grids = store.progress(sources), store.grids([source.source_id for source in sources])
    first = {one: grids[one].chunk_of(known.next_offset) if one in grids else 0 for one, known in progress.items()}
    values = {"org": org_id, "sources": [0, *first], "open": [0, *first.values()]}
    held: dict[int, int] = {}
    for family in FAMILIES:
        anything = " OR ".join(f"{name} > 0" for name in family.values)
        cells = f"SELECT * FROM {family.table} FINAL WHERE org_id = %(org)s AND NOT {_CLOSED}"
        found = ask(store, f"SELECT source_id, min(chunk) FROM ({cells}) WHERE {anything} GROUP BY source_id", values)
        held |= {source_id: min(chunk, held.get(source_id, chunk)) for source_id, chunk in found}
    return held


def _live_sources(connections: Connections) -> list[Source]:
    """Those of topics that there are: of all others nobody counts a chunk to its end."""
    rows = ask(connections.store, "SELECT topic, topic_id, partition FROM sources FINAL", {})
    known = [Source(*row) for row in rows]
    if connections.settings.topic_id:
        return [one for one in known if connections.topics.partitions(one.topic)]
    there = connections.topics.describe(sorted({one.topic for one in known}))
    return [one for one in known if one.topic in there and there[one.topic][0] == one.topic_id]


def _moved(family: Family) -> str:
    """Its events of closed chunks as those of an erased organization, but for days where that is done.

    A cell of the day that is 0 is from before a backup was restored: consumers still knew a tombstone that it has not.
    """
    key, values, moved = family.key._fields, ", ".join(family.values), "org_id = 0 AND project_id = %(mark)s"
    what = {"org_id": "0", "bucket": "day", "project_id": "%(mark)s", "key_id": "0", "outcome": "0"}
    what |= {"category": str(ERASED_CATEGORY), "reason": f"'{ERASED_REASON}'"}
    sums = ", ".join(f"toUInt64(least(sum(toUInt128({name})), {_MOST}))" for name in family.values)
    return f"""
    INSERT INTO {family.table} ({", ".join(key)}, source_id, chunk, {values}, version)
    SELECT {", ".join(what[name] for name in key)}, source_id, chunk, {sums}, max(version) + countIf({moved})
    FROM (SELECT *, toStartOfDay(bucket) AS day FROM {family.table} FINAL
        WHERE (org_id = %(org)s OR ({moved})) AND {_CLOSED})
    GROUP BY source_id, chunk, day HAVING sum(events) > 0 AND sumIf(events, {moved}) = 0"""


def _delete(connections: Connections, values: dict[str, Any], tell: Callable[[str], None]) -> None:
    """Delete its rows, and empty its dead letters, and wait until that is done everywhere.

    Cells that are 0 go last: once they are gone, what they replaced would be moved by who asks again.
    """
    store = connections.store
    _delete_from(store, _EVENTS, values)
    _wait_until_gone(store, _EVENTS, values, tell)
    wanted = _OWN | _CELLS
    # Those by which it is asked for were the first to go.
    _delete_from(store, {table: own for table, own in wanted.items() if table not in _ASKED_BY}, values)
    _alter(store, "dead_letters", f"UPDATE key = '', headers = [], payload = '' WHERE {_NAMED}", values)
    _wait_until_gone(store, wanted | {"dead_letters": _NAMED}, values, tell)


def _delete_from(store: Store, wanted: Mapping[str, str], values: dict[str, Any]) -> None:
    for table, own in wanted.items():
        _alter(store, table, f"DELETE WHERE {own}", values)
        failpoint("erase_deleting")


def _wait_until_gone(
    store: Store, wanted: Mapping[str, str], values: dict[str, Any], tell: Callable[[str], None]
) -> None:
    deadline = time.monotonic() + DELETE_SECONDS
    told = -1
    while True:
        left = {table: _rows(store, table, own, values) for table, own in wanted.items()}
        rows = sum(left.values())
        if not rows:
            return
        if time.monotonic() > deadline:
            slow = ", ".join(table for table, number in left.items() if number)
            raise Unavailable(
                f"{rows} rows are still there after an hour ({slow}): see system.mutations, and ask again"
            )
        if rows != told:
            tell(f"deleting: {rows:,} rows left")
            told = rows
        time.sleep(_LOOK_SECONDS)


def _alter(store: Store, table: str, action: str, values: dict[str, Any]) -> None:
    store.run(lambda client: alter(client, table, action, values))


def _rows(store: Store, table: str, where: str, values: dict[str, Any]) -> int:
    [(rows,)] = ask(store, f"SELECT count() FROM {table} WHERE {where}", values)
    return int(rows)
