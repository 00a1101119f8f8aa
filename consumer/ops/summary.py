"""What a replay changes, added up as an operator looks at it: by organization, stat and hour."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from orgstats.consumer.counting.cells import TOTALS, TotalKey
from orgstats.consumer.ops.compare import ChunkDifference, shown
from orgstats.consumer.ops.recount import RecountTotals
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.store.store import Store
from orgstats.schemas.outcomes import HOUR_SECONDS, Stat

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
        for key, cell in changes.counted.cells[TOTALS].items():
            if isinstance(key, TotalKey) and key.width == HOUR_SECONDS:
                self.touched.update((key.org_id, stat, key.bucket) for stat, many in shown(cell.values).items() if many)
        if not allowed:
            self.left += changes.count
            self.conflicts.update(changes.conflicts)
            return False
        self.changes += changes.count
        for org_id, stat, hour, more in changes.by_stat():
            self.by_hour[org_id, stat, hour] += more
        return True


def counts_now(store: Store, touched: Collection[Where]) -> dict[Where, int]:
    """What the endpoint answers now for these organizations, stats and hours."""
    if not touched:
        return {}
    hours = [hour for _, _, hour in touched]
    found = ask(
        store,
        f"SELECT org_id, toUnixTimestamp(bucket) AS hour, {', '.join(f'sum({name})' for name in TOTALS.values)}"
        " FROM totals FINAL WHERE org_id IN %(orgs)s AND width = %(width)s AND bucket >= toDateTime(%(first)s, 'UTC')"
        " AND bucket <= toDateTime(%(last)s, 'UTC') GROUP BY org_id, hour",
        {
            "orgs": sorted({org for org, _, _ in touched}),
            "width": HOUR_SECONDS,
            "first": min(hours),
            "last": max(hours),
        },
    )
    answers = {(org_id, stat, hour): many for org_id, hour, *values in found for stat, many in shown(values).items()}
    return {where: answers.get(where, 0) for where in touched}
