"""What Kafka and the store know of the sources that are to be opened; new ones are recorded."""

from collections.abc import Mapping
from dataclasses import replace

from orgstats.consumer import ports
from orgstats.consumer.checkpoint import committed_topic_id
from orgstats.consumer.counting import resume
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.resume import Progress, Registration, SourceFacts
from orgstats.consumer.counting.source import Source
from orgstats.consumer.counting_options import CountingOptions
from orgstats.consumer.kafka.group import Committed, TopicPartition
from orgstats.errors import Refused, Unavailable


def find_facts(
    sources: dict[TopicPartition, Source],
    log: ports.GroupConsumer,
    topics: ports.Topics,
    store: ports.Store,
    fingerprint: str,
) -> dict[TopicPartition, SourceFacts]:
    """What Kafka and the store know of these sources, in few statements. Raises Unavailable."""
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


def register(
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


def refuse_misplaced(
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
