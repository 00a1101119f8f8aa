"""Where an operator's command works: the topics, the store, and what both say of each source."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.chain import Mark, SameLog
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.resume import Progress, Registration, Repair, SourceFacts, to_compare
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.broker import Broker
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.properties import READ_COMMITTED, READ_UNCOMMITTED
from orgstats.consumer.kafka.topics import Topics
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.store.store import Store
from orgstats.consumer.topic_checks import topic_uuids
from orgstats.errors import ConfigurationError, Unavailable

logger = structlog.get_logger("orgstats.ops")

STORE_SECONDS = 120.0
"""ClickHouse's time for one question; a replay may ask for whole chunks of a large table."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One partition of a topic as broker and store know it. Offsets are next-to-read; `low` and `end` the log's.

    `end` is as the isolation level shows it; at least `hidden` records behind it belong to an open transaction, or lie
    behind it. They are 0 unless they were asked for.
    `chunks` are closed ones, as far as they were asked for.
    """

    source: Source
    low: int
    end: int
    progress: Progress | None = None
    registration: Registration | None = None
    repairs: Mapping[int, Repair] = field(default_factory=dict)
    hidden: int = 0
    chunks: Mapping[int, Mark] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """topic/partition, for people."""
        return f"{self.source.topic}/{self.source.partition}"

    @property
    def isolation(self) -> str:
        """The isolation level that the source is counted with."""
        return self.registration.isolation if self.registration else "read_committed"

    @property
    def grid(self) -> Grid:
        """Its chunks."""
        return self.registration.grid if self.registration else Grid()

    @property
    def first_offset(self) -> int:
        """Where counting began."""
        return self.registration.first_offset if self.registration else self.low

    def revision(self, chunk: int) -> int:
        """The revision recorded for a chunk."""
        repair = self.repairs.get(chunk)
        return repair.revision if repair else 0


def _log(what: str) -> None:
    logger.warning(what)


@dataclass(frozen=True, slots=True)
class Connections:
    """Connections of one command, for one thread."""

    settings: ConsumerSettings
    topics: Topics
    broker: Broker
    store: Store
    tell: Callable[[str], None]
    """Takes what an operator should know beside the answer."""


def open_connections(settings: ConsumerSettings, tell: Callable[[str], None] = _log) -> Connections:
    """Connections to the servers that the settings name; nothing is asked yet."""

    properties = settings.kafka_properties()
    return Connections(settings, Topics(properties), Broker(properties), store_of(settings.clickhouse_url), tell)


def store_of(clickhouse_url: str) -> Store:
    """A connection with time for large questions."""
    return Store(lambda: connect(clickhouse_url, client_name="orgstats-ops", timeout_seconds=STORE_SECONDS))


def sources_of(connections: Connections, partitions: Collection[int] | None = None) -> list[Source]:
    """Every partition of the topics there are, or those named, in order; a topic that is gone is told and left out.

    Raises ConfigurationError for a partition that there is not, Unavailable when there is none of the topics.
    """
    names, topic_id = connections.settings.topic, connections.settings.topic_id
    counts = {name: count for name in names if (count := connections.topics.partitions(name))}
    gone = [name for name in names if name not in counts]
    if not counts:
        raise Unavailable(f"topic {', '.join(gone)} does not exist")
    for name in gone:
        connections.tell(f"topic {name} does not exist: this answer is without it")
    uuids = topic_uuids(list(counts), connections.topics, topic_id)
    return [
        Source(name, topic_id or uuids[name] or "", partition)
        for name, count in counts.items()
        if name in uuids
        for partition in _wanted(name, count, partitions)
    ]


def locate(
    connections: Connections,
    partitions: Collection[int] | None = None,
    sources: Sequence[Source] | None = None,
    *,
    hidden: bool = False,
) -> list[SourceStatus]:
    """Every partition of the topics, or those named, in order; `sources` are these where they are known already.

    Raises what `sources_of` does.
    """
    sources = sources_of(connections, partitions) if sources is None else sources
    tps = [(source.topic, source.partition) for source in sources]
    lows, registered = connections.topics.starts(tps), connections.store.registrations(sources)
    progress, repairs = connections.store.progress(sources), connections.store.repairs(sources)
    # After the progress, and all of them at once: a running consumer is never ahead of an end that was asked later.
    ends, true_ends = _ends(connections, sources, registered, hidden=hidden)
    # After both: a change of the chunk length that is decided later lies beyond either.
    grids = connections.store.grids(registered)
    registered = {one: replace(known, grid=grids.get(one, known.grid)) for one, known in registered.items()}
    located = []
    for source, tp in zip(sources, tps, strict=True):
        known = progress.get(source.source_id), registered.get(source.source_id), repairs.get(source.source_id, {})
        unread = max(0, true_ends.get(tp, 0) - ends[tp])
        located.append(SourceStatus(source, lows[tp], ends[tp], *known, unread))
    return located


def ends_of(connections: Connections, located: Sequence[SourceStatus]) -> dict[TopicPartition, int]:
    """Where the logs of these sources end now, for those who count them."""
    registered = {one.source.source_id: one.registration for one in located if one.registration}
    return _ends(connections, [one.source for one in located], registered, hidden=False)[0]


def with_chunks(connections: Connections, one: SourceStatus, first: int, most: int = 1 << 32) -> SourceStatus:
    """The source with its closed chunks from an offset on; at most so many."""
    return replace(one, chunks=connections.store.chunks({one.source: first}, most).get(one.source.source_id, {}))


def log_to_compare(connections: Connections, one: SourceStatus, first: int, end: int) -> dict[int, SameLog]:
    """What tells by chunk in [first, end) whether the log is the one that was counted; nothing of a compacted one."""
    if connections.settings.allow_compaction:
        return {}
    found = SourceFacts(one.low, one.end, progress=one.progress, registration=one.registration, chunks=one.chunks)
    return to_compare(found, first, end)


def _ends(
    connections: Connections, sources: Collection[Source], registered: Mapping[int, Registration], *, hidden: bool
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Where the logs end for those who count them, and if `hidden` where they truly end: a question for each of both.

    The true ends come first. So what is produced between the two questions never looks as if a transaction hid it,
    and what one hides is still hidden when the second is answered.
    """
    by_isolation: dict[str, list[TopicPartition]] = {}
    for source in sources:
        registration = registered.get(source.source_id)
        isolation = registration.isolation if registration else connections.settings.isolation
        by_isolation.setdefault(isolation, []).append((source.topic, source.partition))
    every = [tp for tps in by_isolation.values() for tp in tps]
    true_ends = connections.topics.ends(every if hidden else by_isolation.get(READ_UNCOMMITTED, ()), READ_UNCOMMITTED)
    return true_ends | connections.topics.ends(by_isolation.get(READ_COMMITTED, ()), READ_COMMITTED), true_ends


def _wanted(topic: str, existing: int, partitions: Collection[int] | None) -> list[int]:
    missing = [partition for partition in partitions or () if not 0 <= partition < existing]
    if missing:
        raise ConfigurationError(f"topic {topic} has partitions 0 to {existing - 1}; there is no {missing[0]}")
    return sorted(partitions) if partitions is not None else list(range(existing))


def now() -> datetime:
    """The wall clock, for rows that say when an operator did something."""
    return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)
