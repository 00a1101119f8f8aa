"""Rows for the tests of the query side, put straight into the tables."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory
from orgstats.query.sql import Statement
from orgstats.schemas.outcomes import Outcome
from orgstats.schemas.tables import CountRow, ProgressRow, SourceRow

EXAMPLE_FIRST = 1_584_824_400
EXAMPLE = [
    *(6090, 6096, 5775, 7998, 7166, 8057, 5760, 8618, 7681, 6941, 7282, 6614),
    *(6944, 8150, 6883, 5380, 7545, 8002, 6579, 5715, 7054, 6862, 7460, 11448),
]
"""The published example of the endpoint: hourly counts from EXAMPLE_FIRST on."""


class Cell(NamedTuple):
    """A row of counts, what most tests do not care about last."""

    org_id: int
    bucket: int
    quantity: int
    outcome: int = Outcome.accepted
    category: int = 1
    reason: str = ""
    source_id: int = 1
    chunk: int = 0
    version: int = 1
    project_id: int = 0
    key_id: int = 0
    events: int | None = None  # as many as the quantity


class Counted(NamedTuple):
    """A source and how far it is counted; `complete_until` None: no progress yet."""

    source_id: int = 1
    partition: int = 0
    topic: str = "outcomes"
    topic_id: str = "a"
    registered: float = 1.0
    complete_until: float | None = 1_600_000_000.0
    partitions: int = 1
    next_offset: int = 1


def insert_counts(database: Database, cells: Iterable[Cell]) -> None:
    """Insert rows of counts, also those that a higher version beats, and what `hourly` and `totals` then hold."""
    rows = [
        CountRow(
            org_id=cell.org_id,
            bucket=cell.bucket,
            project_id=cell.project_id,
            key_id=cell.key_id,
            category=cell.category,
            outcome=cell.outcome,
            reason=cell.reason,
            source_id=cell.source_id,
            chunk=cell.chunk,
            quantity=cell.quantity,
            events=cell.quantity if cell.events is None else cell.events,
            version=cell.version,
        )
        for cell in cells
    ]
    database.insert("counts", rows)
    org_ids = sorted({row.org_id for row in rows})  # of others it would be the same again, and take long
    for text in (_HOURLY, _TOTALS):
        database.read(Statement(text, {"org_ids": org_ids}))


_HELD = "toUInt64(least(sum(toUInt128({})), 18446744073709551615))"
_HOURLY = (
    "INSERT INTO hourly SELECT org_id, toStartOfHour(bucket) AS hour, project_id, category, outcome, reason, source_id,"
    f" chunk, {_HELD.format('quantity')}, {_HELD.format('events')}, max(version) FROM counts FINAL"
    " WHERE org_id IN {org_ids:Array(UInt64)}"
    " GROUP BY org_id, hour, project_id, category, outcome, reason, source_id, chunk"
)
_TOTALS = (
    "INSERT INTO totals SELECT org_id, arrayJoin([10, 3600]) AS width,"
    " toDateTime(intDiv(toUnixTimestamp(bucket), width) * width, 'UTC') AS start, source_id, chunk, "
    + ", ".join(_HELD.format(f"quantity * (outcome = {outcome})") for outcome in range(3))
    + ", max(version) FROM counts FINAL"
    " WHERE org_id IN {org_ids:Array(UInt64)} AND category IN (0, 1, 3) AND outcome < 3"
    " GROUP BY org_id, width, start, source_id, chunk"
)


def insert_sources(database: Database, sources: Iterable[Counted]) -> None:
    """Register sources and write their progress."""
    sources = list(sources)
    database.insert(
        "sources",
        [
            SourceRow(
                source_id=source.source_id,
                topic=source.topic,
                topic_id=source.topic_id,
                partition=source.partition,
                chunk_length=2**17,
                isolation="read_committed",
                first_offset=0,
                registered_at=moment(source.registered),
            )
            for source in sources
        ],
    )
    database.insert(
        "progress",
        [
            ProgressRow(
                source_id=source.source_id,
                next_offset=source.next_offset,
                kafka_timestamp=moment(source.complete_until),
                complete_until=moment(source.complete_until),
                partitions=source.partitions,
                fingerprint="x",
                leader_epoch=-1,
                chain=0,
                chain_from=0,
                cut_at=0,
                cut_to=0,
                hourly_offset=source.next_offset,
                hourly_complete_until=moment(source.complete_until),
                written_at=moment(source.complete_until),
                version=source.next_offset,
            )
            for source in sources
            if source.complete_until is not None
        ],
    )


def moment(seconds: float) -> datetime:
    """A time as the driver wants it."""
    return datetime.fromtimestamp(seconds, UTC)


def make_token(database: Database, org_id: int | None, expires_at: float | None = None) -> str:
    """A token for one organization, or for all with None."""
    return Directory(database).create_token(org_id=org_id, name="test", expires_at=expires_at, now=time.time())[0]
