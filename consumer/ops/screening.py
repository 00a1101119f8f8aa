"""What ClickHouse itself can say of many chunks at once, so that the audit fetches only those that are in doubt.

Sums are of 128 bits: a roll-up that was stored wrapped, and not held at the largest number, is not taken for its sum.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from orgstats.consumer.counting.source import Source, next_offset_of
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.store.store import Store
from orgstats.schemas.outcomes import BUCKET_SECONDS, DAY_SECONDS, HOUR_SECONDS, STAT_CATEGORIES

ChunkId = tuple[int, int]
"""(source_id, first offset)."""

_OF_CHUNKS: Final = (
    "(source_id, chunk) IN %(chunks)s AND cityHash64(source_id, chunk) IN %(hashes)s"
    " AND bucket >= toDateTime(%(since)s, 'UTC') AND bucket < toDateTime(%(until)s, 'UTC')"
)
_BY_INDEX: Final = (
    "SETTINGS use_skip_indexes_if_final = 1, use_skip_indexes_if_final_exact_mode = 0,"
    " do_not_merge_across_partitions_select_final = 1"
)
"""What chooses rows, and the week that they are kept in, is part of the key: all rows of a cell are chosen, or none."""
_HOUR_KEY: Final = "source_id, chunk, org_id, hour, project_id, category, outcome, reason"
_HOURLY: Final = f"""
    SELECT source_id, chunk, sum(counted), max(highest), sum(counted > listed ? counted - listed : listed - counted),
        countIf(counted = listed AND quantity != listed_quantity),
        countIf(has(CAST(%(erased)s, 'Array(UInt64)'), org_id) AND counted > 0) > 0
    FROM (
        SELECT {_HOUR_KEY}, max(newest) AS highest,
            sum(toUInt128(q)) AS quantity, sum(toUInt128(e)) AS counted,
            sum(toUInt128(hq)) AS listed_quantity, sum(toUInt128(he)) AS listed
        FROM (
            SELECT source_id, chunk, org_id, toStartOfHour(bucket) AS hour, project_id, category, outcome, reason,
                quantity AS q, events AS e, 0 AS hq, 0 AS he, version AS newest
            FROM counts FINAL WHERE {_OF_CHUNKS}
            UNION ALL
            SELECT source_id, chunk, org_id, bucket AS hour, project_id, category, outcome, reason, 0, 0,
                quantity, events, 0
            FROM hourly FINAL WHERE {_OF_CHUNKS}
        )
        GROUP BY {_HOUR_KEY}
    )
    GROUP BY source_id, chunk
    {_BY_INDEX}"""
_TOTALS: Final = f"""
    SELECT DISTINCT source_id, chunk
    FROM (
        SELECT source_id, chunk FROM (
            SELECT source_id, chunk, org_id, arrayJoin([{BUCKET_SECONDS}, {HOUR_SECONDS}]) AS width,
                intDiv(toUnixTimestamp(bucket), width) AS at, outcome,
                quantity AS q, 0 AS listed
            FROM counts FINAL WHERE {_OF_CHUNKS} AND category IN %(categories)s AND outcome <= 2
            UNION ALL
            SELECT source_id, chunk, org_id, width, intDiv(toUnixTimestamp(bucket), width) AS at, outcome, 0, listed
            FROM totals FINAL ARRAY JOIN [accepted, filtered, rate_limited] AS listed, [0, 1, 2] AS outcome
            WHERE {_OF_CHUNKS}
        )
        GROUP BY source_id, chunk, org_id, width, at, outcome
        HAVING sum(toUInt128(q)) != sum(toUInt128(listed))
    )
    {_BY_INDEX}"""


class Screened(NamedTuple):
    """One chunk: its events, up to which offset they are stored, and how its roll-ups differ from the sums of `counts`.

    `events_off` is by how many events the cells of `hourly` do, `cells_off` how many of these do in their quantity
    alone; `totals_off` whether any cell of `totals` does. `holds_erased` whether events of erased organizations are
    still in it. `dead` are the offsets of its dead letters.
    """

    events: int
    reached: int
    events_off: int
    cells_off: int
    holds_erased: bool
    totals_off: bool
    dead: Sequence[int]

    def accounted(self, end: int) -> int:
        """Events, and dead letters before an offset."""
        return self.events + sum(offset < end for offset in self.dead)


NOTHING: Final = Screened(0, 0, 0, 0, False, False, ())


def screen(
    store: Store, wanted: Mapping[Source, Sequence[tuple[int, int]]], erased: Collection[int]
) -> dict[ChunkId, Screened]:
    """What is stored of chunks, given as (first offset, end) by source; those without a row are NOTHING."""
    chunks = [(source.source_id, first) for source, its in wanted.items() for first, _ in its]
    found = dict.fromkeys(chunks, NOTHING)
    known = _known(store, chunks)
    values = {**known, "categories": sorted(STAT_CATEGORIES), "erased": sorted(erased)}
    off = {tuple(row) for row in ask(store, _TOTALS, values)} if known else set()
    for source_id, chunk, events, version, *differing, holds_erased in ask(store, _HOURLY, values) if known else ():
        this = source_id, chunk
        roll_ups = differing[0], differing[1], bool(holds_erased), this in off
        found[this] = Screened(events, next_offset_of(version), *roll_ups, ())
    for this in off - {row for row in found if found[row] is not NOTHING}:
        found[this] = NOTHING._replace(totals_off=True)
    for source, its in wanted.items():  # after the cells: dead letters are stored before them
        for first, offsets in _dead(store, source, its).items():
            found[source.source_id, first] = found[source.source_id, first]._replace(dead=offsets)
    return found


def _known(store: Store, chunks: Sequence[ChunkId]) -> dict[str, Any]:
    """The values of `_OF_CHUNKS`; nothing when none of them has a cell."""
    rows = ask(
        store,
        "SELECT groupUniqArray((source_id, chunk)), groupUniqArray(cityHash64(source_id, chunk)),"
        " toUnixTimestamp(min(day)), toUnixTimestamp(max(day)) FROM chunk_days WHERE (source_id, chunk) IN %(chunks)s",
        {"chunks": chunks},
    )
    stored, hashes, since, last = rows[0]
    return {"chunks": stored, "hashes": hashes, "since": since, "until": last + DAY_SECONDS} if stored else {}


def _dead(store: Store, source: Source, chunks: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    ends = iter(sorted(chunks))
    first, end = next(ends)
    for (offset,) in ask(
        store,
        "SELECT offset FROM dead_letters FINAL WHERE source_id = %(source)s AND offset >= %(first)s"
        " AND offset < %(end)s AND NOT withdrawn ORDER BY offset",
        {"source": source.source_id, "first": first, "end": max(end for _, end in chunks)},
    ):
        while offset >= end:
            first, end = next(ends)
        if offset >= first:
            found[first].append(offset)
    return found
