"""Random histories of everything that may happen to a partition, played on the real counting code.

The log, the store and the group's commit are models of a few lines each; what counts, resumes and flushes is
the code of the daemon. Offsets are far apart, so that a few dozen records fill several segments and the log
has offsets without a record everywhere.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from consumer.batch import BatchCounter
from consumer.classify import RuleHistory
from consumer.decode import AgeLimits
from consumer.partition import Changes, Partition
from consumer.resume import Found, Progress, Registration, Repair, Resume, attempt, counted_below, resume
from consumer.segment import CellKey, ProjectKey, Stored
from consumer.source import SEGMENT_LENGTH, Source, generation_of, next_offset_of, segment_of, version_of

SOURCE = Source("events", "incarnation", 0)
ISOLATION = "read_committed"
T0 = 1_700_000_000


@dataclass(frozen=True)
class Fake:
    """A record of the modelled log."""

    at: int
    body: bytes
    when_ms: int

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes:
        return self.body

    def key(self) -> bytes | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, self.when_ms

    def headers(self) -> None:
        return None


@dataclass
class ModelStore:
    """ClickHouse as the promise sees it: of the rows of a key the one with the highest version is kept."""

    cells: dict[tuple[int, CellKey], Stored] = field(default_factory=dict)
    project_cells: dict[tuple[int, ProjectKey], Stored] = field(default_factory=dict)
    dead: dict[int, int] = field(default_factory=dict)
    progress: Progress | None = None
    registration: Registration | None = None
    repairs: dict[int, Repair] = field(default_factory=dict)
    gaps: set[tuple[int, int]] = field(default_factory=set)

    def copy(self) -> "ModelStore":
        return ModelStore(
            dict(self.cells),
            dict(self.project_cells),
            dict(self.dead),
            self.progress,
            self.registration,
            dict(self.repairs),
            set(self.gaps),
        )

    def apply(self, write: tuple[Any, ...]) -> None:
        match write:
            case "cell", segment, key, stored:
                _keep(self.cells, (segment, key), stored)
            case "project", segment, key, stored:
                _keep(self.project_cells, (segment, key), stored)
            case "dead", offset, version:
                self.dead[offset] = max(version, self.dead.get(offset, 0))
            case "gap", gap:
                self.gaps.add(gap)
            case "repair", segment, repair:
                self.repairs[segment] = repair
            case "progress", progress:
                before = self.progress
                if before is None or progress.next_offset >= before.next_offset:
                    self.progress = progress


def _keep(cells: dict[Any, Stored], key: Any, stored: Stored) -> None:
    if key not in cells or stored.version >= cells[key].version:
        cells[key] = stored


def writes_of(changes: Changes, logic: str) -> list[list[tuple[Any, ...]]]:
    """A checkpoint's rows in the order of `Store.write`: one list for each insert."""
    cells: list[tuple[Any, ...]] = []
    projects: list[tuple[Any, ...]] = []
    for part in changes.segments:
        first = part.segment.first_offset
        cells += [("cell", first, k, Stored(q, e, part.version)) for k, q, e in part.cells]
        projects += [("project", first, k, Stored(q, 0, part.version)) for k, q in part.project_cells]
    return [
        [("repair", segment, Repair(generation, logic)) for segment, generation in changes.notes.begun],
        [("gap", changes.notes.gap[:2])] if changes.notes.gap else [],
        [("dead", d.record.offset(), version_of(d.generation, d.record.offset())) for d in changes.notes.dead_letters],
        cells,
        projects,
        [("progress", Progress(changes.next_offset, logic))],
    ]


@dataclass
class Owner:
    """A process that counts the partition, or believes that it does."""

    partition: Partition
    logic: str


class World:
    """One history: a growing log, a store, a commit, and owners that come, go, and outstay their welcome."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log: list[Fake] = []
        self.low = 0
        self.end = 0
        self.committed: int | None = None
        self.store = ModelStore()
        self.backup = ModelStore()
        self.owners: list[Owner] = []
        self.before_start = 0
        self.grow(self.random.randint(5, 30))

    def play(self, steps: int) -> None:
        """Take random steps, then let one last owner finish in peace."""
        kinds = (
            [self.open] * 4 + [self.read] * 12 + [self.flush] * 8 + [self.tear] * 4 + [self.crash] * 2
            + [self.grow] * 3 + [self.retain, self.set_commit_back, self.set_commit_ahead, self.back_up, self.restore]
        )  # fmt: skip
        for _ in range(steps):
            self.random.choice(kinds)()
        self.owners.clear()
        self.finish()

    def finish(self) -> None:
        self.open()
        owner = self.owners[-1]
        self._read(owner, len(self.log))
        owner.partition.advance(self.end)
        self._store_all(owner)

    # What may happen

    def grow(self, records: int | None = None) -> None:
        for _ in range(records or self.random.randint(1, 8)):
            self.end += self.random.choice((1, 1, 1, 7, 20_000, 60_000))
            self.log.append(Fake(self.end, self._body(), (T0 + self.end // 1000) * 1000))
            self.end += 1

    def open(self) -> None:
        found = Found(
            self.low,
            self.end,
            self.committed,
            self.store.progress,
            self.store.registration,
            dict(self.store.repairs),
        )
        if found.registration is None:
            self.store.registration = Registration(SEGMENT_LENGTH, ISOLATION, counted_below(found))
            if found.committed is None and found.progress is None:
                self.before_start = self.low
        start: Resume = resume(SOURCE, found, ISOLATION)
        partition = Partition(
            SOURCE,
            start,
            BatchCounter(AgeLimits(), RuleHistory(())),
            lambda first: attempt(first, found.repairs, found.progress, "logic"),
        )
        if start.load_stored:
            first = segment_of(start.start)
            partition.segment.load(
                {k: s for (segment, k), s in self.store.cells.items() if segment == first},
                {k: s for (segment, k), s in self.store.project_cells.items() if segment == first},
            )
        self.owners.append(Owner(partition, "logic"))

    def read(self) -> None:
        if self.owners:
            self._read(self.random.choice(self.owners), self.random.randint(1, 10))

    def _read(self, owner: Owner, most: int) -> None:
        if owner.partition.next_offset < self.low:
            self.owners.remove(owner)  # out of range: it has to open again
            return
        records = [r for r in self.log if r.at >= max(self.low, owner.partition.next_offset)][:most]
        owner.partition.count(records)

    def flush(self) -> None:
        if self.owners:
            self._store_all(self.random.choice(self.owners))

    def _store_all(self, owner: Owner) -> None:
        if owner.partition.quiet:
            return
        changes = owner.partition.take()
        for insert in writes_of(changes, owner.logic):
            for write in insert:
                self.store.apply(write)
        owner.partition.stored(changes)
        if owner is self.owners[-1]:  # the broker refuses the commit of a zombie
            self.committed = changes.next_offset

    def tear(self) -> None:
        """A flush of which any part of the first inserts arrives, and whose end is never heard of."""
        if not self.owners:
            return
        owner = self.random.choice(self.owners)
        if owner.partition.quiet:
            return
        changes = owner.partition.take()
        inserts = writes_of(changes, owner.logic)
        whole = self.random.randint(0, len(inserts) - 1)
        for insert in inserts[:whole]:
            for write in insert:
                self.store.apply(write)
        for write in inserts[whole]:
            if self.random.random() < 0.5:
                self.store.apply(write)
        if self.random.random() < 0.5:
            owner.partition.not_stored(changes)
        else:
            self.owners.remove(owner)

    def crash(self) -> None:
        if self.owners:
            self.owners.remove(self.random.choice(self.owners))

    def retain(self) -> None:
        self.low = self.random.randint(self.low, self.end)

    def set_commit_back(self) -> None:
        self.owners.clear()
        self.committed = self.random.randint(0, self.committed or 0)

    def set_commit_ahead(self) -> None:
        self.owners.clear()
        self.committed = self.random.randint(self.committed or 0, self.end)

    def back_up(self) -> None:
        self.backup = self.store.copy()

    def restore(self) -> None:
        """An operator restores an older copy of the store and restarts the consumers."""
        self.owners.clear()
        self.store = self.backup.copy()

    def _body(self) -> bytes:
        choice = self.random
        if choice.random() < 0.1:
            return choice.choice((b"", b"{", b"[]", b'{"timestamp": "x"}'))
        return json.dumps(
            {
                "timestamp": T0 + self.end // 1000 - choice.choice((0, 0, 30, 100 * 86_400)),
                "org_id": choice.randint(1, 2),
                "project_id": choice.randint(1, 2),
                "outcome": choice.randint(0, 2),
                "reason": choice.choice((None, "a", "b")),
                "quantity": choice.choice((None, 0, 1, 5)),
            }
        ).encode()


def expected(records: Iterator[Fake]) -> tuple[Counter[tuple[int, ...]], set[int]]:
    """One plain pass: (org, bucket, outcome, reason) → quantity, and the offsets of dead letters."""
    counts: Counter[Any] = Counter()
    dead = set()
    for record in records:
        try:
            event = json.loads(record.body)
            event["timestamp"] + 0
        except (ValueError, TypeError):
            dead.add(record.at)
            continue
        kafka_second = record.when_ms // 1000
        second = event["timestamp"] if event["timestamp"] >= kafka_second - 90 * 86_400 else kafka_second
        quantity = 1 if event["quantity"] is None else event["quantity"]
        counts[event["org_id"], second // 10 * 10, event["outcome"], event["reason"] or ""] += quantity
    return counts, dead


def stored_counts(store: ModelStore) -> Counter[Any]:
    """What a reader of the store sees, in the keys of `expected`."""
    counts: Counter[Any] = Counter()
    for (_, key), stored in store.cells.items():
        counts[key.org_id, key.bucket, key.outcome, key.reason] += stored.quantity
    return counts


def project_totals(store: ModelStore) -> Counter[Any]:
    """The project cells summed over projects, without reasons."""
    counts: Counter[Any] = Counter()
    for (_, key), stored in store.project_cells.items():
        counts[key.org_id, key.bucket, key.outcome] += stored.quantity
    return counts


__all__ = ["World", "expected", "generation_of", "next_offset_of", "project_totals", "stored_counts"]
