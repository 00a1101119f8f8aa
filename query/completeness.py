"""How far the counts can be trusted: what every current partition has been counted up to."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class SourceState(NamedTuple):
    """One row of `sql.sources`; version, partitions and complete_until_ms are 0 where no progress is.

    `summed` says whether every cell that is stored is in the sums by hour.
    """

    source_id: int
    topic: str
    incarnation: str
    partition: int
    registered_ms: int
    version: int
    partitions: int
    complete_until_ms: int
    summed: bool = True


@dataclass(frozen=True, slots=True)
class CountedState:
    """What was counted at one time: equal states mean that no flush was finished in between."""

    versions: frozenset[tuple[int, int]]  # (source id, version of its progress)
    complete_until: int | None  # epoch seconds; None when unknown
    summed: bool = True  # whether there are sums by hour of all that is counted


def counted_state(rows: Iterable[SourceState]) -> CountedState:
    """The state that the rows of all sources tell."""
    rows = list(rows)
    versions = frozenset((row.source_id, row.version) for row in rows)
    return CountedState(versions, complete_until(rows), all(row.summed for row in rows))


def complete_until(rows: Iterable[SourceState]) -> int | None:
    """Epoch seconds up to which every event that Kafka holds has been counted, or None when unknown.

    The least over the partitions of each topic's current incarnation, which is the one registered last: a
    topic made anew may have fewer partitions, and the old ones never go on. Unknown as long as a partition
    that any progress knows of has none itself.
    """
    topics: defaultdict[str, list[SourceState]] = defaultdict(list)
    for row in rows:
        topics[row.topic].append(row)
    reached = [_topic_complete_until_ms(sources) for sources in topics.values()]
    if not reached or None in reached:
        return None
    return min(ms for ms in reached if ms is not None) // 1000


def _topic_complete_until_ms(sources: list[SourceState]) -> int | None:
    newest = max(sources, key=lambda source: source.registered_ms).incarnation
    current = {source.partition: source for source in sources if source.incarnation == newest}
    known = set(current) | set(range(max(source.partitions for source in current.values())))
    if any(partition not in current or not current[partition].partitions for partition in known):
        return None
    return min(source.complete_until_ms for source in current.values())
