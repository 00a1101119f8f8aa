"""Random histories of everything that may happen to a partition, played on the real counting code.

The log, the store and the group's commit are models of a few lines each; what counts, resumes and flushes is
the code of the daemon. Offsets are far apart, so that a few dozen records fill several chunks and the log
has offsets without a record everywhere.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cells import FAMILIES, Family, Key, Stored, StoredChunk, StoredDead
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.grid import CHUNK_LENGTH, Chunks, Grid
from orgstats.consumer.counting.partition import LogChanged, Partition, PartitionChanges
from orgstats.consumer.counting.resume import (
    FINGERPRINT_CHANGED,
    LOG_CUT_BACK,
    ChunkMark,
    Progress,
    Registration,
    Repair,
    Resume,
    SourceFacts,
    after_cut,
    attempt,
    counted_below,
    resume,
    same_log,
)
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source, next_offset_of, version_of
from orgstats.consumer.cutback import chunks_without_log, cut_back, find_cut, is_suspect, mark_before, with_cut
from orgstats.consumer.store.rows import withdrawn_version
from tests.support.record import FakeRecord

SOURCE = Source("events", "topic_id", 0)
ISOLATION = "read_committed"
T0 = 1_700_000_000
DAY = 86_400
GRID = Grid()
K = CHUNK_LENGTH // 128  # about a thousand offsets of a chunk as long as in production
FINGERPRINTS = {
    "fingerprint-1": AgeLimits(),
    "fingerprint-2": AgeLimits(max_age_seconds=20),
    "fingerprint-3": AgeLimits(200 * 86_400),
}
"""Fingerprints that put the same event into different buckets."""


@dataclass
class ModelStore:
    """ClickHouse as the guarantee sees it: of the rows of a key the one with the highest version is kept."""

    cells: dict[tuple[Family, int, Key], Stored] = field(default_factory=dict)
    """By family, chunk and key."""
    days: set[tuple[int, int]] = field(default_factory=set)
    """(chunk, day) of which there may be cells."""
    dead: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """(version, withdrawn) by offset."""
    progress: Progress | None = None
    registration: Registration | None = None
    repairs: dict[int, Repair] = field(default_factory=dict)
    gaps: set[tuple[int, int]] = field(default_factory=set)
    vanished: set[tuple[int, int]] = field(default_factory=set)
    chunks: dict[int, ChunkMark] = field(default_factory=dict)
    begun: tuple[int, int] = (0, 0)
    """(rewinds, next offset) of the last flush that was begun."""

    def copy(self) -> "ModelStore":
        return ModelStore(
            dict(self.cells),
            set(self.days),
            dict(self.dead),
            self.progress,
            self.registration,
            dict(self.repairs),
            set(self.gaps),
            set(self.vanished),
            dict(self.chunks),
            self.begun,
        )

    def begin(self, changes: PartitionChanges) -> None:
        """The first insert of a flush: how far it goes."""
        if changes.chunks or changes.notes.dead_letters or changes.notes.withdrawn:
            self.begun = max(self.begun, (changes.cut.rewinds, changes.next_offset))

    def apply(self, write: tuple[Any, ...]) -> None:
        match write:
            case "cell", family, chunk, key, stored:
                before = self.cells.get((family, chunk, key), stored)
                self.cells[family, chunk, key] = max(before, stored, key=lambda one: one.version)
            case "day", chunk, day:
                self.days.add((chunk, day))
            case "dead", offset, *dead:
                self.dead[offset] = max(tuple(dead), self.dead.get(offset, (0, False)))
            case "gap", gap:
                self.gaps.add(gap)
            case "repair", chunk, revision, fingerprint, why, rewinds:
                before = self.repairs.get(chunk, Repair(0, ""))
                if revision >= before.revision:  # as `Store.repairs` asks: of both, the latest
                    new_fingerprint = fingerprint if why == FINGERPRINT_CHANGED else before.new_fingerprint
                    self.repairs[chunk] = Repair(revision, fingerprint, new_fingerprint, max(rewinds, before.rewinds))
            case "chunk", first, chunk:
                self.chunks[first] = max(chunk, self.chunks.get(first, chunk), key=lambda known: known.rewinds)
            case "progress", progress:
                self.progress = max(progress, self.progress or progress, key=_version)

    def take_back(self, chunks: Chunks) -> None:
        """As `Store.take_back`: zeros for chunks that the log does not reach."""
        assert self.progress is not None
        for chunk in chunks:
            before = self.repairs.get(chunk, Repair(0, ""))
            if before.rewinds < self.progress.rewinds:
                again = (
                    "repair",
                    chunk,
                    before.revision + 2,
                    self.progress.fingerprint,
                    LOG_CUT_BACK,
                    self.progress.rewinds,
                )
                self.apply(again)
            revision = self.repairs[chunk].revision - 1
            for family, cells in self.chunk(chunk).cells.items():
                zero = Stored((0,) * len(family.values), version_of(revision, chunk))
                for key in cells:
                    self.apply(("cell", family, chunk, key, zero))
            for offset in [at for at, (_, gone) in self.dead.items() if GRID.chunk_of(at) == chunk and not gone]:
                self.apply(("dead", offset, version_of(revision, offset), True))

    def chunk(self, first: int) -> StoredChunk:
        """As `Store.chunk`: only cells of days that are known are found."""
        days = [day for chunk, day in self.days if chunk == first]
        cells: dict[Family, dict[Key, Stored]] = {family: {} for family in FAMILIES}
        for (family, chunk, key), stored in self.cells.items():
            if chunk == first and days and min(days) <= key.bucket < max(days) + DAY:
                cells[family][key] = stored
        dead = {at: StoredDead("", "", gone, version) for at, (version, gone) in self.dead.items()}
        return StoredChunk(cells, {at: letter for at, letter in dead.items() if GRID.chunk_of(at) == first})


def _version(progress: Progress) -> int:
    return version_of(progress.rewinds, progress.next_offset)


def writes_of(changes: PartitionChanges, fingerprint: str) -> list[list[tuple[Any, ...]]]:
    """A checkpoint's rows in the order of `Store.write`: one list for each insert."""
    return [
        [("gap", changes.notes.gap[:2])] if changes.notes.gap else [],
        [
            ("repair", chunk, revision, fingerprint, why, changes.cut.rewinds)
            for chunk, revision, why in changes.notes.begun
        ],
        [("day", part.chunk.first_offset, day) for part in changes.chunks for day in part.days],
        [
            ("dead", d.record.offset(), version_of(d.revision, d.record.offset()), False)
            for d in changes.notes.dead_letters
        ]
        + [("dead", at[0], withdrawn_version(*at), True) for at in changes.notes.withdrawn],
        *(
            [
                ("cell", family, part.chunk.first_offset, key, Stored(values, part.version))
                for part in changes.chunks
                for key, values in part.rows[family]
            ]
            for family in FAMILIES
        ),
        [("chunk", one.first_offset, ChunkMark(one.mark, changes.cut.rewinds)) for one in changes.notes.closed],
        [("progress", _progress(changes, fingerprint))],
    ]


def _progress(changes: PartitionChanges, fingerprint: str) -> Progress:
    return Progress(
        changes.next_offset,
        changes.fingerprint_before or fingerprint,
        changes.cut.rewinds,
        mark=changes.mark,
        cut_at=changes.cut.at,
        cut_to=changes.cut.to,
        hourly_offset=changes.hourly_offset,
    )


@dataclass
class Owner:
    """A process that counts the partition, or believes that it does."""

    partition: Partition
    fingerprint: str
    rewinds: int = 0
    changes_a_headless_chunk: bool = False


class World:
    """One history: a growing log, a store, a commit, and owners that come, go, and outstay their welcome."""

    def __init__(self, seed: int) -> None:
        self.random, self.seldom, self.keys = random.Random(seed), random.Random(seed + 1), random.Random(seed + 2)
        self.log: list[FakeRecord] = []
        self.low = 0
        self.end = 0
        self.committed: int | None = None
        self.store = ModelStore()
        self.backup = ModelStore()
        self.owners: list[Owner] = []
        self.behind: set[int] = set()
        self.before_start = 0
        self.fingerprint = "fingerprint-1"
        self.fingerprints_change = seed % 2 == 0
        self.accept_skip = seed % 3 == 0
        self.allow_compaction = False
        self.is_cut_back = seed % 3 == 1
        self.epoch: int | None = None if seed % 2 else 0
        """Of the leader; None on a broker without epochs."""
        self.cut_at: int | None = None
        """The lowest offset of cuts that may not be made good yet."""
        self.cuts = 0
        self.fingerprint_changed = False
        self.undecidable = False
        """Cells of two fingerprints are mixed and the log is gone that tells them apart: a flush was torn and its
        log deleted before the fingerprint changed, or retention (or an operator who set the commit ahead) came between
        the beginning and the end of a change, or before it, and the change's own first flush was torn."""
        self.grow(self.random.randint(5, 30))

    def play(self, steps: int) -> None:
        """Take random steps, then let one last owner finish in peace."""
        kinds = (
            [self.open] * 4 + [self.read] * 12 + [self.flush] * 8 + [self.tear] * 4 + [self.crash] * 2
            + [self.grow] * 3 + [self.retain, self.set_commit_back, self.set_commit_ahead, self.back_up, self.restore]
        )  # fmt: skip
        if self.fingerprints_change:
            kinds.append(self.change_fingerprint)
        if self.is_cut_back:
            kinds += [self.cut_back] * 2
            if self.random.random() < 0.7:  # or too many of these histories would be undecidable
                kinds.remove(self.retain)
        for _ in range(steps):
            self.random.choice(kinds)()
        self.owners.clear()
        self.finish()

    def count_all_again(self) -> None:
        """The commit is set back to the first record, and everything is counted anew by the last fingerprint."""
        self.owners.clear()
        self.committed = 0
        self.finish()

    def finish(self) -> None:
        self.open()
        owner = self._read_all()
        looks = 0
        while owner is not self.owners[-1]:  # it looked anew, as the log turned out to have changed
            owner, looks = self._read_all(), looks + 1
            assert looks < 5
        self._store_all(owner)

    def _read_all(self) -> Owner:
        owner = self.owners[-1]
        self._read(owner, len(self.log))
        if owner is self.owners[-1]:
            self._advance(owner)
        return owner

    # What may happen

    def grow(self, records: int | None = None) -> None:
        for _ in range(records or self.random.randint(1, 8)):
            self.end += self.random.choice((1, 1, 1, 7, 20 * K, 60 * K))
            self.log.append(FakeRecord(self.end, self._body(), (T0 + self.end // K) * 1000, self.epoch))
            self.end += 1

    def cut_back(self) -> None:
        """The log loses its tail, and perhaps others come to its offsets before anybody looks.

        With epochs the broker tells those who read on; without, consumers are restarted with their broker.
        """
        counted = self.store.progress.next_offset if self.store.progress else 0
        most = self.random.choice((self.end, max(min(counted, self.end), self.low)))
        self.end = self.random.randint(max(self.low, most - self.random.choice((10, 50 * K, 300 * K))), most)
        self.log = [record for record in self.log if record.at < self.end]
        self.cut_at = min(self.end, self.end if self.cut_at is None else self.cut_at)
        self.cuts += 1
        self.undecidable |= self._cells_beyond_the_progress() and self._nobody_can_count_that_again()
        self.undecidable |= self._cut_behind_a_lost_head()
        if self.epoch is not None:
            self.epoch += 1
        self.owners = [owner for owner in self.owners if self.epoch is not None and self.random.random() < 0.5]
        self.behind |= {id(owner) for owner in self.owners}
        if self.random.random() < 0.7:
            self.grow()

    def open(self, *, suspect: bool = False) -> None:
        found = self._found()
        progress = found.progress
        if progress is not None and (suspect or is_suspect(found, chains=not self.allow_compaction)):
            changed = find_cut(found, self._records, same_log(found))
            if changed is not None:
                mark = mark_before(changed.at, found, self._records)
                after = cut_back(progress, found, mark, changed.at)
                self.store.vanished.add(after.vanished)
                self.store.apply(("progress", after.progress))
                found = self._found()
        self._open(with_cut(found))

    def _records(self, first: int, end: int) -> list[list[FakeRecord]]:
        return [[record] for record in self.log if first <= record.at < end]

    def _found(self) -> SourceFacts:
        rewinds, begun = self.store.begun
        progress = self.store.progress
        return SourceFacts(
            self.low,
            self.end,
            self.committed,
            self.store.progress,
            self.store.registration,
            dict(self.store.repairs),
            self._highest_chunk(),
            dict(self.store.chunks),
            begun if rewinds >= (progress.rewinds if progress else 0) else 0,
        )

    def _open(self, found: SourceFacts) -> None:
        if found.registration is None:
            self.store.registration = Registration(GRID, ISOLATION, counted_below(found))
            if found.committed is None and found.progress is None:
                self.before_start = self.low
        start: Resume = resume(
            SOURCE, found, ISOLATION, accept_skip=self.accept_skip, allow_compaction=self.allow_compaction
        )
        if gone := chunks_without_log(found):
            self.store.take_back(gone)
            found = replace(found, repairs=dict(self.store.repairs))
        fingerprint = self.fingerprint
        partition = Partition(
            SOURCE,
            start,
            BatchCounter(FINGERPRINTS[fingerprint], RuleHistory(())),
            lambda first: attempt(first, found, fingerprint, is_first=first == GRID.chunk_of(start.start)),
        )
        headless_change = start.load_stored and (found.progress is None or found.progress.fingerprint != fingerprint)
        if start.load_stored:
            first = GRID.chunk_of(start.start)
            partition.load(self.store.chunk(first), after_cut(first, found))
            changed = (
                GRID.chunk_of(start.start) in found.repairs
                and found.repairs[GRID.chunk_of(start.start)].fingerprint != fingerprint
            )
            other_fingerprint = found.progress is None or found.progress.fingerprint != fingerprint
            torn = partition.chunk.skip_until > start.start
            self.undecidable |= self.fingerprint_changed and (changed or (other_fingerprint and torn))
        for first in start.add_up:
            partition.add_up(first, self.store.chunk(first))
        self.owners.append(Owner(partition, fingerprint, start.cut.rewinds, headless_change))

    def _highest_chunk(self) -> int:
        progress = self.store.progress
        if progress is not None and progress.fingerprint == self.fingerprint:
            return -1
        return max((chunk for chunk, _ in self.store.days), default=-1)

    def read(self) -> None:
        if self.owners:
            self._read(self.random.choice(self.owners), self.random.randint(1, 10))

    def _read(self, owner: Owner, most: int) -> None:
        if owner.partition.next_offset < self.low:
            self.owners.remove(owner)  # out of range: it has to open again
            return
        if id(owner) in self.behind:
            self._open_anew(owner)  # the broker says that the epoch ended before this position
            return
        records = [r for r in self.log if r.at >= max(self.low, owner.partition.next_offset)][:most]
        try:
            owner.partition.learn(GRID, self.end)
            owner.partition.count(records)
        except LogChanged:
            self._open_anew(owner)

    def _advance(self, owner: Owner) -> None:
        try:
            owner.partition.learn(GRID, self.end)
            owner.partition.advance(self.end)
        except LogChanged:
            self._open_anew(owner)

    def _open_anew(self, owner: Owner) -> None:
        self.owners.remove(owner)
        self.open(suspect=True)

    def flush(self) -> None:
        if self.owners:
            self._store_all(self.random.choice(self.owners), seldom=self.seldom.random() < 0.2)

    def _store_all(self, owner: Owner, *, seldom: bool = True) -> None:
        if owner.partition.catching_up or self._was_set_back(owner):
            return
        self._reconcile(owner.partition)
        changes = owner.partition.take(seldom=seldom)
        self.store.begin(changes)
        for insert in writes_of(changes, owner.fingerprint):
            for write in insert:
                self.store.apply(write)
        owner.partition.stored(changes)
        progress = self.store.progress
        if progress and progress.rewinds and progress.next_offset >= min(progress.cut_to, self.end):
            self.cut_at = None
        if owner is self.owners[-1]:  # the broker refuses the commit of a zombie
            self.committed = changes.next_offset

    def _was_set_back(self, owner: Owner) -> bool:
        """As `Checkpoints` asks before it stores anything."""
        progress = self.store.progress
        set_back = progress is not None and progress.rewinds > owner.rewinds
        if set_back:
            self.owners.remove(owner)
        return set_back

    def _reconcile(self, partition: Partition) -> None:
        for chunk in partition.to_reconcile():
            partition.reconcile(chunk, self.store.chunk(chunk.first_offset))

    def tear(self) -> None:
        """A flush of which any part of the first inserts arrives, and whose end is never heard of."""
        if not self.owners:
            return
        owner = self.random.choice(self.owners)
        if owner.partition.catching_up or self._was_set_back(owner):
            return
        self._reconcile(owner.partition)
        self.undecidable |= self.fingerprint_changed and owner.changes_a_headless_chunk
        changes = owner.partition.take(seldom=self.seldom.random() < 0.2)
        inserts = writes_of(changes, owner.fingerprint)
        self.store.begin(changes)
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
        before, self.low = self.low, self.random.randint(self.low, self.end)
        cut = any(GRID.chunk_of(before) <= chunk < self.low for chunk in self.store.repairs)
        self.undecidable |= cut or self._a_change_is_unfinished() or self._cut_behind_a_lost_head()

    def compact(self) -> None:
        """What a compacted topic may do: any records but the last vanish, their offsets stay."""
        self.log = [record for record in self.log[:-1] if self.random.random() < 0.5] + self.log[-1:]

    def set_commit_back(self) -> None:
        self.owners.clear()
        self.committed = self.random.randint(0, self.committed or 0)

    def set_commit_ahead(self) -> None:
        self.owners.clear()
        self.undecidable |= self._a_change_is_unfinished()
        self.committed = self.random.randint(min(self.committed or 0, self.end), self.end)

    def change_fingerprint(self) -> None:
        """All consumers are stopped and started again with other settings, half of the times forth and back."""
        self.owners.clear()
        self.fingerprint = self.random.choice(list(FINGERPRINTS))
        self.fingerprint_changed = self.fingerprint_changed or self.fingerprint != "fingerprint-1"

    def _cells_beyond_the_progress(self) -> bool:
        """A torn flush stored counts that no progress tells of."""
        counted = self.store.progress.next_offset if self.store.progress else 0
        versions = [stored.version for stored in self.store.cells.values()]
        return max(map(next_offset_of, versions), default=0) > counted or max(self.store.dead, default=-1) >= counted

    def _nobody_can_count_that_again(self) -> bool:
        """Retention took the head of the chunk in which the progress is, or there is no progress to mark a cut in."""
        progress = self.store.progress
        return progress is None or max(self.low, self.before_start) > GRID.chunk_of(progress.next_offset)

    def _cut_behind_a_lost_head(self) -> bool:
        """What was counted of the vanished records cannot be told from what was counted of deleted ones."""
        return self.cut_at is not None and max(self.low, self.before_start) > GRID.chunk_of(self.cut_at)

    def _a_change_is_unfinished(self) -> bool:
        progress = self.store.progress
        if progress is None:
            return self.fingerprint_changed
        fingerprints = {self.fingerprint, *(repair.fingerprint for repair in self.store.repairs.values())}
        return fingerprints != {progress.fingerprint}

    def back_up(self) -> None:
        self.backup = self.store.copy()

    def restore(self) -> None:
        """An operator restores an older copy of the store and restarts the consumers."""
        self.owners.clear()
        self.store = self.backup.copy()
        self.undecidable |= self.cut_at is not None and self._cells_beyond_the_progress()

    def _body(self) -> bytes:
        choice = self.random
        if choice.random() < 0.1:
            return choice.choice((b"", b"{", b"[]", b'{"timestamp": "x"}'))
        return json.dumps(
            {
                "timestamp": T0 + self.end // K - choice.choice((0, 0, 30, 100 * 86_400)),
                "org_id": choice.randint(1, 2),
                "project_id": choice.randint(1, 2),
                "key_id": self.keys.choice((None, 0, 3)),
                "category": choice.choice((None, 0, 2)),
                "outcome": choice.choice((0, 0, 1, 2, 5, 9)),
                "reason": choice.choice((None, "a", "b")),
                "quantity": choice.choice((None, 0, 1, 5)),
            }
        ).encode()


Values = Counter[tuple[Any, ...]]
"""By table, key and name of the value."""


def expected(records: Iterable[FakeRecord], fingerprint: str) -> tuple[Values, set[int]]:
    """One plain pass: the value of each cell of the three tables, and the offsets of dead letters."""
    oldest = FINGERPRINTS[fingerprint].max_age_seconds
    values: Values = Counter()
    dead = set()
    for record in records:
        try:
            event = json.loads(record.body or b"")
            event["timestamp"] + 0
        except (ValueError, TypeError):
            dead.add(record.at)
            continue
        kafka_second = record.when_ms // 1000
        second = event["timestamp"] if event["timestamp"] >= kafka_second - oldest else kafka_second
        quantity = 1 if event["quantity"] is None else event["quantity"]
        category = 1 if event["category"] is None else event["category"]
        org, outcome = event["org_id"], event["outcome"]
        project, rest = event["project_id"], (category, outcome, event["reason"] or "")
        for table, width, which in (("counts", 10, (project, event["key_id"] or 0)), ("hourly", 3600, (project,))):
            values[table, org, second // width * width, *which, *rest, "quantity"] += quantity
            values[table, org, second // width * width, *which, *rest, "events"] += 1
            if category < 2 and outcome < 3:
                name = ("accepted", "filtered", "rate_limited")[outcome]
                values["totals", org, second // width * width, width, name] += quantity
    return values, dead


def stored_values(store: ModelStore) -> Values:
    """What a reader of the store sees, in the keys of `expected`."""
    values: Values = Counter()
    for (family, _, key), stored in store.cells.items():
        rest = [value for name, value in key._asdict().items() if name not in ("org_id", "bucket")]
        for name, value in zip(family.values, stored.values, strict=True):
            values[family.table, key.org_id, key.bucket, *rest, name] += value
    return values


def without_buckets(values: Values) -> Values:
    """Sums over time, which no change of the fingerprints here moves."""
    sums: Values = Counter()
    for (table, org, _, *rest), value in values.items():
        sums[table, org, *rest] += value
    return sums
