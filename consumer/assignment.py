"""From assigned places to counting partitions: ask broker and store, decide where to go on, load what is needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, cast

import structlog

from orgstats.consumer import cutback, metrics, ports
from orgstats.consumer.checkpoint import Assigned, earliest_clock
from orgstats.consumer.counting import resume
from orgstats.consumer.counting.batch import Record
from orgstats.consumer.counting.completeness import Moment, SeenEnds
from orgstats.consumer.counting.partition import ChunkNotKnown, Partition
from orgstats.consumer.counting.resume import Progress, SourceFacts
from orgstats.consumer.counting.source import BEYOND_ALL, Source
from orgstats.consumer.counting_options import CountingOptions
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.source_facts import find_facts, refuse_misplaced, register
from orgstats.consumer.topic_checks import refuse_compacted, uuids_of
from orgstats.errors import Refused, Unavailable

logger = structlog.get_logger("orgstats.consumer")


@dataclass(frozen=True, slots=True)
class OpenPartition:
    """A partition that is being counted, as what it was assigned, and where its log was seen to end.

    `seen_hourly` is the same for `hourly`. `epoch` is the leader epoch of the record before the one that is read first,
    where the broker shall check it.
    """

    assigned: Assigned
    partition: Partition
    seen: SeenEnds
    seen_hourly: SeenEnds
    epoch: int | None = None


class Opened(NamedTuple):
    """Partitions ready to be read from their `next_offset`; why others of them are not yet; topics that do not exist.

    Those that are in none of the three were not tried. One that failed alone was asked for alone, or had its turn.
    """

    partitions: dict[TopicPartition, OpenPartition]
    failed: dict[TopicPartition, Unavailable]
    absent: list[str]


def open_partitions(
    tps: Sequence[TopicPartition],
    log: ports.GroupConsumer,
    topics: ports.Topics,
    store: ports.Store,
    counting: CountingOptions,
    suspects: Mapping[TopicPartition, int] = MappingProxyType({}),
) -> Opened:
    """Find out where to go on. Of `suspects` something says that the log is not the one that was counted: it is
    compared first, down to that offset at least.

    Failure semantics: nothing is stored but the registration of new sources, and what follows from a log that was cut
    back, all of which may be repeated. Raises Refused or ConfigurationError (an operator decides), and Unavailable
    (again later) when Kafka or the store does not answer what has nothing to do with a single partition. When a
    question about all of these partitions fails, all of them have; when one about a single partition does, this one
    has, and those after it are not tried: a statement may take long to fail, and the group has to be answered.
    """
    names = sorted({topic for topic, _ in tps})
    uuids = uuids_of(names, topics, counting.topic_id)
    absent = sorted({*names} - uuids.keys())
    if not uuids:
        return Opened({}, {}, absent)
    if not counting.allow_compaction:
        refuse_compacted(
            [name for name in names if name in uuids], topics, "so that chunks counted again would become smaller"
        )
    sources = {tp: Source(tp[0], counting.topic_id or uuids[tp[0]] or "", tp[1]) for tp in tps if tp[0] in uuids}
    now = earliest_clock(store, counting.clock)
    try:
        found = find_facts(sources, log, topics, store, counting.fingerprint)
        register(sources, found, store, counting, now.epoch_ms)
        refuse_misplaced(sources, found, store)
    except Unavailable as error:
        return Opened({}, dict.fromkeys(sources, error), absent)
    opened: dict[TopicPartition, OpenPartition] = {}
    for tp, source in sources.items():
        try:
            known = _known(source, found[tp], store, counting, suspects.get(tp))
            partition = _open(source, known, store, counting)
        except Unavailable as error:
            return Opened(opened, {tp: error}, absent)
        opened[tp] = OpenPartition(
            _assigned(None if counting.topic_id else uuids[tp[0]], source, known, partition),
            partition,
            *_seen(known, now),
            None if tp in suspects else _epoch(known.progress, partition),
        )
    return Opened(opened, {}, absent)


def _assigned(uuid: str | None, source: Source, known: SourceFacts, partition: Partition) -> Assigned:
    length, leans_on = known.grid.length_at(0), _leans_on(known, partition)
    if (at := known.progress) is None:
        return Assigned(uuid, source.topic_id, 0, chunk_length=length, leans_on=leans_on)
    return Assigned(uuid, source.topic_id, at.rewinds, at.next_offset, length, at.hourly_offset, leans_on)


def _known(
    source: Source, found: SourceFacts, store: ports.Store, counting: CountingOptions, suspect: int | None
) -> SourceFacts:
    """What is known of a source once its log is compared, if that is called for. Raises Refused before that."""
    resume.refuse_other_isolation(source, found.registration, counting.isolation)
    skips = resume.skips(cutback.with_cut(found), accept_skip=counting.accept_skip)
    if suspect is not None or skips or cutback.is_suspect(found, chains=not counting.allow_compaction):
        found = _compare(source, found, store, counting, BEYOND_ALL if suspect is None else suspect)
    return cutback.with_cut(found)


def _leans_on(found: SourceFacts, partition: Partition) -> int:
    """Where a torn flush ends whose cells count: the head of the chunk is gone, so they are not counted again."""
    whole = partition.next_offset == partition.chunk.first_offset
    return 0 if whole or found.begun <= resume.counted_below(found) else found.begun


def _epoch(progress: Progress | None, partition: Partition) -> int | None:
    """The epoch of the last record that was counted, where counting goes on behind it without reading it again."""
    if progress is None or progress.mark.leader_epoch < 0 or partition.next_offset != progress.next_offset:
        return None
    return progress.mark.leader_epoch


def _compare(
    source: Source, found: SourceFacts, store: ports.Store, counting: CountingOptions, down_to: int
) -> SourceFacts:
    every = store.chunks({source: 0}).get(source.source_id, {})  # nobody knows how many chunks the cut goes back
    found = replace(found, chunks=every)
    with counting.reader() as reader:

        def read(first: int, end: int) -> Iterator[Sequence[Record]]:
            for run, _ in reader.read((source.topic, source.partition), first, end):
                yield cast("Sequence[Record]", run)

        try:
            chains = not counting.allow_compaction
            return cutback.look_for_cut(source, found, read, store, chains=chains, down_to=down_to)
        except Refused as error:
            raise Unavailable(f"the log changes while it is compared: {error}") from error


def _seen(found: SourceFacts, now: Moment) -> tuple[SeenEnds, SeenEnds]:
    """What was complete stays so for whoever goes on; beyond it nothing is known of what came before this look.

    Of all tables, and of `hourly`.
    """
    progress = found.progress
    both = (
        SeenEnds(progress.complete_until_ms if progress else 0),
        SeenEnds(progress.hourly_complete_until_ms if progress else 0),
    )
    for seen in both:
        seen.saw(now, found.end)
    return both


def _open(source: Source, found: SourceFacts, store: ports.Store, counting: CountingOptions) -> Partition:
    start = resume.resume(found, accept_skip=counting.accept_skip, allow_compaction=counting.allow_compaction)
    if gone := cutback.chunks_without_log(found):
        store.take_back(source, gone, found.repairs, cast("Progress", found.progress), counting.clock.epoch_ms())
        found = replace(found, repairs=store.repairs([source]).get(source.source_id, {}))

    def attempt(first_offset: int) -> resume.Attempt:
        is_first = first_offset == start.grid.chunk_of(start.start)
        return resume.attempt(first_offset, found, counting.fingerprint, is_first=is_first)

    try:
        partition = Partition(
            source, start, counting.batch, attempt, projects=counting.projects, limits=counting.dead_letter_limits
        )
    except ChunkNotKnown as error:
        raise Unavailable(str(error)) from error
    if start.load_stored:
        stored = store.chunk(source, partition.chunk.first_offset, partition.chunk.end)
        repair = found.repairs.get(partition.chunk.first_offset)
        before = (repair or found.progress).fingerprint if found.progress is not None else counting.fingerprint
        again = resume.after_cut(partition.chunk.first_offset, found)
        partition.load(stored, again, mixed=before not in {*counting.alike, counting.fingerprint})
        if found.progress is not None and before != counting.fingerprint:
            unfinished = repair is not None and repair.fingerprint != found.progress.fingerprint
            _report_mixed_fingerprint(source, start, partition.chunk.skip_until, unfinished=unfinished)
    for first_offset in start.add_up:
        end = start.grid.chunk_end(first_offset)
        partition.add_up(first_offset, store.chunk(source, first_offset, end))
    _report(source, found, start)
    return partition


def _report_mixed_fingerprint(source: Source, start: resume.Resume, stored_to: int, *, unfinished: bool) -> None:
    """The one way to a wrong count that is left: cells of two fingerprints, and the log gone that tells them apart."""
    log = logger.bind(topic=source.topic, partition=source.partition)
    log.warning("the chunk goes on with another fingerprint: its head is no longer in the log", start=start.start)
    if unfinished or stored_to > start.start:
        log.error(
            "retention came into an unfinished change of fingerprint: this chunk's counts may mix both",
            chunk=start.grid.chunk_of(start.start),
            stored_to=stored_to,
        )


def _report(source: Source, found: SourceFacts, start: resume.Resume) -> None:
    log = logger.bind(topic=source.topic, partition=source.partition)
    if start.gap is not None:
        metrics.gap_offsets.labels(source.topic, source.partition).inc(start.gap[1] - start.gap[0])
        log.error(
            "gap: records were never counted", from_offset=start.gap[0], to_offset=start.gap[1], why=start.gap_why
        )
    if start.went_back_from is not None:
        log.warning(
            "the commit is ahead of what ClickHouse holds: counting from there again",
            committed=start.went_back_from,
            next_offset=start.catching_up_until,
        )
    log.info(
        "assigned",
        start=start.start,
        next_offset=start.catching_up_until,
        log_start=found.low,
        log_end=found.end,
        stored_cells_loaded=start.load_stored,
    )
