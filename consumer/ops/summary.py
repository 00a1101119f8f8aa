"""What a replay changes, added up as an operator looks at it: by organization, stat and hour."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.ops.recount import RecountTotals
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.store.store import Store
from orgstats.schemas.outcomes import COMPARED_STATS, STAT_CATEGORIES, STAT_OUTCOMES, Stat

HOUR: Final = 3_600

Where = tuple[int, Stat, int]
"""(org_id, stat, start of the hour)."""


@dataclass(slots=True)
class Summary:
    """What a plan found, or what a replay wrote."""

    tally: RecountTotals = field(default_factory=RecountTotals)
    notes: list[str] = field(default_factory=list)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    changes: int = 0
    left: int = 0
    """Changes of chunks that need a repair, and that none was asked for."""
    conflicts: Counter[str] = field(default_factory=Counter)
    by_hour: Counter[Where] = field(default_factory=Counter)
    touched: set[Where] = field(default_factory=set)
    replay_id: str = ""

    def see(self, changes: ChunkDifference, *, repair: bool) -> bool:
        """Take in a chunk; whether its changes may be written."""
        allowed = repair or not changes.conflicts
        source = changes.counted.source
        if changes.count:
            self.chunks.append(
                {
                    "topic": source.topic,
                    "partition": source.partition,
                    "chunk": changes.counted.chunk,
                    "changes": changes.count,
                    "needs_repair": not allowed,
                    "why": dict(changes.conflicts),
                }
            )
        for key in changes.counted.cells:
            for stat in _stats_of(key.outcome, key.category):
                self.touched.add((key.org_id, stat, key.bucket // HOUR * HOUR))
        if not allowed:
            self.left += changes.count
            self.conflicts.update(changes.conflicts)
            return False
        self.changes += changes.count
        for org_id, stat, bucket, more in changes.by_stat():
            self.by_hour[org_id, stat, bucket // HOUR * HOUR] += more
        return True


def _stats_of(outcome: int, category: int) -> list[Stat]:
    return [stat for stat in COMPARED_STATS if outcome in STAT_OUTCOMES[stat] and category in STAT_CATEGORIES]


def counts_now(store: Store, touched: Collection[Where]) -> dict[Where, int]:
    """What the endpoint answers now for these organizations, stats and hours."""
    if not touched:
        return {}
    hours = [hour for _, _, hour in touched]
    found = ask(
        store,
        f"SELECT org_id, intDiv(toUnixTimestamp(bucket), {HOUR}) * {HOUR} AS hour, outcome AS o, sum(quantity)"
        " FROM counts FINAL WHERE org_id IN %(orgs)s AND bucket >= toDateTime(%(first)s, 'UTC')"
        " AND bucket <= toDateTime(%(last)s, 'UTC') AND category IN (0, 1, 3) AND outcome IN (0, 1, 2)"
        " GROUP BY org_id, hour, o",
        {"orgs": sorted({org for org, _, _ in touched}), "first": min(hours), "last": max(hours) + HOUR - 1},
    )
    sums: Counter[Where] = Counter()
    for org_id, hour, outcome, quantity in found:
        for stat in _stats_of(outcome, 1):
            sums[org_id, stat, hour] += quantity
    return {where: sums[where] for where in touched}
