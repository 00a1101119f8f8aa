"""What is written when the log was cut back: the cut, and zeros for chunks that the log no longer has.

Statements and rows as values; `Store.record_cut` and `Store.take_back` run them. Each may be repeated, and gives the
same rows.
"""

from collections.abc import Mapping
from typing import Any, Final

from orgstats.consumer.counting.cells import FAMILIES, Family
from orgstats.consumer.counting.grid import Chunks
from orgstats.consumer.counting.resume import LOG_CUT_BACK, Progress, Repair
from orgstats.consumer.counting.source import Source, version_of
from orgstats.consumer.store import rows
from orgstats.consumer.store.chunks import OF_CHUNKS, chunk_of, entries

Statement = tuple[str, dict[str, Any]]
"""SQL and its parameters."""

_GAP: Final = (
    "INSERT INTO gaps (source_id, from_offset, to_offset, why, seen_at)"
    " SELECT %(source)s, %(at)s, %(vanished_to)s, %(why)s, now64(3, 'UTC')"
)
_PROGRESS: Final = (
    "INSERT INTO progress (source_id, next_offset, kafka_timestamp, complete_until, partitions, fingerprint,"
    " leader_epoch, chain, chain_from, cut_at, cut_to, hourly_offset, hourly_complete_until, written_at, version)"
    " SELECT source_id, %(at)s, kafka_timestamp,"
    " fromUnixTimestamp64Milli(toInt64(%(complete_until_ms)s), 'UTC'), partitions, fingerprint,"
    " %(epoch)s, %(chain)s, %(chain_from)s, %(at)s, %(cut_to)s, %(hourly_offset)s,"
    " fromUnixTimestamp64Milli(toInt64(%(hourly_complete_until_ms)s), 'UTC'), now64(3, 'UTC'), %(version)s"
    " FROM progress FINAL WHERE source_id = %(source)s"
)
_CHUNKS: Final = "WHERE source_id = %(source)s AND chunk >= %(first)s AND chunk < %(end)s"
_REVISIONS: Final = (
    "INNER JOIN (SELECT chunk AS first, bitShiftLeft(toUInt64(max(revision) - 1), 48) AS before"
    f" FROM repairs FINAL {_CHUNKS} GROUP BY chunk) AS r ON c.chunk = r.first"
)
_LETTER: Final = "source_id, offset, topic, partition, kafka_timestamp"
_WITHDRAW: Final = (
    f"INSERT INTO dead_letters ({_LETTER}, withdrawn, version) SELECT {_LETTER}, true, bitOr(r.before, offset)"
    f" FROM (SELECT {_LETTER}, {chunk_of('source_id', 'offset')} AS chunk FROM dead_letters FINAL"
    f" {_CHUNKS} AND NOT withdrawn) AS c {_REVISIONS}"
)


def _zeros(family: Family) -> str:
    """An INSERT of zeros for every stored cell of chunks."""
    cell, values = f"{', '.join(family.key._fields)}, source_id, chunk", ", ".join(family.values)
    zeros = ", ".join("0" for _ in family.values)
    return (
        f"INSERT INTO {family.table} ({cell}, {values}, version) SELECT {cell}, {zeros}, bitOr(r.before, chunk)"
        f" FROM (SELECT DISTINCT {cell} FROM {family.table} WHERE {OF_CHUNKS}) AS c {_REVISIONS}"
    )


def cut(source: Source, progress: Progress, vanished_to: int) -> list[Statement]:
    """Record that the log was cut back: the vanished offsets in `gaps`, then `progress` as it is from now on."""
    values = {
        "source": source.source_id,
        "at": progress.cut_at,
        "vanished_to": vanished_to,
        "why": LOG_CUT_BACK,
        "version": version_of(progress.rewinds, progress.next_offset),
        "cut_to": progress.cut_to,
        "epoch": progress.mark.leader_epoch,
        "chain": progress.mark.chain,
        "chain_from": progress.mark.chain_from,
        "complete_until_ms": min(max(progress.complete_until_ms, 0), rows.LAST_MS),
        "hourly_offset": progress.hourly_offset,
        "hourly_complete_until_ms": min(max(progress.hourly_complete_until_ms, 0), rows.LAST_MS),
    }
    progress_row = (_PROGRESS, values)
    return [(_GAP, values), progress_row] if progress.cut_at < vanished_to else [progress_row]


def revisions(
    source: Source, chunks: Chunks, repairs: Mapping[int, Repair], progress: Progress, now_ms: int
) -> rows.Columns:
    """Columns of `repairs` for chunks that the log no longer has, of those where they are not begun yet.

    Their revision goes up by two: zeros are of the one before, so that whatever is counted there later wins.
    """
    now, rewinds = rows.instant(now_ms), progress.cut.rewinds
    known = {chunk: repairs.get(chunk, Repair(0, "")) for chunk in chunks}
    begun = [
        (source.source_id, chunk, before.revision + 2, rewinds, progress.fingerprint, LOG_CUT_BACK, now)
        for chunk, before in known.items()
        if before.rewinds < rewinds
    ]
    return list(zip(*begun, strict=True))


def zeros(source: Source, chunks: Chunks, known: dict[str, Any]) -> list[Statement]:
    """Zero what is stored of these chunks and withdraw their dead letters, in the revisions that were begun.

    `known` is what `known_chunks` gives of them.
    """
    values: dict[str, Any] = {"source": source.source_id, "first": chunks.start, "end": chunks.stop}
    values |= entries({source.source_id: chunks.grid})
    return [(sql, values | known) for sql in (*map(_zeros, FAMILIES if known else ()), _WITHDRAW)]
