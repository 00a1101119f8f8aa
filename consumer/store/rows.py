"""From what partitions have to store to columns for ClickHouse; pure."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

from orgstats.consumer.counting.cells import Family
from orgstats.consumer.counting.chain import NO_MARK, Mark
from orgstats.consumer.counting.chunk import ChunkChanges
from orgstats.consumer.counting.partition import DeadRecord, PartitionChanges
from orgstats.consumer.counting.resume import NO_CUT, Cut
from orgstats.consumer.counting.source import Source, version_of

PAYLOAD_BYTES: Final = 64 * 1024
"""As much of a dead letter's payload is stored; the rest is in the log, at its offset."""

LAST_MS: Final = 9_000_000_000_000
"""Epoch milliseconds within what a DateTime64 holds."""

Columns = list[Sequence[Any]]
"""One sequence of values per column, all of one length."""


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """How far a source is counted with a flush; `complete_until_ms` in epoch milliseconds.

    `fingerprint` is the flush's unless it is given. The last two are how far `hourly` is written, and complete.
    """

    source: Source
    next_offset: int
    kafka_timestamp_ms: int
    complete_until_ms: int
    partitions: int
    rewinds: int
    fingerprint: str = ""
    mark: Mark = NO_MARK
    cut: Cut = NO_CUT
    hourly_offset: int = 0
    hourly_complete_until_ms: int = 0


@dataclass(slots=True)
class Flush:
    """What is stored together; `Store.write` says in which order."""

    changes: list[PartitionChanges]
    fingerprint: str
    now_ms: int
    progress: list[ProgressUpdate] = field(default_factory=list)


def instant(epoch_ms: int) -> datetime:
    """A moment as ClickHouse's DateTime64(3, 'UTC') takes it; what lies beyond its range becomes its edge."""
    return datetime.fromtimestamp(min(max(epoch_ms, 0), LAST_MS) / 1000, UTC)


def cells(family: Family, changes: Iterable[PartitionChanges]) -> Columns:
    """Columns of a table of cells: whole counts of those that changed."""
    return _stacked(
        _cells(change.source, part, len(family.values), part.columns[family])
        for change in changes
        for part in change.chunks
        if part.columns[family] and part.columns[family][0]
    )


def _cells(source: Source, part: ChunkChanges, values: int, columns: Sequence[Sequence[Any]]) -> Columns:
    """Columns of cells of one chunk: those of the key, which chunk it is, those of the `values`, the version."""
    source_id, chunk, version = (
        array("Q", (one,)) * len(columns[0]) for one in (source.source_id, part.chunk.first_offset, part.version)
    )
    return [*columns[:-values], source_id, chunk, *columns[-values:], version]


def _stacked(parts: Iterable[Columns]) -> Columns:
    return [_joined(columns) for columns in zip(*parts, strict=True)]


def _joined(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """One below the other; an array if all are, see `orgstats.clickhouse.arrays`."""
    kinds = {column.typecode if isinstance(column, array) else "" for column in columns}
    if len(kinds) > 1 or "" in kinds:
        return list(chain.from_iterable(columns))
    whole = array(kinds.pop())
    for column in columns:
        whole.extend(column)
    return whole


def chunk_days(changes: Iterable[PartitionChanges]) -> Columns:
    """Columns of `chunk_days`: days of which this flush is the first to write cells."""
    return _columns(
        (c.source.source_id, part.chunk.first_offset, day)
        for c in changes
        for part in c.chunks
        for day in sorted(part.days)
    )


def _columns(rows: Iterable[tuple[Any, ...]]) -> Columns:
    return list(zip(*rows, strict=True))


def flushes(flush: Flush) -> Columns:
    """Columns of `flushes`: where cells and dead letters may be stored up to, of sources that have any to store."""
    return _columns(
        (c.source.source_id, c.next_offset, version_of(c.cut.rewinds, c.next_offset))
        for c in flush.changes
        if c.chunks or c.notes.dead_letters or c.notes.withdrawn
    )


def gaps(flush: Flush) -> Columns:
    """Columns of `gaps`."""
    now = instant(flush.now_ms)
    return _columns((c.source.source_id, *c.notes.gap, now) for c in flush.changes if c.notes.gap)


def repairs(flush: Flush) -> Columns:
    """Columns of `repairs`: revisions that this flush is the first to write."""
    now = instant(flush.now_ms)
    return _columns(
        (c.source.source_id, chunk, revision, c.cut.rewinds, flush.fingerprint, why, now)
        for c in flush.changes
        for chunk, revision, why in c.notes.begun
    )


def chunks(flush: Flush) -> Columns:
    """Columns of `chunks`."""
    now = instant(flush.now_ms)
    return _columns(
        (
            c.source.source_id,
            one.first_offset,
            one.revision,
            c.cut.rewinds,
            *one.mark,
            one.fingerprint or flush.fingerprint,
            now,
            version_of(c.cut.rewinds, one.revision),
        )
        for c in flush.changes
        for one in c.notes.closed
    )


def dead_letters(changes: Iterable[PartitionChanges]) -> Columns:
    """Columns of `dead_letters`; a withdrawn one keeps only its place."""
    found = [dead_letter(c.source, dead) for c in changes for dead in c.notes.dead_letters]
    return _columns(found + [_withdrawn(c.source, *one) for c in changes for one in c.notes.withdrawn])


def dead_letter(source: Source, dead: DeadRecord) -> tuple[Any, ...]:
    """A row of `dead_letters`; one that names an erased organization keeps neither key nor headers nor payload."""
    payload, key, headers = dead.record.value() or b"", dead.record.key() or b"", dead.record.headers() or []
    offset = dead.record.offset()
    kept: tuple[Any, ...] = (key, [(name, value or b"") for name, value in headers], payload[:PAYLOAD_BYTES])
    return (
        source.source_id,
        offset,
        source.topic,
        source.partition,
        instant(dead.record.timestamp()[1]),
        *((b"", [], b"") if dead.erased else kept),
        len(payload),
        dead.code,
        dead.text,
        0,
        version_of(dead.revision, offset),
    )


def withdrawn_version(offset: int, revision: int, chunk: int) -> int:
    """Above what an older revision stored, below what this one may store later: the log may have been cut back."""
    return version_of(revision, chunk if revision else offset)


def _withdrawn(source: Source, offset: int, revision: int, chunk: int) -> tuple[Any, ...]:
    tp = (source.source_id, offset, source.topic, source.partition)
    return (*tp, instant(0), b"", [], b"", 0, "", "", 1, withdrawn_version(offset, revision, chunk))


def progress(flush: Flush) -> Columns:
    """Columns of `progress`."""
    now = instant(flush.now_ms)
    return _columns(
        (
            p.source.source_id,
            p.next_offset,
            instant(p.kafka_timestamp_ms),
            instant(p.complete_until_ms),
            p.partitions,
            p.fingerprint or flush.fingerprint,
            *p.mark,
            p.cut.at,
            p.cut.to,
            p.hourly_offset,
            instant(p.hourly_complete_until_ms),
            now,
            version_of(p.rewinds, p.next_offset),
        )
        for p in flush.progress
    )
