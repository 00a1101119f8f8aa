"""How far the counts can be trusted: what every current partition has been counted up to."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class SourceState(NamedTuple):
    """One row of `sql.sources`; version, partitions and complete_until_ms are 0 where no progress is.

    `summed` says whether every cell that is stored is in the sums by hour, `retired` whether an operator has taken its
    topic out since it was registered.
    """

    source_id: int
    topic: str
    topic_id: str
    partition: int
    registered_ms: int
    version: int
    partitions: int
    complete_until_ms: int
    summed: bool = True
    retired: bool = False


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
    """Epoch seconds before which every acknowledged record has been counted, or None when unknown.

    The least over the partitions of each topic's current id, which is the one registered last: a
    topic made anew may have fewer partitions, and the old ones never go on. Unknown as long as a partition
    that any progress knows of has none itself, or has not reached the end that its log had when somebody first looked.
    A topic that was retired, and of which nothing was registered afterwards, holds nothing back.
    """
    topics: defaultdict[str, list[SourceState]] = defaultdict(list)
    for row in rows:
        topics[row.topic].append(row)
    current = [_newest(sources) for sources in topics.values()]
    reached = [_complete_until_ms(sources) for sources in current if not all(one.retired for one in sources.values())]
    return min(reached, default=0) // 1000 or None


def _newest(sources: list[SourceState]) -> dict[int, SourceState]:
    """The topic's current id, by partition."""
    newest = max(sources, key=lambda source: source.registered_ms).topic_id
    return {source.partition: source for source in sources if source.topic_id == newest}


def _complete_until_ms(current: dict[int, SourceState]) -> int:
    known = set(current) | set(range(max(source.partitions for source in current.values())))
    return min(current[partition].complete_until_ms if partition in current else 0 for partition in known)
