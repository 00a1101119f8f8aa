"""Counts a chunk's records one by one, the slow way: what audit compares the stored counts with.

It has nothing of the daemon's counting: no batches, no tallies, no memos, no open chunk, no flush. What it has in
common with it is the classification on a single record (`decode`, `event_second`, `bucket_of`, the rules), which tests
compare with a decoder of another make over millions of records. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from orgstats.consumer.counting.decode import AgeLimits, Undecodable, bucket_of, decode, event_second
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.schemas.outcomes import DEFAULT_CATEGORY

_MOST_REASONS: Final = 1000
_MOST_CHARACTERS: Final = 64
_MOST_QUANTITY: Final = (1 << 64) - 1


class Record(Protocol):
    """What is needed of a Kafka record."""

    def offset(self) -> int | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class Cell(NamedTuple):
    """Key of a stored count within a chunk."""

    org_id: int
    bucket: int
    category: int
    outcome: int
    reason: str


class ProjectCell(NamedTuple):
    """Key of a stored project count within a chunk."""

    org_id: int
    project_id: int
    bucket: int
    category: int
    outcome: int


@dataclass(slots=True)
class ReferenceCounts:
    """What records give: (quantity, events) by cell, quantity by project cell, reason codes by offset."""

    records: int = 0
    cells: dict[Cell, tuple[int, int]] = field(default_factory=dict)
    project_cells: dict[ProjectCell, int] = field(default_factory=dict)
    dead: dict[int, str] = field(default_factory=dict)


class ReferenceCounter:
    """Takes the records of one chunk in offset order."""

    def __init__(self, limits: AgeLimits, rules: RuleHistory) -> None:
        self.counted = ReferenceCounts()
        self._limits = limits
        self._rules = rules
        self._reasons: set[str] = set()

    def take(self, records: Iterable[Record]) -> None:
        """Count records; broken ones are dead letters."""
        for record in records:
            self.counted.records += 1
            try:
                self._count(record.value(), record.timestamp()[1])
            except Undecodable as dead:
                self.counted.dead[record.offset() or 0] = str(dead.code)

    def _count(self, value: bytes | None, timestamp_ms: int) -> None:
        event = decode(value)
        bucket, _ = bucket_of(event_second(event.timestamp), timestamp_ms, self._limits)
        if event.outcome is None:
            outcome, reason = self._rules.classify(event, timestamp_ms)
        else:
            outcome, reason = event.outcome, event.reason or ""
        org_id, project_id = event.org_id or 0, event.project_id or 0
        category = DEFAULT_CATEGORY if event.category is None else event.category
        quantity = 1 if event.quantity is None else event.quantity

        cell = Cell(org_id, bucket, category, outcome, self._stored_reason(reason))
        before, events = self.counted.cells.get(cell, (0, 0))
        self.counted.cells[cell] = min(before + quantity, _MOST_QUANTITY), events + 1
        project = ProjectCell(org_id, project_id, bucket, category, outcome)
        so_far = self.counted.project_cells.get(project, 0)
        self.counted.project_cells[project] = min(so_far + quantity, _MOST_QUANTITY)

    def _stored_reason(self, reason: str) -> str:
        reason = reason[:_MOST_CHARACTERS]
        if reason and reason not in self._reasons:
            if len(self._reasons) == _MOST_REASONS:
                return "other"
            self._reasons.add(reason)
        return reason
