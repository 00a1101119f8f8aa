"""The topic that dead letters are sent to, and whether it keeps their records until they are counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.retention import retention_of
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.topic_checks import topic_uuids
from orgstats.errors import ConfigurationError, Refused

COUNTED_WITHIN_MS: Final = 3_600_000
"""A record is kept at least this long, or a tenth of the topic's retention, so that consumers come to it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A topic, the source id of each of its partitions, and its settings."""

    topic: str
    source_ids: tuple[int, ...]
    settings: Mapping[str, str]


def source_ids(connections: Connections, topic: str) -> tuple[int, ...]:
    """The source id of each partition of a topic as it is now; none when there is no such topic."""
    count = connections.topics.partitions(topic)
    if not count:
        return ()
    named = connections.settings.topic_id
    topic_id = named or topic_uuids([topic], connections.topics, named)[topic] or ""
    return tuple(Source(topic, topic_id, partition).source_id for partition in range(count))


def open_target(connections: Connections, topic: str) -> Target:
    """The topic as it is now. Raises Refused for one that is compacted, ConfigurationError for one there is not."""
    found = source_ids(connections, topic)
    if not found:
        raise ConfigurationError(f"topic {topic} does not exist: send to another one with --to-topic")
    settings = connections.broker.topic_settings(topic)
    if "compact" in settings.get("cleanup.policy", ""):
        raise Refused(
            f"topic {topic} is compacted: what is sent could be gone before it is counted, and before an interrupted "
            "redrive has looked for it. Send to a topic that is not, with --to-topic"
        )
    return Target(topic, found, settings)


def deleted_too_soon(settings: Mapping[str, str], timestamp_ms: int, now_ms: int) -> str | None:
    """Why a topic would not keep a record of this Kafka timestamp until it is counted, with the remedy, or None.

    Retention goes by the highest timestamp of a log segment. When segments end cannot be foreseen: they do so by
    records' timestamps too (`segment.ms`), so one of old records alone may be made and deleted within seconds.
    """
    if settings.get("message.timestamp.type") == "LogAppendTime":
        return None  # the broker gives it a new one
    age_ms = now_ms - timestamp_ms
    for name in ("message.timestamp.before.max.ms", "message.timestamp.difference.max.ms"):
        limit = settings.get(name, "")
        if limit.isdecimal() and age_ms > int(limit):
            return f"the target refuses records this old ({name}={limit}): raise it, or add --timestamp-now"
    kept_ms = retention_of(dict(settings)).milliseconds
    if kept_ms is not None and age_ms > kept_ms - min(COUNTED_WITHIN_MS, kept_ms // 10):
        return (
            f"the target would delete them before they are counted (retention.ms={kept_ms}): raise it until "
            "dead-letters ls no longer shows them as sent, or add --timestamp-now"
        )
    return None
