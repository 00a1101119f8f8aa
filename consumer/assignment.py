"""From assigned places to counting partitions: ask broker and store, decide where to go on, load what is needed."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import structlog

from orgstats.consumer import cutback, metrics, ports
from orgstats.consumer.checkpoint import Assigned, committed_topic_id, earliest_clock_ms
from orgstats.consumer.counting import resume
from orgstats.consumer.counting.batch import BatchCounter, Record
from orgstats.consumer.counting.completeness import SeenEnds
from orgstats.consumer.counting.fingerprint import fingerprint_of
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.limits import DeadLetterLimits
from orgstats.consumer.counting.partition import ChunkNotKnown, Partition
from orgstats.consumer.counting.resume import Progress, Registration, SourceFacts
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.group import Committed, TopicPartition
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import ConfigurationError, Refused, Unavailable

logger = structlog.get_logger("orgstats.consumer")

_NO_UUID = {"", "AAAAAAAAAAAAAAAAAAAAAA"}
"""What a broker without topic UUIDs answers: nothing, or sixteen zero bytes."""


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


@dataclass(frozen=True, slots=True)
class CountingOptions:
    """How partitions are counted: what all of them share."""

    batch: BatchCounter
    fingerprint: str
    isolation: str
    chunk_length: int
    projects: bool
    topic_id: str | None
    accept_skip: bool
    allow_compaction: bool
    dead_letter_limits: DeadLetterLimits
    reader: Callable[[], AbstractContextManager[ports.LogReader]]
    clock: ports.Clock


class Opened(NamedTuple):
    """Partitions ready to be read from their `next_offset`; why others of them are not yet; topics that do not exist.

    Those that are in none of the three were not tried. One that failed alone was asked for alone, or had its turn.
    """

    partitions: dict[TopicPartition, OpenPartition]
    failed: dict[TopicPartition, Unavailable]
    absent: list[str]


def counting_by(settings: ConsumerSettings, history: RuleHistory, clients: ports.Clients) -> CountingOptions:
    """How partitions are counted with these settings and rules."""
    return CountingOptions(
        BatchCounter(settings.limits, history),
        fingerprint_of(settings.limits, history.edition, projects=settings.projects),
        settings.isolation,
        settings.chunk_length,
        settings.projects,
        settings.topic_id,
        settings.accept_skip,
        settings.allow_compaction,
        settings.dead_letter_limits,
        clients.reader,
        clients.clock,
    )


def open_partitions(
    tps: Sequence[TopicPartition],
    log: ports.GroupConsumer,
    topics: ports.Topics,
    store: ports.Store,
    counting: CountingOptions,
    suspects: Collection[TopicPartition] = (),
) -> Opened:
    """Find out where to go on. Of `suspects` something says that the log is not the one that was counted: it is
    compared first.

    Failure semantics: nothing is stored but the registration of new sources, and what follows from a log that was cut
    back, all of which may be repeated. Raises Refused or ConfigurationError (an operator decides), and Unavailable
    (again later) when Kafka or the store does not answer what has nothing to do with a single partition. When a
    question about all of these partitions fails, all of them have; when one about a single partition does, this one
    has, and those after it are not tried: a statement may take long to fail, and the group has to be answered.
    """
    names = sorted({topic for topic, _ in tps})
    uuids = _uuids(names, topics, counting.topic_id)
    absent = sorted({*names} - uuids.keys())
    if not uuids:
        return Opened({}, {}, absent)
    if not counting.allow_compaction:
        refuse_compacted(
            [name for name in names if name in uuids], topics, "so that chunks counted again would become smaller"
        )
    sources = {tp: Source(tp[0], counting.topic_id or uuids[tp[0]] or "", tp[1]) for tp in tps if tp[0] in uuids}
    now_ms = earliest_clock_ms(store, counting.clock.epoch_ms())
    try:
        found = _found(sources, log, topics, store, counting.fingerprint)
        _register(sources, found, store, counting, now_ms)
        _refuse_misplaced(sources, found, store)
    except Unavailable as error:
        return Opened({}, dict.fromkeys(sources, error), absent)
    opened: dict[TopicPartition, OpenPartition] = {}
    for tp, source in sources.items():
        try:
            known = _known(source, found[tp], store, counting, suspect=tp in suspects)
            progress, partition = known.progress, _open(source, known, store, counting)
        except Unavailable as error:
            return Opened(opened, {tp: error}, absent)
        uuid = None if counting.topic_id else uuids[tp[0]]
        rewinds, counted = (progress.rewinds, progress.next_offset) if progress else (0, -1)
        opened[tp] = OpenPartition(
            Assigned(uuid, source.topic_id, rewinds, counted, known.grid.length_at(0)),
            partition,
            *_seen(known, now_ms),
            None if tp in suspects else _epoch(progress, partition),
        )
    return Opened(opened, {}, absent)


def _known(
    source: Source, found: SourceFacts, store: ports.Store, counting: CountingOptions, *, suspect: bool
) -> SourceFacts:
    """What is known of a source once its log is compared, if that is called for."""
    if suspect or cutback.is_suspect(found, chains=not counting.allow_compaction):
        found = _compare(source, found, store, counting)
    return cutback.with_cut(found)


def _epoch(progress: Progress | None, partition: Partition) -> int | None:
    """The epoch of the last record that was counted, where counting goes on behind it without reading it again."""
    if progress is None or progress.mark.leader_epoch < 0 or partition.next_offset != progress.next_offset:
        return None
    return progress.mark.leader_epoch


def _compare(source: Source, found: SourceFacts, store: ports.Store, counting: CountingOptions) -> SourceFacts:
    every = store.chunks({source: 0}).get(source.source_id, {})  # nobody knows how many chunks the cut goes back
    found = replace(found, chunks=every)
    with counting.reader() as reader:

        def read(first: int, end: int) -> Iterator[Sequence[Record]]:
            for run, _ in reader.read((source.topic, source.partition), first, end):
                yield cast("Sequence[Record]", run)

        try:
            return cutback.look_for_cut(source, found, read, store, chains=not counting.allow_compaction)
        except Refused as error:
            raise Unavailable(f"the log changes while it is compared: {error}") from error


def _seen(found: SourceFacts, now_ms: int) -> tuple[SeenEnds, SeenEnds]:
    """What was complete stays so for whoever goes on; beyond it nothing is known of what came before this look.

    Of all tables, and of `hourly`.
    """
    progress = found.progress
    both = (
        SeenEnds(progress.complete_until_ms if progress else 0),
        SeenEnds(progress.hourly_complete_until_ms if progress else 0),
    )
    for seen in both:
        seen.saw(now_ms, found.end)
    return both


def refuse_compacted(names: Sequence[str], topics: ports.Topics, harm: str) -> None:
    """Raise Refused for a compacted topic, saying what harm that would do.

    Who may not read a topic's settings may count it all the same; the doctor tells what could not be asked.
    """
    for name in names:
        if "compact" in topics.cleanup_policy(name):
            raise Refused(
                f"topic {name} is compacted (cleanup.policy): records vanish from its log, {harm}. "
                "Set it to delete: kafka-configs --alter --entity-type topics "
                f"--entity-name {name} --add-config cleanup.policy=delete; or set ORGSTATS_ALLOW_COMPACTION=true, "
                "after reading what is promised then (docs/reliability.md)"
            )


def topic_uuids(names: Sequence[str], topics: ports.Topics, topic_id: str | None) -> dict[str, str | None]:
    """UUID by topic; None when `topic_id` stands for it. Topics that do not exist are absent.

    Raises Unavailable when none exists.
    """
    found = _uuids(names, topics, topic_id)
    if names and not found:
        raise Unavailable(f"topic {', '.join(names)} does not exist (yet)")
    return found


def _uuids(names: Sequence[str], topics: ports.Topics, topic_id: str | None) -> dict[str, str | None]:
    if topic_id:
        return dict.fromkeys(names)
    described = topics.describe(names)
    for name in described:
        if described[name][0] in _NO_UUID:
            raise ConfigurationError(
                f"the broker gives topic {name} no UUID (Kafka before 2.8?): name an id for it with "
                "ORGSTATS_TOPIC_ID, and change the name whenever the topic is made again"
            )
    return {name: uuid for name, (uuid, _) in described.items()}


def _found(
    sources: dict[TopicPartition, Source],
    log: ports.GroupConsumer,
    topics: ports.Topics,
    store: ports.Store,
    fingerprint: str,
) -> dict[TopicPartition, SourceFacts]:
    commits = log.committed(sources)
    progress = store.progress(sources.values())
    # The ends come last: a member on its way out may still store what lies beyond an older end.
    begun = store.begun(sources.values())
    lows, ends = topics.starts(sources), topics.ends(sources, "read_uncommitted")
    # And after the ends the chunks: whatever is set later is for offsets that lie well beyond these ends.
    registrations = store.registrations(sources.values())
    repairs = store.repairs(sources.values())
    other_fingerprint = [
        s for s in sources.values() if s.source_id not in progress or progress[s.source_id].fingerprint != fingerprint
    ]
    chunks = store.chunks(
        {
            s: _first_read(registrations.get(s.source_id), progress.get(s.source_id), commits.get(tp))
            for tp, s in sources.items()
        }
    )
    highest = store.highest_chunks(other_fingerprint)
    return {
        tp: SourceFacts(
            lows[tp],
            ends[tp],
            _own_commit(commits.get(tp), source),
            progress.get(source.source_id),
            registrations.get(source.source_id),
            repairs.get(source.source_id, {}),
            highest.get(source.source_id, -1),
            chunks.get(source.source_id, {}),
            _begun(source, begun, progress),
        )
        for tp, source in sources.items()
    }


def _begun(source: Source, begun: Mapping[int, tuple[int, int]], progress: Mapping[int, Progress]) -> int:
    """Where the last flush that was begun ends; 0 when that was before the log was last cut back."""
    known = progress.get(source.source_id)
    rewinds, to_offset = begun.get(source.source_id, (0, 0))
    return to_offset if rewinds >= (known.rewinds if known else 0) else 0


def _first_read(registration: Registration | None, progress: Progress | None, commit: Committed | None) -> int:
    """The first offset of which chunks are to be known: all that may be read again, and the one before."""
    counted = progress.next_offset if progress else 0
    if registration is None:
        return 0
    grid = registration.grid
    return grid.before(grid.chunk_of(min(counted, commit.next_offset if commit else counted)))


def _own_commit(commit: Committed | None, source: Source) -> int | None:
    """The committed offset, unless it was committed for another topic of this name."""
    if commit is None or committed_topic_id(commit.metadata) not in (None, source.topic_id):
        return None
    return commit.next_offset


def _register(
    sources: dict[TopicPartition, Source],
    found: dict[TopicPartition, SourceFacts],
    store: ports.Store,
    counting: CountingOptions,
    now_ms: int,
) -> None:
    """Record sources that are counted for the first time; what is known of them then is what is recorded.

    As of `now_ms`, before the logs were asked: of two members the one that looked last tells where counting began.
    """
    new = {
        tp: Registration(Grid(((0, counting.chunk_length),)), counting.isolation, resume.counted_below(found[tp]))
        for tp in sources
        if found[tp].registration is None
    }
    if not new:
        return
    store.register([(sources[tp], one) for tp, one in new.items()], now_ms)
    recorded = store.registrations([sources[tp] for tp in new])
    for tp in new:
        registration = recorded.get(sources[tp].source_id)
        if registration is None:
            raise Unavailable("ClickHouse does not show yet that a source is registered")
        found[tp] = replace(found[tp], registration=registration)


def _refuse_misplaced(
    sources: dict[TopicPartition, Source], found: dict[TopicPartition, SourceFacts], store: ports.Store
) -> None:
    """Refuse a source of which chunks are stored that it does not have: what is in them would be counted twice."""
    changed = {
        source.source_id: (tp, found[tp].grid)
        for tp, source in sources.items()
        if found[tp].progress is None or len(found[tp].grid.entries) > 1
    }
    for source_id, chunk in store.misplaced_chunks({of: grid for of, (_, grid) in changed.items()}).items():
        topic, partition = changed[source_id][0]
        raise Refused(
            f"{topic}/{partition}: a chunk is stored that begins at offset {chunk}, and by its chunk lengths there is "
            "none: a consumer counted by another length, and its counts would be there twice. See orgstats "
            "chunk-length ls, and take the chunk back as docs/operations.md tells"
        )


def _open(source: Source, found: SourceFacts, store: ports.Store, counting: CountingOptions) -> Partition:
    start = resume.resume(
        source,
        found,
        counting.isolation,
        accept_skip=counting.accept_skip,
        allow_compaction=counting.allow_compaction,
    )
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
        partition.load(stored, resume.after_cut(partition.chunk.first_offset, found))
        repair = found.repairs.get(partition.chunk.first_offset)
        if found.progress is not None and (repair or found.progress).fingerprint != counting.fingerprint:
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
