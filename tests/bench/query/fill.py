"""Fills tables with counts as the consumer writes them, and beside them with raw rows as Snuba keeps them."""

from collections.abc import Iterable
from typing import Final

from clickhouse_driver import Client

from orgstats.consumer.counting.grid import CHUNK_LENGTH
from orgstats.schemas.outcomes import BUCKET_SECONDS, HOUR_SECONDS, STAT_CATEGORIES, STAT_OUTCOMES
from tests.bench.query.traffic import TABLES, Partition, load_templates

COUNTS: Final = ("counts", "hourly", "totals")
UNMERGED_SECONDS: Final = 10
"""So many of the last flushes stay as they were written, each a part of its own."""
_TOGETHER_SECONDS: Final = 1_000
"""The flushes before that are written together; it is as if they had been merged since."""

RAW_TABLES: Final = (
    """CREATE TABLE raw
    (
        org_id UInt64, project_id UInt64, key_id Nullable(UInt64),
        timestamp DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
        outcome UInt8, category UInt8, reason LowCardinality(Nullable(String)), quantity UInt32,
        event_id Nullable(UUID) CODEC(LZ4HC(0)), size UInt32,
        INDEX minmax_key_id key_id TYPE minmax GRANULARITY 1,
        INDEX minmax_outcome outcome TYPE minmax GRANULARITY 1
    )
    ENGINE = MergeTree PARTITION BY toMonday(timestamp) ORDER BY (org_id, project_id, timestamp)
    SETTINGS index_granularity = 16384""",
    """CREATE TABLE raw_by_hour
    (
        org_id UInt64, project_id UInt64, key_id UInt64, timestamp DateTime('UTC'), outcome UInt8,
        reason LowCardinality(String), category UInt8, quantity UInt64, times_seen UInt64, bytes_received UInt64
    )
    ENGINE = SummingMergeTree PARTITION BY toMonday(timestamp)
    ORDER BY (org_id, project_id, key_id, outcome, reason, timestamp, category)
    SETTINGS index_granularity = 256""",
    """CREATE MATERIALIZED VIEW to_raw_by_hour TO raw_by_hour AS
    SELECT org_id, project_id, ifNull(key_id, 0) AS key_id, toStartOfHour(timestamp) AS timestamp, outcome,
           ifNull(reason, 'none') AS reason, category, sum(quantity) AS quantity, count() AS times_seen,
           sum(size) AS bytes_received
    FROM raw GROUP BY org_id, project_id, key_id, timestamp, outcome, reason, category""",
)
"""Raw events, and their sums by hour through a materialized view: keys and codecs as in Snuba's migrations."""


def fill(client: Client, traffic: Iterable[Partition], seconds: int, *, raw: bool) -> None:
    """Store the traffic's first seconds, the last few of them flush by flush and not merged afterwards."""
    traffic = list(traffic)
    for statement in (*TABLES, *(RAW_TABLES if raw else ())):
        client.execute(statement)
    load_templates(client, traffic)
    history = seconds - UNMERGED_SECONDS
    for first in range(0, history, _TOGETHER_SECONDS):
        end = min(first + _TOGETHER_SECONDS, history)
        write_counts(client, traffic, first, end)
        if raw:
            write_raw(client, traffic, first, end)
    for table in COUNTS:
        client.execute(f"SYSTEM STOP MERGES {table}")
    for second in range(history, seconds):
        write_counts(client, traffic, second, second + 1)
    if raw:
        write_raw(client, traffic, history, seconds)


def write_counts(client: Client, traffic: Iterable[Partition], first: int, end: int) -> None:
    """Store what changed in the seconds [first, end): of each cell that did, its whole count up to the end.

    A cell's version is the end of the second in which it last changed, or of its chunk: what it has after the
    merge of flushes that came once a second. The last flushes, which are not merged, have rows of `hourly` here each
    time; a consumer writes those less often.
    """
    client.execute("TRUNCATE TABLE groups")
    for one in traffic:
        client.execute(f"INSERT INTO groups {_groups(one, first * one.rate, end * one.rate)}")
    client.execute(_CELLS.format("counts", "bucket", "project_id, key_id"))
    client.execute(_CELLS.format("hourly", "toStartOfHour(bucket)", "project_id"))
    client.execute(_TOTALS)


_CELLS: Final = """
INSERT INTO {0}
SELECT org_id, {1} AS start, {2}, category, outcome, reason, source_id, chunk,
       sum(events * quantity), sum(events), max(version)
FROM groups INNER JOIN templates USING (partition, number)
GROUP BY org_id, start, {2}, category, outcome, reason, source_id, chunk HAVING max(changed)"""
_SHOWN: Final = tuple(map(int, STAT_OUTCOMES["received"]))
_TOTALS: Final = f"""
INSERT INTO totals
SELECT org_id, arrayJoin([{BUCKET_SECONDS}, {HOUR_SECONDS}]) AS width,
       toDateTime(intDiv(toUnixTimestamp(bucket), width) * width, 'UTC') AS start, source_id, chunk,
       {", ".join(f"sumIf(events * quantity, outcome = {outcome})" for outcome in _SHOWN)}, max(version)
FROM groups INNER JOIN templates USING (partition, number)
WHERE category IN {STAT_CATEGORIES} AND outcome IN {_SHOWN}
GROUP BY org_id, width, start, source_id, chunk HAVING max(changed)"""


def _groups(one: Partition, first: int, end: int) -> str:
    """Events of one template, bucket and chunk, from the start of the chunk that holds offset `first` on."""
    flushed = f"(intDiv(max(offset), {one.rate}) + 1) * {one.rate}"
    return f"""
        SELECT {one.number}, template, intDiv(second, {BUCKET_SECONDS}) * {BUCKET_SECONDS} AS bucket,
               {one.source.source_id}, intDiv(offset, {CHUNK_LENGTH}) * {CHUNK_LENGTH} AS chunk,
               count(), least({flushed}, chunk + {CHUNK_LENGTH}), max(offset) >= {first}
        FROM ({one.events(first - first % CHUNK_LENGTH, end)}) GROUP BY template, bucket, chunk"""


def write_raw(client: Client, traffic: Iterable[Partition], first: int, end: int) -> None:
    """Store the events of the seconds [first, end) row by row."""
    rows = [
        f"""SELECT org_id, project_id, key_id, second, outcome, category, nullIf(reason, ''), quantity,
                   generateUUIDv4(offset), 0
            FROM ({one.events(first * one.rate, end * one.rate)}) AS e
            INNER JOIN (SELECT * FROM templates WHERE partition = {one.number}) AS t ON t.number = e.template"""
        for one in traffic
    ]
    client.execute(f"INSERT INTO raw {' UNION ALL '.join(rows)}")
