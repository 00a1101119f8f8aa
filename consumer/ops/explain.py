"""What one number of the endpoint is made of: partitions, chunks, offsets, keys, reasons, and the rules behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orgstats.consumer.counting.source import revision_of
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.store.rules import load_history
from orgstats.consumer.store.store import Store
from orgstats.schemas.outcomes import STAT_CATEGORIES, STAT_OUTCOMES, Stat, outcome_name
from orgstats.schemas.tables import RulesRow


@dataclass(frozen=True, slots=True)
class Part:
    """The share of one cell kind of one chunk. Offsets [chunk, next_offset) are what was counted of it.

    `key_id` is 0 of events without one.
    """

    topic: str
    partition: int
    chunk: int
    next_offset: int
    outcome: str
    category: int
    key_id: int
    reason: str
    events: int
    quantity: int
    revision: int
    why: str


@dataclass(frozen=True, slots=True)
class Classification:
    """A published rule that gives a reason found among the parts, and the Kafka timestamps it classified."""

    version: int
    reason: str
    published_by: str
    since: datetime
    until: datetime | None


def explain(store: Store, org_id: int, stat: Stat, start: int, seconds: int) -> list[Part]:
    """The parts of a stat of an organization in [start, start + seconds), epoch seconds; they add up to it."""
    rows = ask(
        store,
        "SELECT c.source_id, s.topic, s.partition, c.chunk, p.next_offset, c.outcome AS o, c.category, c.key_id,"
        " toString(c.reason) AS r, sum(c.events), sum(c.quantity), max(c.version), any(w.why)"
        " FROM (SELECT * FROM counts FINAL WHERE org_id = %(org_id)s AND bucket >= toDateTime(%(start)s, 'UTC')"
        " AND bucket < toDateTime(%(end)s, 'UTC') AND outcome IN %(outcomes)s AND category IN %(categories)s"
        ") AS c LEFT JOIN (SELECT * FROM sources FINAL) AS s ON s.source_id = c.source_id"
        " LEFT JOIN (SELECT * FROM progress FINAL) AS p ON p.source_id = c.source_id"
        " LEFT JOIN (SELECT source_id, chunk, argMax(why, revision) AS why FROM repairs FINAL"
        " GROUP BY source_id, chunk) AS w ON w.source_id = c.source_id AND w.chunk = c.chunk"
        " GROUP BY c.source_id, s.topic, s.partition, c.chunk, p.next_offset, o, c.category, c.key_id, r"
        " HAVING sum(c.events) > 0 ORDER BY s.topic, s.partition, c.chunk, o, c.category, c.key_id, r",
        {
            "org_id": org_id,
            "start": start,
            "end": start + seconds,
            "outcomes": [int(outcome) for outcome in STAT_OUTCOMES[stat]],
            "categories": list(STAT_CATEGORIES),
        },
    )
    grids = store.grids({row[0] for row in rows})
    return [
        Part(
            topic, partition, chunk, min(grids[of].chunk_end(chunk), max(next_offset, chunk)), outcome_name(outcome),
            category, key_id, reason, events, quantity, revision_of(version), why,
        )
        for of, topic, partition, chunk, next_offset, outcome, category, key_id, reason, events, quantity, version, why
        in rows
    ]  # fmt: skip


def classifications(store: Store, parts: Sequence[Part], history: Sequence[RulesRow]) -> list[Classification]:
    """The published rules that give the reasons of filtered and rate limited parts."""
    reasons = {part.reason for part in parts if part.outcome in ("filtered", "rate_limited") and part.reason}
    compiled = store.run(load_history)
    rows = [row for row in history if not row.voided]  # in the order of the entries
    found = []
    for entry, row, following in zip(compiled.entries, rows, [*rows[1:], None], strict=False):
        until = following.effective_from if following else None
        for reason in sorted({rule.reason for rule in entry.rules} & reasons):
            found.append(Classification(entry.version, reason, row.published_by, row.effective_from, until))  # noqa: PERF401
    return found
