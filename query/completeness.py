"""How far the counts can be trusted: what every current partition has been counted up to."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

SETTLED_SECONDS: Final = 60.0
"""What was stored this long ago is in the answer of whichever replica is asked.

A replica that is more than 10 s behind is not asked (max_replica_delay_for_distributed_queries). One that has lost
Keeper notices after its session's 30 s only. A series may have been kept for 10 s. The rest is for clocks that differ.
"""


class SourceState(NamedTuple):
    """One row of `sql.sources`; from version on 0 where no progress is.

    `hourly_until_ms` and `hourly_offset` are of the table `hourly`, which is written less often. `retired` says whether
    an operator has taken its topic out since it was registered.
    """

    source_id: int
    topic: str
    topic_id: str
    partition: int
    registered_ms: int
    version: int
    partitions: int
    complete_until_ms: int
    hourly_until_ms: int
    hourly_offset: int
    retired: bool = False


@dataclass(frozen=True, slots=True)
class CountedState:
    """What was counted at one time: equal states mean that no flush was finished in between."""

    versions: frozenset[tuple[int, int, int]]  # (source id, version of its progress, how far `hourly` is written)
    complete_until: int | None  # epoch seconds; None when unknown
    hourly_until: int | None  # the same of what is read from `hourly`


def counted_state(rows: Iterable[SourceState]) -> CountedState:
    """The state that the rows of all sources tell."""
    rows = list(rows)
    versions = frozenset((row.source_id, row.version, row.hourly_offset) for row in rows)
    hourly = [row._replace(complete_until_ms=row.hourly_until_ms) for row in rows]
    return CountedState(versions, complete_until(rows), complete_until(hourly))


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


class SettledHistory:
    """On a cluster, up to when the counts of every replica that may answer are complete.

    Progress may be read from a replica that is ahead of the one that counts are read from: they are different tables,
    so neither follows from the other. But what progress said SETTLED_SECONDS ago has reached both by now. Of what it
    said since then the least counts, because a log that was cut back is counted again.
    """

    def __init__(self) -> None:
        self._said: deque[tuple[float, int | None]] = deque()  # (when it was read, what it said), oldest first

    def complete_until(self, said: int | None, now: float) -> int | None:
        """What holds at `now`, seconds of a clock that never goes back, when progress says `said`; None: unknown."""
        self._said.append((now, said))
        while len(self._said) > 1 and self._said[1][0] <= now - SETTLED_SECONDS:
            self._said.popleft()
        if self._said[0][0] > now - SETTLED_SECONDS:
            return None
        known = [until for _, until in self._said if until is not None]
        return min(known) if len(known) == len(self._said) else None
