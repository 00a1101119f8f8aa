"""Counts a chunk's records one by one, the slow way: what audit compares the stored counts with.

It has nothing of the daemon's counting: no batches, no tallies, no memos, no open chunk, no flush. What it has in
common with it is the classification on a single record (`decode`, `event_second`, `bucket_of`, the rules), which tests
compare with a decoder of another make over millions of records. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from orgstats.consumer.counting.cells import erased_mark
from orgstats.consumer.counting.decode import AgeLimits, Undecodable, bucket_of, decode, event_second
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.schemas.outcomes import DEFAULT_CATEGORY, STAT_CATEGORIES

_MOST_REASONS: Final = 1000
_MOST_CHARACTERS: Final = 64
_MOST: Final = (1 << 64) - 1


class Record(Protocol):
    """What is needed of a Kafka record."""

    def offset(self) -> int | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...


Cells = dict[tuple[Any, ...], tuple[int, ...]]
"""Values by key, both in the order of the table's columns."""


@dataclass(slots=True)
class ReferenceCounts:
    """What records give: the cells of `counts`, `hourly` and `totals` by table.

    Of the dead, by offset, the reason codes and the Kafka timestamps in epoch milliseconds.
    """

    records: int = 0
    cells: dict[str, Cells] = field(default_factory=lambda: {"counts": {}, "hourly": {}, "totals": {}})
    dead: dict[int, str] = field(default_factory=dict)
    dead_ms: dict[int, int] = field(default_factory=dict)


class ReferenceCounter:
    """Takes the records of one chunk in offset order."""

    def __init__(
        self, limits: AgeLimits, rules: RuleHistory, *, projects: bool = True, erased: frozenset[int] = frozenset()
    ) -> None:
        self.counted = ReferenceCounts()
        self._projects = projects
        self._limits = limits
        self._rules = rules
        self._erased = erased
        self._reasons: set[str] = set()

    def take(self, records: Iterable[Record]) -> None:
        """Count records; broken ones are dead letters."""
        for record in records:
            self.counted.records += 1
            try:
                self._count(record.value(), record.timestamp()[1])
            except Undecodable as dead:
                self.counted.dead[record.offset() or 0] = str(dead.code)
                self.counted.dead_ms[record.offset() or 0] = record.timestamp()[1]

    def _count(self, value: bytes | None, timestamp_ms: int) -> None:
        event = decode(value)
        bucket, _ = bucket_of(event_second(event.timestamp), timestamp_ms, self._limits)
        if event.outcome is None:
            outcome, reason = self._rules.classify(event, timestamp_ms)
        else:
            outcome, reason = event.outcome, event.reason or ""
        org_id = event.org_id or 0
        project_id, key_id = (event.project_id or 0, event.key_id or 0) if self._projects else (0, 0)
        category = DEFAULT_CATEGORY if event.category is None else event.category
        quantity = 1 if event.quantity is None else event.quantity

        rest = category, outcome, self._stored_reason(reason)
        if org_id in self._erased:  # of which only the day is left
            bucket = bucket // 86_400 * 86_400
            org_id, project_id, key_id, category, rest = 0, erased_mark(org_id), 0, 255, (255, 0, "erased")
        hour = bucket // 3600 * 3600
        self._add("counts", (org_id, bucket, project_id, key_id, *rest), (quantity, 1))
        self._add("hourly", (org_id, hour, project_id, *rest), (quantity, 1))
        if category in STAT_CATEGORIES and outcome <= 2:  # accepted, filtered, rate limited
            shown = tuple(quantity if outcome == one else 0 for one in range(3))
            self._add("totals", (org_id, 10, bucket), shown)
            self._add("totals", (org_id, 3600, hour), shown)

    def _add(self, table: str, key: tuple[Any, ...], more: tuple[int, ...]) -> None:
        before = self.counted.cells[table].get(key, (0,) * len(more))
        self.counted.cells[table][key] = tuple(
            min(one + another, _MOST) for one, another in zip(before, more, strict=True)
        )

    def _stored_reason(self, reason: str) -> str:
        reason = reason[:_MOST_CHARACTERS]
        if reason and reason not in self._reasons:
            if len(self._reasons) == _MOST_REASONS:
                return "other"
            self._reasons.add(reason)
        return reason
