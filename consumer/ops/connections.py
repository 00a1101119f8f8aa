"""Where an operator's command works: the topics, the store, and what both say of each source."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orgstats.clickhouse.connect import connect
from orgstats.consumer.assignment import topic_uuids
from orgstats.consumer.counting.resume import Progress, Registration, Repair
from orgstats.consumer.counting.source import CHUNK_LENGTH, Source
from orgstats.consumer.kafka.broker import Broker
from orgstats.consumer.kafka.group import Topics
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.store.store import Store
from orgstats.errors import ConfigurationError, Refused

STORE_SECONDS = 120.0
"""ClickHouse's time for one question; a replay may ask for whole chunks of a large table."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One partition of a topic as broker and store know it. Offsets are next-to-read; `low` and `end` the log's."""

    source: Source
    low: int
    end: int
    progress: Progress | None = None
    registration: Registration | None = None
    repairs: Mapping[int, Repair] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """topic/partition, for people."""
        return f"{self.source.topic}/{self.source.partition}"

    @property
    def isolation(self) -> str:
        """The isolation level that the source is counted with."""
        return self.registration.isolation if self.registration else "read_committed"

    @property
    def first_offset(self) -> int:
        """Where counting began."""
        return self.registration.first_offset if self.registration else self.low

    def revision(self, chunk: int) -> int:
        """The revision recorded for a chunk."""
        repair = self.repairs.get(chunk)
        return repair.revision if repair else 0


@dataclass(frozen=True, slots=True)
class Connections:
    """Connections of one command, for one thread."""

    settings: ConsumerSettings
    topics: Topics
    broker: Broker
    store: Store


def open_site(settings: ConsumerSettings) -> Connections:
    """Connections to the servers that the settings name; nothing is asked yet."""

    properties = settings.kafka_properties()
    return Connections(settings, Topics(properties), Broker(properties), store_of(settings.clickhouse_url))


def store_of(clickhouse_url: str) -> Store:
    """A connection with time for large questions."""
    return Store(lambda: connect(clickhouse_url, client_name="orgstats-ops", timeout_seconds=STORE_SECONDS))


def locate(site: Connections, partitions: Collection[int] | None = None) -> list[SourceStatus]:
    """Every partition of the topics, or those named, in order.

    Raises ConfigurationError for a partition that there is not, Refused for one counted in another grid.
    """
    names, topic_id = site.settings.topic, site.settings.topic_id
    uuids = topic_uuids(names, site.topics, topic_id)
    sources = [
        Source(name, topic_id or uuids[name] or "", partition)
        for name in names
        for partition in _wanted(name, site.topics.partitions(name), partitions)
    ]
    tps = [(source.topic, source.partition) for source in sources]
    lows, registered = site.topics.starts(tps), site.store.registrations(sources)
    progress, repairs = site.store.progress(sources), site.store.repairs(sources)
    located = []
    for source, tp in zip(sources, tps, strict=True):
        registration = registered.get(source.source_id)
        if registration is not None and registration.chunk_length != CHUNK_LENGTH:
            raise Refused(
                f"{source.topic}/{source.partition} was counted in chunks of {registration.chunk_length} offsets; "
                f"this version uses {CHUNK_LENGTH}"
            )
        isolation = registration.isolation if registration else site.settings.isolation
        end = site.topics.ends([tp], isolation)[tp]
        known = progress.get(source.source_id), registration, repairs.get(source.source_id, {})
        located.append(SourceStatus(source, lows[tp], end, *known))
    return located


def _wanted(topic: str, existing: int, partitions: Collection[int] | None) -> list[int]:
    missing = [partition for partition in partitions or () if not 0 <= partition < existing]
    if missing:
        raise ConfigurationError(f"topic {topic} has partitions 0 to {existing - 1}; there is no {missing[0]}")
    return sorted(partitions) if partitions is not None else list(range(existing))


def now() -> datetime:
    """The wall clock, for rows that say when an operator did something."""
    return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)
