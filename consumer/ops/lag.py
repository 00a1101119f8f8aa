"""How far behind counting is, and when retention would overtake it."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.retention import RATE_SECONDS, Retention, retention_deadline, retention_of
from orgstats.consumer.ops.connections import Connections, SourceStatus, locate, sources_of
from orgstats.errors import Unavailable
from orgstats.times import format_time

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition. `end` is the log's true one: `open_transaction` records before it belong to a transaction that is
    not ended, or lie behind it, and nobody may read them yet.

    `behind_seconds` is the age of the moment up to which the counts are complete; 0 at the end, None while unknown.

    `retention_deadline` is when retention would delete uncounted records if counting stood still, epoch seconds; None
    for never. Rates are records a second; `counted_rate` needs two looks.
    """

    topic: str
    partition: int
    position: int | None
    end: int
    behind: int
    behind_seconds: float | None
    open_chunk: int | None
    produced_rate: float
    counted_rate: float | None
    retention_deadline: float | None
    committed: int | None
    open_transaction: int
    chunk_length: int

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        at = self.retention_deadline
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "retention_deadline": None if at is None else format_time(at),
        }


def lag(
    connections: Connections, partitions: Collection[int] | None, before: Sequence[Lag] = (), seconds: float = 0.0
) -> list[Lag]:
    """Every partition now; with an earlier look, `seconds` ago, also how fast counting goes.

    The commits are asked first, then what is stored, then the ends. Consumers store before they commit, and read
    before they store: so on healthy ones a commit is never ahead of the position, nor the position of the end.
    """
    now = time.time()
    sources = sources_of(connections, partitions)
    tps = [(source.topic, source.partition) for source in sources]
    commits = _or(dict[TopicPartition, int](), lambda: connections.broker.committed(connections.settings.group, tps))
    located = locate(connections, partitions, sources, hidden=True)
    recent = connections.broker.offsets_at(tps, round((now - RATE_SECONDS) * 1000))
    retention = {
        topic: _or(Retention(None, None), lambda topic=topic: retention_of(connections.broker.topic_settings(topic)))  # type: ignore[misc]
        for topic in connections.settings.topic
    }
    earlier = {(one.topic, one.partition): one.position for one in before}
    found = []
    for one, tp in zip(located, tps, strict=True):
        since = recent[tp]
        end = one.end + one.hidden
        produced = 0.0 if since is None else (end - since) / RATE_SECONDS
        counted = None
        if one.progress is not None and earlier.get(tp) is not None and seconds:
            counted = max(0, one.progress.next_offset - (earlier[tp] or 0)) / seconds
        partition = _PartitionState(one, end, produced, counted, retention[tp[0]], commits.get(tp))
        found.append(_lag(partition, now))
    return found


@dataclass(frozen=True, slots=True)
class _PartitionState:
    """What was asked about one partition; rates in records a second."""

    status: SourceStatus
    end: int
    produced_rate: float
    counted_rate: float | None
    retention: Retention
    committed: int | None


def _or(otherwise: Answer, ask: Callable[[], Answer]) -> Answer:
    """What a broker may be unable to tell, or may not tell this user: the rest is worth showing without it."""
    try:
        return ask()
    except Unavailable:
        return otherwise


def _lag(state: _PartitionState, now: float) -> Lag:
    one, end = state.status, state.end
    position = one.progress.next_offset if one.progress else None
    counted_to = max(one.low, position) if position is not None else one.low
    behind = max(0, end - counted_to)
    complete_until = one.progress.complete_until_ms / 1000 if one.progress else 0.0
    age = round(max(0.0, now - complete_until), 1) if complete_until else None
    counted_ms = one.progress.kafka_timestamp_ms if one.progress else 0
    counted_until = max(complete_until, min(counted_ms / 1000, now)) or now
    return Lag(
        one.source.topic,
        one.source.partition,
        position,
        end,
        behind,
        age if behind else 0.0,
        None if position is None else one.grid.chunk_of(position),
        round(state.produced_rate, 1),
        None if state.counted_rate is None else round(state.counted_rate, 1),
        retention_deadline(state.retention, counted_until, now, counted_to - one.low, state.produced_rate),
        state.committed,
        one.hidden,
        one.grid.length_at(position or 0),
    )
