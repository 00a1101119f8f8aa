"""What must be stored, worked out from the logs alone: plain json and arithmetic, nothing of the product's counting."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from orgstats.consumer.kafka.group import TopicPartition
from tests.sim.clickhouse import SimClickHouse
from tests.sim.kafka import SimKafka
from tests.sim.log import SimLog
from tests.sim.rules import SimRules
from tests.support.record import FakeRecord

Values = Counter[tuple[Any, ...]]
"""By table, org, bucket, then the rest of the key and the name of the value."""

VERSIONS: Final = (90 * 86_400, 20, 200 * 86_400)
"""`max_event_age_seconds` of the versions of the program that histories run."""
LOW_48_BITS: Final = (1 << 48) - 1
STATS: Final = ("accepted", "filtered", "rate_limited")


class Violation(AssertionError):
    """An invariant that does not hold."""

    def __init__(self, invariant: str, detail: object) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


class Counted(NamedTuple):
    """One source: what is stored of it, and its log."""

    name: str
    tp: TopicPartition
    source_id: int
    log: SimLog
    next_offset: int
    hourly_offset: int
    complete_until_ms: int
    first_offset: int
    rewinds: int
    gaps: list[tuple[int, int, str]]


def sources(store: SimClickHouse, kafka: SimKafka) -> list[Counted]:
    """Every source that is registered, also of topics that are gone; worked out anew when rows or topics are new."""
    stamp = store.stamp("sources", "progress", "gaps"), [*kafka.topics.values()], len(kafka.former)
    known = _SOURCES.get(store)
    if known is None or known[0] != stamp:
        known = _SOURCES[store] = stamp, [*_sources(store, kafka)]
    return known[1]


def source_of(store: SimClickHouse, kafka: SimKafka, source_id: int) -> Counted:
    """The one of this id."""
    return next(one for one in sources(store, kafka) if one.source_id == source_id)


_SOURCES: Final[WeakKeyDictionary[SimClickHouse, tuple[object, list[Counted]]]] = WeakKeyDictionary()


def _sources(store: SimClickHouse, kafka: SimKafka) -> Iterator[Counted]:
    logs = {uuid: found for _, uuid, found in kafka.former}
    logs |= dict(kafka.topics.values())
    progress = {row.source_id: row for row in store.final("progress")}
    gaps: dict[int, list[tuple[int, int, str]]] = {}
    for gap in store.final("gaps"):
        gaps.setdefault(gap.source_id, []).append((gap.from_offset, gap.to_offset, gap.why))
    for row in store.final("sources"):
        at = progress.get(row.source_id)
        yield Counted(
            f"{row.topic}/{row.partition} {row.topic_id}",
            (row.topic, row.partition),
            row.source_id,
            logs[row.topic_id][row.partition],
            at.next_offset if at else 0,
            at.hourly_offset if at else 0,
            round(at.complete_until.timestamp() * 1000) if at else 0,
            row.first_offset,
            at.version >> 48 if at else 0,
            gaps.get(row.source_id, []),
        )


def one_pass(records: Iterable[FakeRecord], rules: SimRules, version: int) -> tuple[Values, set[int]]:
    """The value of each cell of the three tables, and the offsets of dead letters."""
    values: Values = Counter()
    dead = set()
    for record in records:
        try:
            event = json.loads(record.body or b"")
            second = event["timestamp"] + 0
        except (ValueError, TypeError):
            dead.add(record.at)
            continue
        kafka_second = record.when_ms // 1000
        if not kafka_second - VERSIONS[version] <= second <= kafka_second + 600:
            second = kafka_second
        quantity = 1 if event["quantity"] is None else event["quantity"]
        category = 1 if event["category"] is None else event["category"]
        outcome, reason = event.get("outcome"), event["reason"] or ""
        if outcome is None:
            outcome, reason = rules.classify(event, record.when_ms)
        project, rest = event["project_id"], (category, outcome, reason)
        for table, width, which in (("counts", 10, (project, event["key_id"] or 0)), ("hourly", 3600, (project,))):
            values[table, event["org_id"], second // width * width, *which, *rest, "quantity"] += quantity
            values[table, event["org_id"], second // width * width, *which, *rest, "events"] += 1
            if category < 2 and outcome < 3:
                values["totals", event["org_id"], second // width * width, width, STATS[outcome]] += quantity
    return values, dead


def stored(store: SimClickHouse, source_id: int) -> Values:
    """What a reader sees of a source, in the keys of `one_pass`."""
    values: Values = Counter()
    for table in ("counts", "hourly"):
        for row in store.winners(table).get(source_id, {}).values():
            which = (row.project_id, row.key_id) if table == "counts" else (row.project_id,)
            rest = *which, row.category, row.outcome, row.reason
            values[table, row.org_id, row.bucket, *rest, "quantity"] += row.quantity
            values[table, row.org_id, row.bucket, *rest, "events"] += row.events
    for row in store.winners("totals").get(source_id, {}).values():
        for name in STATS:
            values["totals", row.org_id, row.bucket, row.width, name] += getattr(row, name)
    return values


def dead_letters(store: SimClickHouse, source_id: int) -> set[int]:
    """Offsets of those that are not withdrawn."""
    return {row.offset for row in store.winners("dead_letters").get(source_id, {}).values() if not row.withdrawn}


def summed(values: Values, *, outcomes: bool) -> Values:
    """Sums over time, in which versions of the program differ.

    With `outcomes` also over outcome and reason, which voided rules change.
    """
    sums: Values = Counter()
    for (table, org, _, *rest), value in values.items():
        if outcomes and table == "totals":
            continue
        sums[(table, org, *(rest[:-3] + rest[-1:] if outcomes else rest))] += value
    return sums
