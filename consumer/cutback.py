"""When the log is no longer the one that was counted: from where on it differs, and what to do about it.

Failure semantics: looking only reads. What is written comes in this order: the gap, the mark in `progress` that tells
of the cut, and then what is to be counted again, which every opening of the partition takes up from that mark. So a
process that ends in between leaves nothing that the next one does not make right.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from orgstats.consumer import metrics
from orgstats.consumer.counting.batch import Record
from orgstats.consumer.counting.chain import Chain, Mark
from orgstats.consumer.counting.grid import NO_CHUNKS, Chunks
from orgstats.consumer.counting.packing import packed
from orgstats.consumer.counting.resume import LOG_CUT_BACK, Progress, SourceFacts, same_log
from orgstats.consumer.counting.source import BEYOND_ALL, Source
from orgstats.consumer.ports import Store

logger = structlog.get_logger("orgstats.consumer")

Read = Callable[[int, int], Iterable[Sequence[Record]]]
"""Records of the log in [first, end), in offset order."""
_NEVER_MS: Final = 1 << 62


class Look(NamedTuple):
    """What reading a chunk again gave: the first record written in a later epoch than was counted, and the chain.

    `older` is set where the first record of all was not.
    """

    newer: int | None
    older: bool
    chain: int
    first_ms: int
    newer_ms: int


def mark_before(at: int, found: SourceFacts, read: Read) -> Mark:
    """The mark of a position in the log as it is now."""
    chain, epoch = Chain(max(found.grid.chunk_of(at), found.low)), None
    for run in read(chain.chain_from, at) if chain.chain_from < at else ():
        chain.add(packed(run))
        epoch = run[-1].leader_epoch() if run else epoch
    return Mark(-1 if epoch is None else epoch, chain.value, chain.chain_from)


def ends_early(found: SourceFacts) -> bool:
    """Whether the log ends before what was counted, or what a torn flush has read."""
    return found.progress is not None and found.end < max(found.progress.next_offset, found.begun)


def is_suspect(found: SourceFacts, *, chains: bool) -> bool:
    """Whether the log ends early, or has to be compared now because nothing that is read again could tell.

    What is read again tells by its chain, if there was any record. Where nothing is, the broker checks leader epochs;
    without them the chunks before are compared, and so where the open chunk has only offsets without a record.
    """
    progress = found.progress
    if progress is None or ends_early(found):
        return progress is not None
    head, mark = found.grid.chunk_of(progress.next_offset), progress.mark
    if not chains:
        return False
    if found.low > head:
        return mark.leader_epoch < 0 < mark.chain
    if mark.chain if head < progress.next_offset else mark.leader_epoch >= 0:
        return False
    first = found.registration.first_offset if found.registration else 0
    return max(first, found.low) < head


class LogChange(NamedTuple):
    """The first offset whose record may be another, and when Kafka appended what is there now; 0 when unknown."""

    at: int
    timestamp_ms: int


def find_cut(found: SourceFacts, read: Read, chunks: Mapping[int, Mark], down_to: int = BEYOND_ALL) -> LogChange | None:
    """Where the log begins to differ from what was counted; None when it does not.

    Looks back chunk by chunk for the last one that still agrees: its chain where the log still has all of it, else
    by the leader epochs of its records alone. Where only a chain tells that a chunk differs, all of it does; and where
    nothing agrees behind a skip that was accepted, so does the chunk that was left for it. Above `down_to`, where the
    log was seen to differ, a chunk that agrees tells nothing of those before: it may be counted since the cut.
    """
    progress = found.progress
    if progress is None:
        return None
    changed = LogChange(min(found.end, progress.next_offset), _NEVER_MS) if ends_early(found) else None
    if not progress.next_offset:
        return changed
    until, mark = progress.next_offset, progress.mark
    chunk, closed = found.grid.chunk_of(until - 1), False
    if mark.chain_from >= until:  # nothing was read of the open chunk
        mark, closed = chunks.get(chunk, mark), chunk in chunks
    while True:
        where, end = max(chunk, mark.chain_from, found.low), min(until, found.end)
        look = _look(read(where, end) if where < end else (), where, mark)
        whole = where == mark.chain_from and end == until
        same = bool(whole and mark.chain and look.chain == mark.chain)
        if (same and chunk <= down_to) or (where > mark.chain_from and look.newer is None):
            return changed  # it agrees; or without its head only epochs could tell, and they tell nothing
        if look.newer is not None and not same:
            changed = LogChange(look.newer, look.newer_ms)
        elif not same and where < end and (mark.chain or (closed and look.chain)) and (whole or mark.leader_epoch < 0):
            changed = LogChange(where, look.first_ms)  # epochs do not tell from where on, or there was no record at all
        agrees = look.older and not same and (changed is None or changed.at > where)
        until, changed = (chunk, changed) if agrees else _over_skip(chunk, changed, found, chunks)
        chunk = found.grid.before(until)
        if chunk == until or chunk not in chunks or until <= found.low:
            return changed
        mark, closed = chunks[chunk], True


def _over_skip(
    until: int, changed: LogChange | None, found: SourceFacts, chunks: Mapping[int, Mark]
) -> tuple[int, LogChange | None]:
    """Where to look next below `until`, from where on nothing agrees: on the other side of a skip that was accepted.

    Of the chunk in which counting stopped for the skip no mark is left: it was never closed, and progress has gone on.
    So where anything has changed, it has. Counted again it gives what is stored, and perhaps what was skipped.
    """
    if found.grid.before(until) in chunks or until <= found.low:
        return until, changed
    before = max((one for one in chunks if one < until), default=None)
    first = found.registration.first_offset if found.registration else 0
    stopped = found.grid.chunk_of(first) if before is None else found.grid.chunk_end(before)
    if changed is not None and found.low <= stopped < changed.at:
        changed = LogChange(stopped, 0)
    return stopped, changed


def _look(runs: Iterable[Sequence[Record]], first: int, mark: Mark) -> Look:
    chain, newer, older, first_ms, newer_ms = Chain(first), None, False, _NEVER_MS, _NEVER_MS
    for run in runs:
        if not run:
            continue
        chain.add(packed(run))
        if first_ms == _NEVER_MS:
            first_ms, older = _appended_ms(run[0]), (run[0].leader_epoch() or 0) <= mark.leader_epoch
        epoch = run[-1].leader_epoch()
        if newer is None and epoch is not None and -1 < mark.leader_epoch < epoch:
            at = next(r for r in run if (r.leader_epoch() or 0) > mark.leader_epoch)
            newer, newer_ms = at.offset(), _appended_ms(at)
    return Look(newer, older, chain.value, first_ms, newer_ms)


def _appended_ms(record: Record) -> int:
    """When Kafka appended it, 0 where that is not known: a producer's time may be later."""
    kind, when_ms = record.timestamp()
    return when_ms if kind == TIMESTAMP_LOG_APPEND_TIME else 0


@dataclass(frozen=True, slots=True)
class AfterCut:
    """What is known of a source once a cut is recorded, and the offsets [from, to) whose records vanished."""

    progress: Progress
    vanished: tuple[int, int]


def cut_back(progress: Progress, found: SourceFacts, mark: Mark, at: int) -> AfterCut:
    """`progress` of a source whose log was cut back at an offset, of which it now has a mark."""
    stale_to = found.grid.chunk_end(max(progress.next_offset, found.begun, 1) - 1)
    return AfterCut(
        replace(
            progress,
            next_offset=at,
            rewinds=progress.rewinds + 1,
            mark=mark,
            cut_at=at,
            cut_to=max(stale_to, progress.cut_to),
        ),
        (at, progress.next_offset),
    )


def with_cut(found: SourceFacts) -> SourceFacts:
    """`found`, with a commit from before the cut no further than what is counted since."""
    progress = found.progress
    if progress is None or found.committed is None or progress.next_offset >= progress.cut_to:
        return found
    return replace(found, committed=min(found.committed, progress.next_offset))


def look_for_cut(
    source: Source, found: SourceFacts, read: Read, store: Store, *, chains: bool, down_to: int = BEYOND_ALL
) -> SourceFacts:
    """Look whether the log was cut back below what was counted; if it was, record it, and say what is known then.

    Without `chains` the log may be compacted: what is missing in a chunk then tells nothing.
    """
    progress = found.progress
    changed = find_cut(found if chains else _unchained(found), read, same_log(found) if chains else {}, down_to)
    if progress is None or changed is None:
        return found
    progress = replace(
        progress,
        complete_until_ms=min(progress.complete_until_ms, changed.timestamp_ms),
        hourly_complete_until_ms=min(progress.hourly_complete_until_ms, changed.timestamp_ms),
    )
    after = cut_back(progress, found, mark_before(changed.at, found, read), changed.at)
    store.record_cut(source, after.progress, after.vanished[1])
    metrics.log_cuts.labels(source.topic, source.partition).inc()
    logger.error(
        "the log was cut back: counted records are gone, and are taken back",
        topic=source.topic,
        partition=source.partition,
        from_offset=after.vanished[0],
        to_offset=after.vanished[1],
        log_end=found.end,
        why=LOG_CUT_BACK,
    )
    return replace(found, progress=after.progress, begun=0)


def _unchained(found: SourceFacts) -> SourceFacts:
    """Without a chain that could be compared, as if retention had taken the head of the chunk."""
    progress = found.progress
    return replace(found, progress=progress and replace(progress, mark=progress.mark._replace(chain_from=-1)))


def chunks_without_log(found: SourceFacts) -> Chunks:
    """Chunks that the log, since it was cut back, does not reach yet: what is stored of them is to be taken back."""
    progress = found.progress
    if progress is None:
        return NO_CHUNKS
    first = found.grid.chunk_end(max(found.end, progress.next_offset, 1) - 1)
    return Chunks(found.grid, first, progress.cut_to)
