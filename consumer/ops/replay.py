"""Replay: what the log gives against what is stored, first shown and then written.

A replay reads closed chunks again and compares them cell by cell. Where the store only lacks something, the
missing rows are written in the revision that is there. Where it holds something else, only a repair may act:
in the next revision, recorded before its first row, with what it replaces kept for `undo`.

Failure semantics: every step may be repeated. A replay that was killed goes on after the last chunks that it
recorded as done; those that were begun are compared again and get what is still missing, in the same revision. A rewind
begins anew, since the log may have changed again by then, and of which log the open chunk is only counting it tells.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from orgstats.consumer.checkpoint import earliest_clock_ms
from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.chain import NO_MARK, Mark
from orgstats.consumer.counting.completeness import Moment, SeenEnds
from orgstats.consumer.counting.fingerprint import fingerprint_of
from orgstats.consumer.counting.resume import NO_CUT, Cut
from orgstats.consumer.counting.source import BEYOND_ALL
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.reader import LogReaders
from orgstats.consumer.ops import jobs, stored
from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.ops.connections import Connections, SourceStatus, locate, now
from orgstats.consumer.ops.erase import refuse_unfinished
from orgstats.consumer.ops.recount import FULL_SPEED, HeadPolicy, OffsetRange, Pace, Recount
from orgstats.consumer.ops.spans import WantedOffsets, closed_span, whole_span, without
from orgstats.consumer.ops.summary import Summary
from orgstats.consumer.store.rows import Flush, ProgressUpdate, progress
from orgstats.consumer.store.rules import load_history
from orgstats.consumer.topic_checks import refuse_compacted
from orgstats.errors import Refused
from orgstats.failpoints import failpoint

FINGERPRINT_SECONDS: Final = 45.0
"""Consumers notice a new edition of the rules within 10 s; this long a repair waits for them."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What an operator asked for, as given; the same again goes on with an interrupted replay."""

    topics: tuple[str, ...]
    partitions: tuple[int, ...] | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    since: str | None = None
    until: str | None = None
    repair: bool = False
    head: HeadPolicy = HeadPolicy.refuse
    rewind: bool = False

    @property
    def action(self) -> str:
        """What is recorded of it."""
        return "rewind" if self.rewind else "repair" if self.repair else "fill"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The wanted offsets or Kafka timestamps, epoch milliseconds, resolved from what was asked."""

    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PreparedReplay:
    """A replay ready to be planned or applied."""

    connections: Connections
    request: ReplayRequest
    spans: list[OffsetRange]
    notes: list[str]
    fingerprint: str
    batch: BatchCounter

    @property
    def offsets(self) -> int:
        """Offsets to read."""
        return sum(span.end - max(span.first, span.located.low) for span in self.spans)


def prepare(connections: Connections, request: ReplayRequest, when: TimeRange, *, wait: bool = False) -> PreparedReplay:
    """Find the chunks that were asked for. With `wait`, when running consumers count by the newest rules.

    Raises Refused when the consumers count by another fingerprint than this program and its settings.
    """
    deadline = time.monotonic() + (FINGERPRINT_SECONDS if wait and request.repair else 0.0)
    while True:
        refuse_unfinished(connections)
        history = connections.store.run(load_history)
        fingerprint = _fingerprint(connections, history.edition)
        located = locate(connections, request.partitions)
        behind = _behind(connections, located, history.editions)
        if (
            not behind
            or time.monotonic() >= deadline
            or not connections.broker.group_members(connections.settings.group)
        ):
            break
        time.sleep(1.0)
    notes = [
        f"{one.name}: the consumers have not counted by the newest edition of the rules yet; what they close until "
        "then is not repaired by this: ask again afterwards"
        for one in behind
        if request.repair and not request.rewind
    ]
    spans, left_out = _spans(connections, request, when, located)
    return PreparedReplay(
        connections, request, spans, notes + left_out, fingerprint, BatchCounter(connections.settings.limits, history)
    )


def _fingerprint(connections: Connections, edition: str) -> str:
    return fingerprint_of(connections.settings.limits, edition, projects=connections.settings.projects)


def _behind(
    connections: Connections, located: Collection[SourceStatus], editions: Collection[str]
) -> list[SourceStatus]:
    """Sources last counted by an older edition of the rules; Refused when it was by other settings or code."""
    known = [_fingerprint(connections, edition) for edition in editions]
    for one in located:
        if one.progress is not None and one.progress.fingerprint not in known:
            raise Refused(
                f"{one.name} is counted by another version of orgstats or other settings than these: a replay would "
                "mix both. Give this command the consumers' ORGSTATS_MAX_EVENT_AGE_SECONDS, "
                "ORGSTATS_MAX_EVENT_AHEAD_SECONDS and ORGSTATS_PROJECTS; after an upgrade, start the consumers first"
            )
    return [one for one in located if one.progress is not None and one.progress.fingerprint != known[-1]]


def _spans(
    connections: Connections, request: ReplayRequest, when: TimeRange, located: Collection[SourceStatus]
) -> tuple[list[OffsetRange], list[str]]:
    if request.rewind:
        return _rewound(connections, request, located)
    tps = [(one.source.topic, one.source.partition) for one in located]
    since = {} if when.since_ms is None else connections.broker.offsets_at(tps, when.since_ms)
    until = {} if when.until_ms is None else connections.broker.offsets_at(tps, when.until_ms)
    spans, notes = [], []
    for one, tp in zip(located, tps, strict=True):
        first, end = request.from_offset, request.to_offset
        if when.since_ms is not None:
            found = since[tp]
            first = one.end if found is None else found
        if when.until_ms is not None:
            end = until[tp]
        if first is not None and end is not None and end <= first:
            continue
        span, left_out = closed_span(one, WantedOffsets(first, end), request.head)
        notes += left_out
        if span is not None:
            spans.append(span)
    return spans, notes


def _rewound(
    connections: Connections, request: ReplayRequest, located: Collection[SourceStatus]
) -> tuple[list[OffsetRange], list[str]]:
    members = connections.broker.group_members(connections.settings.group)
    if members:
        raise Refused(
            f"group {connections.settings.group} has {members} members: a rewind sets back what they go on from. "
            "Stop the consumers first, and start them afterwards"
        )
    spans, notes = [], []
    for one in located:
        if one.progress is not None:
            span, left_out = whole_span(one, request.head)
            spans.append(span)
            notes += left_out
    return spans, notes


def plan(prepared: PreparedReplay, on_changes: Callable[[ChunkDifference], None], pace: Pace = FULL_SPEED) -> Summary:
    """Read the log and say what `apply` with the same options would write; writes nothing."""
    summary = Summary(notes=list(prepared.notes))
    with _readers(prepared) as readers:
        recount = _recount(prepared, readers, summary, pace)
        for span in prepared.spans:
            for chunk in recount.changes(span, {}):
                for changes in chunk:
                    if summary.see(changes, repair=prepared.request.repair) and changes.count:
                        on_changes(changes)
    return summary


def apply(prepared: PreparedReplay, by: str, stopping: Callable[[], bool], pace: Pace = FULL_SPEED) -> Summary:
    """Do it, or go on doing it; ends early, resumably, when `stopping`.

    Rows of a few chunks at a time, in this order: what is replaced, the chunks as begun, their revision,
    dead letters, cells table by table, the log they are of, the chunks as done. Raises Refused before rows of which
    it is not sure any more that they are the newest, see `_refuse_outdated`.
    """
    connections, request = prepared.connections, prepared.request
    if not connections.settings.allow_compaction:
        topics = sorted({span.located.source.topic for span in prepared.spans})
        refuse_compacted(topics, connections.topics, "and a replay would take back what was counted of them")
    seen = _seen(prepared)
    replay, prepared = _begin(prepared, by)
    known = [] if request.rewind else jobs.chunks(connections.store, replay)
    begun = {(s.source_id, s.chunk): s.revision for s in known if s.step is jobs.ChunkStep.begun}
    summary = Summary(notes=list(prepared.notes), replay_id=replay.replay_id)
    done = {(s.source_id, s.chunk) for s in known if s.step is jobs.ChunkStep.done}
    if done:
        summary.notes.append(f"replay {replay.replay_id} goes on: {len(done)} chunks are done already")
    summary.notes += _half_done(prepared.spans, begun, replay)
    with _readers(prepared) as readers:
        recount = _recount(prepared, readers, summary, pace)
        for part, its_begun in _parts(prepared.spans, done, begun):
            for chunk in recount.changes(part, its_begun):
                allowed = [c for c in chunk if summary.see(c, repair=request.repair)]
                _refuse_outdated(connections, replay, part, allowed)
                _write(connections, replay, part, allowed, set(its_begun))
                if stopping():
                    return summary
    if request.rewind:
        _set_back(prepared, seen, recount.ends)
    jobs.finish(connections.store, replay, jobs.Step.done)
    return summary


def _readers(prepared: PreparedReplay) -> LogReaders:
    return LogReaders(prepared.connections.settings.kafka_properties())


def _recount(prepared: PreparedReplay, readers: LogReaders, summary: Summary, pace: Pace) -> Recount:
    request = prepared.request
    return Recount(prepared.connections, readers, prepared.batch, request.repair, request.head, pace, summary.tally)


def _begin(prepared: PreparedReplay, by: str) -> tuple[jobs.Replay, PreparedReplay]:
    """The interrupted replay that asked for the same, with its ranges; else a new one.

    Of those it leaves out a chunk to which retention has come meanwhile, unless its head was said to be kept or
    dropped: counting what is left of it would take back the rest.
    """
    request = {key: value for key, value in asdict(prepared.request).items() if value}
    store, action = prepared.connections.store, prepared.request.action
    replay = jobs.unfinished(store, action, request, prepared.fingerprint)
    ranges = [(span.located.source.source_id, span.first, span.end) for span in prepared.spans]
    if replay is None:
        return jobs.begin(store, action, request, prepared.fingerprint, ranges, by), prepared
    if prepared.request.rewind:
        return replace(replay, ranges=ranges), prepared
    located = {one.source.source_id: one for one in locate(prepared.connections, prepared.request.partitions)}
    head = HeadPolicy.skip if prepared.request.head is HeadPolicy.refuse else prepared.request.head
    found = [
        closed_span(located[source_id], WantedOffsets(first, end), head)
        for source_id, first, end in replay.ranges
        if source_id in located
    ]
    notes = dict.fromkeys([*prepared.notes, *(note for _, left_out in found for note in left_out)])
    return replay, replace(prepared, spans=[span for span, _ in found if span is not None], notes=[*notes])


def _half_done(
    spans: Collection[OffsetRange], begun: Collection[tuple[int, int]], replay: jobs.Replay
) -> Iterator[str]:
    """Notes on chunks that were begun and are not counted again, since their records are gone by now."""
    firsts = {span.located.source.source_id: span.first for span in spans}
    for source_id, chunk in sorted(begun):
        if chunk < firsts.get(source_id, BEYOND_ALL):
            yield (
                f"chunk {chunk} of source {source_id} was begun and its first records are gone now: some of its tables "
                f"may be repaired and others not. orgstats replay undo --replay {replay.replay_id} takes that back"
            )


def _parts(
    spans: Collection[OffsetRange], done: Collection[tuple[int, int]], begun: dict[tuple[int, int], int]
) -> Iterator[tuple[OffsetRange, dict[int, int]]]:
    for span in spans:
        source_id = span.located.source.source_id
        its_begun = {chunk: revision for (of, chunk), revision in begun.items() if of == source_id}
        for part in without(span, [chunk for of, chunk in done if of == source_id]):
            yield part, its_begun


def _refuse_outdated(
    connections: Connections, replay: jobs.Replay, span: OffsetRange, changes: Collection[ChunkDifference]
) -> None:
    """Refuse to go on where rules or settings have changed since the replay began, or a later one was here.

    A replay may run for hours. What it counts by the rules of its beginning must not override what was counted since.
    """
    source, name = span.located.source, span.located.name
    history = connections.store.run(load_history)
    stays = "what it has repaired so far stays; ask again, and it is counted by what is in force now"
    if _fingerprint(connections, history.edition) != replay.fingerprint:
        raise Refused(f"the rules changed while {replay.name} ran (edition {history.edition}): {stays}")
    known = [_fingerprint(connections, edition) for edition in history.editions]
    progress = connections.store.progress([source]).get(source.source_id)
    if progress is not None and progress.fingerprint not in known:
        raise Refused(f"{name}: its consumers count by other settings since {replay.name} began: {stays}")
    recorded = connections.store.repairs([source]).get(source.source_id, {})
    for change in changes:
        found = recorded.get(change.counted.chunk)
        if found is None or found.revision < change.revision:
            continue
        mine = found.revision == change.revision and (
            replay.action == "fill" or found.fingerprint == replay.fingerprint
        )
        if not mine:
            raise Refused(f"{name}: chunk {change.counted.chunk} was repaired since {replay.name} began: {stays}")


def _write(
    connections: Connections, replay: jobs.Replay, span: OffsetRange, changes: list[ChunkDifference], begun: set[int]
) -> None:
    store = connections.store
    writing = [c for c in changes if c.count]
    at = now()
    if replay.action != "fill":
        fresh = [c for c in writing if c.counted.chunk not in begun]
        stored.write_replaced(store, replay.replay_id, fresh, at)
        failpoint("replay_replaced")
        jobs.record(store, replay, fresh, jobs.ChunkStep.begun)
        failpoint("replay_begun")
    to_record = [
        c
        for c in changes
        if c.revision > span.located.revision(c.counted.chunk)
        and (c.count or (span.whole_log and span.located.grid.chunk_end(c.counted.chunk) > span.end))
    ]
    stored.write_repairs(store, to_record, replay.fingerprint, replay.name, at)
    failpoint("replay_recorded")
    _refuse_outdated(
        connections, replay, span, changes
    )  # once more: a later replay sees from here on what this one writes
    lost = [c for c in writing if replay.action != "fill" and _head_is_dropped(span, c)]
    stored.insert_rows(store, "gaps", [(*_gap(span, c), "dropped by a repair", at) for c in lost])
    stored.write_changes(store, writing)
    closed = [c for c in writing if c.counted.next_offset == span.located.grid.chunk_end(c.counted.chunk)]
    rewinds = span.located.progress.rewinds if span.located.progress else 0
    stored.write_logs(store, closed, replay.fingerprint, rewinds, at)
    failpoint("replay_written")
    jobs.record(store, replay, changes, jobs.ChunkStep.done)


def _head_is_dropped(span: OffsetRange, changes: ChunkDifference) -> bool:
    return span.located.low > max(changes.counted.chunk, span.located.first_offset)


def _gap(span: OffsetRange, changes: ChunkDifference) -> tuple[int, int, int]:
    first = max(changes.counted.chunk, span.located.first_offset)
    return changes.counted.source.source_id, first, span.located.low


def _seen(prepared: PreparedReplay) -> dict[TopicPartition, SeenEnds]:
    """Where the logs end before they are read for a rewind: what is acknowledged meanwhile is not in it."""
    known = {(s.located.source.topic, s.located.source.partition): s.located.progress for s in prepared.spans}
    if not prepared.request.rewind:
        return {}
    now_ms = earliest_clock_ms(prepared.connections.store, time.time_ns() // 1_000_000)
    seen = {}
    for tp, end in prepared.connections.topics.ends(known, "read_uncommitted").items():
        progress = known[tp]
        seen[tp] = SeenEnds(progress.complete_until_ms if progress else 0)
        seen[tp].saw(Moment(now_ms, 0.0, 0.0), end)  # it is the only look
    return seen


def _set_back(prepared: PreparedReplay, seen: Mapping[TopicPartition, SeenEnds], marks: Mapping[int, Mark]) -> None:
    """Tell that each source is counted up to the end of what was read, whatever was told before, and of which log.

    What was deleted before anybody counted it is listed first.
    """
    now_ms = time.time_ns() // 1_000_000
    flush = Flush([], prepared.fingerprint, now_ms)
    partitions = {topic: prepared.connections.topics.partitions(topic) for topic in prepared.connections.settings.topic}
    for span in prepared.spans:
        known = span.located.progress
        if known is not None and (known.next_offset, known.mark) != (
            span.end,
            mark := marks.get(span.located.source.source_id, NO_MARK),
        ):
            source = span.located.source
            until = seen[source.topic, source.partition].complete_until_ms(span.end)
            was_to = max(known.next_offset, known.cut_to)  # also of a cut behind which nobody has counted yet
            flush.progress.append(
                ProgressUpdate(
                    source,
                    span.end,
                    min(known.kafka_timestamp_ms, now_ms),
                    until,
                    partitions[source.topic],
                    known.rewinds + 1,
                    mark=mark,
                    cut=Cut(known.rewinds + 1, span.end, was_to) if span.end < was_to else NO_CUT,
                    hourly_offset=min(known.hourly_offset, span.end),
                    hourly_complete_until_ms=min(known.hourly_complete_until_ms, until),
                )
            )
    gaps = [
        (span.located.source.source_id, known.next_offset, span.located.low, "retention", now())
        for span in prepared.spans
        if (known := span.located.progress) is not None and known.next_offset < span.located.low
    ]
    stored.insert_rows(prepared.connections.store, "gaps", gaps)
    stored.insert_rows(prepared.connections.store, "progress", list(zip(*progress(flush), strict=True)))
