"""Checks what is stored: every offset accounted for, tables against each other, on request every cell counted again.

Without a recount ClickHouse itself adds up many chunks at once, and only those that are in doubt then are fetched.

Failure semantics: it only reads. What does not answer is Unavailable. A difference is looked at twice, since a
replay may be writing; retention in Kafka or ClickHouse, and listed gaps, only widen what may be stored.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, cast

from orgstats.consumer.counting.batch import Record
from orgstats.consumer.counting.cells import COUNTS, HOURLY, CountKey, StoredChunk
from orgstats.consumer.counting.chain import SameLog
from orgstats.consumer.counting.fingerprint import fingerprint_of
from orgstats.consumer.counting.grid import NO_CHUNKS, Chunks
from orgstats.consumer.counting.reference import ReferenceCounter, ReferenceCounts
from orgstats.consumer.counting.resume import LOG_CUT_BACK, counted_with
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.kafka.reader import LogReader, LogReaders
from orgstats.consumer.ops import audit_rules
from orgstats.consumer.ops.audit_look import Look, windows
from orgstats.consumer.ops.audit_rules import ChunkExtent, Difference
from orgstats.consumer.ops.connections import (
    Connections,
    SourceStatus,
    ends_of,
    locate,
    log_to_compare,
    with_chunks,
)
from orgstats.consumer.ops.screening import ChunkId, screen
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.store.rules import load_history
from orgstats.schemas.outcomes import DAY_SECONDS
from orgstats.schemas.retention import retained_days

SECOND_LOOK_SECONDS: Final = 2.0
SCREENED: Final = 1 << 20
"""Offsets of the chunks that ClickHouse adds up together: it holds their cells meanwhile."""
LOOKED_AT: Final = 1 << 18
"""Offsets of the chunks whose cells are fetched together, into this process."""


@dataclass(slots=True)
class AuditResult:
    """One chunk, and what was found. `log` is whole, head gone, or gone; `cells` says whether each was compared.

    An `open` one was looked at as far as it was stored.
    """

    topic: str
    partition: int
    chunk: int
    accounted: int
    log: str
    cells: bool = False
    note: str = ""
    remedy: str = ""
    open: bool = False
    differences: list[Difference] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "differences": [difference._asdict() for difference in self.differences]}


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits the sources of a topic; made by `auditor_of`."""

    connections: Connections
    rules: RuleHistory
    fingerprint: str
    alike: frozenset[str]  # fingerprints that count a closed chunk as this one does
    retained_days: int

    def chunks(self, one: SourceStatus) -> Chunks:
        """First offsets of the chunks of which anything is counted; the last one may be open."""
        if one.progress is None or one.progress.next_offset <= one.first_offset:
            return NO_CHUNKS
        return Chunks(one.grid, one.grid.chunk_of(one.first_offset), one.progress.next_offset)

    def check(self, one: SourceStatus, chunk: int, *, recount: bool) -> AuditResult:
        """Audit one chunk as far as it is stored; raises Unavailable, or Refused when the log was cut back."""
        with LogReaders(self.connections.settings.kafka_properties()) as readers:
            return next(self.check_all([(one, chunk)], readers, recount=recount))

    def check_all(
        self, wanted: Iterable[tuple[SourceStatus, int]], readers: LogReaders, *, recount: bool
    ) -> Iterator[AuditResult]:
        """Audit chunks in this order, several with one look, and those that differ with another one after a while."""
        for (one, first), *more in windows(wanted, LOOKED_AT, mixed=False):
            chunks = [first, *(chunk for _, chunk in more)]
            look = self._look(one, Chunks(one.grid, first, one.grid.chunk_end(chunks[-1])), recount=recount)
            for chunk in chunks:
                checked = self._judge(look, chunk, readers, recount=recount)
                if checked.differences:
                    time.sleep(SECOND_LOOK_SECONDS)
                    again = self._look(one, Chunks(one.grid, chunk, one.grid.chunk_end(chunk)), recount=recount)
                    checked = self._judge(again, chunk, readers, recount=recount)
                yield checked

    def in_order(self, wanted: Sequence[tuple[SourceStatus, int]]) -> dict[ChunkId, AuditResult]:
        """Those of these chunks of which sums in ClickHouse show that no check but a recount finds a difference."""
        sources = {one.source: one for one, _ in wanted}
        chunks = {
            source: [(c, one.grid.chunk_end(c)) for o, c in wanted if o is one] for source, one in sources.items()
        }
        before = self._now(sources.values())
        screened = screen(self.connections.store, chunks, self.rules.erased)
        looks = {look.one.source: look for look in self._looks(before)}
        found: dict[ChunkId, AuditResult] = {}
        for source, its in chunks.items():
            look = looks[source]
            for chunk, chunk_end in its:
                this = screened[source.source_id, chunk]
                end, moving = look.end(chunk, this.reached)
                extent = look.extent(chunk, min(end, this.reached) if moving else end, self._expired_before())
                if audit_rules.in_order(extent, this, moving=moving):
                    of = source.topic, source.partition, chunk
                    found[source.source_id, chunk] = AuditResult(
                        *of, this.accounted(extent.end), extent.log, open=end < chunk_end
                    )
        return found

    def _look(self, one: SourceStatus, chunks: Chunks, *, recount: bool) -> Look:
        (before,) = self._now([one])
        held = self.connections.store.stored_chunks(one.source, chunks)
        (look,) = self._looks([before], held)
        if recount:
            marked = with_chunks(self.connections, look.one, chunks.start, sum(1 for _ in chunks))
            return replace(look, one=marked)
        return look

    def _looks(self, before: Sequence[SourceStatus], held: Mapping[int, StoredChunk] | None = None) -> Iterator[Look]:
        """What is asked after the chunks were read: a flush under way is ahead of the progress from before."""
        after = self._now(before)
        lows = self.connections.topics.starts([(one.source.topic, one.source.partition) for one in before])
        ends = ends_of(self.connections, before)
        gaps = self._gaps(before)
        for one, then in zip(before, after, strict=True):
            tp = one.source.topic, one.source.partition
            reached = then.progress.next_offset if then.progress else 0
            now = replace(one, low=lows[tp], end=ends[tp])
            yield Look(now, held or {}, reached, gaps.get(one.source.source_id, ()))

    def _judge(self, look: Look, chunk: int, readers: LogReaders, *, recount: bool) -> AuditResult:
        one, held = look.one, look.held.get(chunk, StoredChunk()).without_moved(self.rules.erased)
        accounted = sum(cell.values[COUNTS.events] for cell in held.cells[COUNTS].values())
        accounted += sum(not letter.withdrawn for letter in held.dead.values())
        end, moving = look.end(chunk, held.reached)
        before = one.progress.next_offset if one.progress else 0
        extent = look.extent(chunk, end, self._expired_before(), ((before, end),) if moving else ())
        is_open = end < one.grid.chunk_end(chunk)
        checked = AuditResult(one.source.topic, one.source.partition, chunk, accounted, extent.log, open=is_open)
        if not moving:
            checked.differences += audit_rules.roll_ups(extent, held)
        if checked.accounted == end - extent.first and extent.whole and not extent.gaps and not recount:
            return checked  # every offset is a record and counted: the log has nothing to add
        same_log = None
        if recount and not extent.is_left(one.grid.chunk_end(chunk)):
            same_log = log_to_compare(self.connections, one, chunk, end).get(chunk)
        erased = self.rules.erased - held.holds(self.rules.erased)
        counts = self._read(readers.of(one.isolation), look, extent, same_log, erased, recount=recount)
        checked.differences += audit_rules.conservation(extent, checked.accounted, counts[0].records, counts[1].records)
        if recount and extent.log != "gone":
            self._compare(one, checked, extent, held, *counts)
        if same_log is not None:
            _tell_other_log(checked, same_log, one.grid.chunk_end(chunk))
        return checked

    def _now(self, located: Iterable[SourceStatus]) -> list[SourceStatus]:
        """The sources as their progress is now."""
        located = list(located)
        progress = self.connections.store.progress([one.source for one in located])
        return [replace(one, progress=progress.get(one.source.source_id)) for one in located]

    def _compare(
        self,
        one: SourceStatus,
        checked: AuditResult,
        extent: ChunkExtent,
        held: StoredChunk,
        surely: ReferenceCounts,
        at_most: ReferenceCounts,
    ) -> None:
        repair = one.repairs.get(checked.chunk)
        if repair is not None and repair.mixed:
            checked.note = "the fingerprint changed when its head was gone: cells are not compared"
            return
        changing = checked.open and one.progress is not None and one.progress.fingerprint != self.fingerprint
        if changing or self._fingerprint_of(one, checked.chunk) not in self.alike:
            checked.note = "counted with another fingerprint or other settings: cells are not compared"
            return
        if not extent.whole and len({key.reason for key in held.cells[COUNTS] if isinstance(key, CountKey)}) >= 1_000:
            checked.note = "the head is gone, and with it which reasons came first: cells are not compared"
            return
        checked.cells = True
        checked.differences += audit_rules.cells(extent, held, surely, at_most)

    def _fingerprint_of(self, one: SourceStatus, chunk: int) -> str:
        repair = one.repairs.get(chunk)
        if repair is not None or one.progress is None:
            return repair.fingerprint if repair else ""
        sql = "SELECT fingerprint FROM chunks FINAL WHERE source_id = %(source)s AND chunk = %(chunk)s"
        for (fingerprint,) in ask(self.connections.store, sql, {"source": one.source.source_id, "chunk": chunk}):
            return str(fingerprint)
        return counted_with(chunk, one.repairs, one.progress, self.fingerprint)

    def _read(
        self,
        reader: LogReader,
        look: Look,
        extent: ChunkExtent,
        same_log: SameLog | None,
        erased: frozenset[int],
        *,
        recount: bool,
    ) -> tuple[ReferenceCounts, ReferenceCounts]:
        """What the log gives: without the records in listed gaps, and with them.

        Without those, neither, that need not be in what is written seldom yet, as far as that goes. What the chunk
        still holds of an organization, as its erasure has not come there yet, is not among the `erased`.
        """
        settings = self.connections.settings
        surely, seldom, at_most = (
            ReferenceCounter(settings.limits, self.rules, projects=settings.projects, erased=erased) for _ in range(3)
        )
        two = bool(extent.gaps or extent.behind)
        if extent.readable == extent.end:
            return surely.counted, at_most.counted
        for run, _ in reader.read((look.one.source.topic, look.one.source.partition), extent.readable, extent.end):
            kept = [record for record in run if not extent.in_gap(record.offset() or 0)]
            if not recount:
                surely.counted.records += len(kept)
                at_most.counted.records += len(run)
                continue
            if same_log is not None:
                same_log.take(cast("Sequence[Record]", run))
            surely.take(kept)
            if extent.behind:
                seldom.take(record for record in kept if (record.offset() or 0) < extent.hourly_end)
            if two:
                at_most.take(run)
        if extent.behind:
            surely.counted.cells[HOURLY.table] = seldom.counted.cells[HOURLY.table]
        return surely.counted, (at_most if two or not recount else surely).counted

    def _gaps(self, located: Iterable[SourceStatus]) -> dict[int, tuple[audit_rules.Gap, ...]]:
        sql = "SELECT source_id, from_offset, to_offset FROM gaps FINAL WHERE source_id IN %(ids)s AND why != %(cut)s"
        values = {"ids": [one.source.source_id for one in located], "cut": LOG_CUT_BACK}
        found: dict[int, tuple[audit_rules.Gap, ...]] = {}
        for source_id, first, end in ask(self.connections.store, sql, values):
            found[source_id] = (*found.get(source_id, ()), (first, end))
        return found

    def _expired_before(self) -> int:
        """A day more than ClickHouse keeps may be there or not: it deletes when it merges."""
        return (int(time.time()) // DAY_SECONDS + 1 - self.retained_days + 1) * DAY_SECONDS if self.retained_days else 0


def auditor_of(connections: Connections) -> Auditor:
    """An auditor with the rules, the fingerprint and the retention that are in force now."""
    rules = connections.store.run(load_history)
    settings = connections.settings
    fingerprint, *_ = alike = [
        fingerprint_of(settings.limits, edition, projects=settings.projects) for edition in reversed(rules.alike)
    ]
    retained = connections.store.run(retained_days).get("counts", 0)
    return Auditor(connections, rules, fingerprint, frozenset(alike), retained)


def audit(
    connections: Connections, *, recount: bool, partitions: tuple[int, ...] | None = None
) -> Iterator[AuditResult]:
    """Every chunk as far as it is stored, partition by partition, oldest first."""
    auditor = auditor_of(connections)
    every = ((one, chunk) for one in locate(connections, partitions) for chunk in auditor.chunks(one))
    with LogReaders(connections.settings.kafka_properties()) as readers:
        if recount:
            yield from auditor.check_all(every, readers, recount=True)
            return
        for window in windows(every, SCREENED):
            in_order = auditor.in_order(window)
            doubtful = [(one, chunk) for one, chunk in window if (one.source.source_id, chunk) not in in_order]
            checked = auditor.check_all(doubtful, readers, recount=False)
            for one, chunk in window:
                yield in_order.get((one.source.source_id, chunk)) or next(checked)


def _tell_other_log(checked: AuditResult, same_log: SameLog, chunk_end: int) -> None:
    differing = list(audit_rules.other_log(same_log, chunk_end))
    if differing:
        checked.differences += differing
        checked.remedy = (
            "the log has other records than those that were counted. Restart the consumers: where it was cut back "
            "they take back what vanished. What is told of a closed chunk all the same is counted again by: orgstats "
            f"replay apply --repair --topic {checked.topic} --partitions {checked.partition} "
            f"--from-offset {checked.chunk} --to-offset {chunk_end}"
        )
