"""Checks what is stored: every offset accounted for, tables against each other, on request every cell counted again.

Failure semantics: it only reads. What does not answer is Unavailable. A difference is looked at twice, since a
replay may be writing; retention in Kafka or ClickHouse, and listed gaps, only widen what may be stored.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, cast

import structlog

from orgstats.consumer import metrics
from orgstats.consumer.counting.batch import Record
from orgstats.consumer.counting.cells import COUNTS, HOURLY, CountKey, StoredChunk
from orgstats.consumer.counting.chain import SameLog
from orgstats.consumer.counting.fingerprint import fingerprint_of
from orgstats.consumer.counting.grid import NO_CHUNKS, Chunks
from orgstats.consumer.counting.reference import ReferenceCounter, ReferenceCounts
from orgstats.consumer.counting.resume import LOG_CUT_BACK, counted_with
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.ops import audit_rules
from orgstats.consumer.ops.audit_rules import ChunkExtent, Difference
from orgstats.consumer.ops.connections import (
    Connections,
    SourceStatus,
    locate,
    log_to_compare,
    open_connections,
    with_chunks,
)
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.store.rules import load_history
from orgstats.errors import OrgstatsError, Refused, Unavailable
from orgstats.schemas.outcomes import DAY_SECONDS
from orgstats.schemas.retention import retained_days

SECOND_LOOK_SECONDS: Final = 2.0

logger = structlog.get_logger("orgstats.audit")


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
        checked = self._look(one, chunk, recount=recount)
        if checked.differences:
            time.sleep(SECOND_LOOK_SECONDS)
            checked = self._look(one, chunk, recount=recount)
        return checked

    def _look(self, one: SourceStatus, chunk: int, *, recount: bool) -> AuditResult:
        tp = (one.source.topic, one.source.partition)
        one = self._now(one)
        before = one.progress.next_offset if one.progress else 0
        chunk_end = one.grid.chunk_end(chunk)
        held = self.connections.store.chunk(one.source, chunk, chunk_end).without_moved(self.rules.erased)
        accounted = sum(cell.values[COUNTS.events] for cell in held.cells[COUNTS].values())
        accounted += sum(not letter.withdrawn for letter in held.dead.values())
        progress = self._now(one).progress  # a flush under way is ahead of it
        after = max(before, held.reached, progress.next_offset if progress else 0)
        # What was stored while this looked, or by a flush that was torn, may be seen or not: as with a listed gap.
        end, moving = min(chunk_end, after), before < min(chunk_end, after)
        gaps = (*self._gaps(one.source), *(((before, end),) if moving else ()))
        low = self.connections.topics.starts([tp])[tp]
        hourly = one.progress.hourly_offset if one.progress else 0
        extent = ChunkExtent(max(chunk, one.first_offset), end, low, gaps, self._expired_before(), hourly)
        log = "whole" if extent.whole else "head gone" if extent.readable < end else "gone"
        checked = AuditResult(*tp, chunk, accounted, log, open=end < chunk_end)
        if not moving:
            checked.differences += audit_rules.roll_ups(extent, held)
        if checked.accounted == end - extent.first and extent.whole and not extent.gaps and not recount:
            return checked  # every offset is a record and counted: the log has nothing to add
        same_log = self._same_log(one, extent, chunk) if recount else None
        counts = self._read(one, extent, same_log, self.rules.erased - held.holds(self.rules.erased), recount=recount)
        checked.differences += audit_rules.conservation(extent, checked.accounted, counts[0].records, counts[1].records)
        if recount and log != "gone":
            self._compare(one, checked, extent, held, *counts)
        if same_log is not None:
            _tell_other_log(checked, same_log, chunk_end)
        return checked

    def _now(self, one: SourceStatus) -> SourceStatus:
        """The source as its progress is now."""
        return replace(one, progress=self.connections.store.progress([one.source]).get(one.source.source_id))

    def _compare(
        self,
        one: SourceStatus,
        checked: AuditResult,
        extent: ChunkExtent,
        held: StoredChunk,
        surely: ReferenceCounts,
        at_most: ReferenceCounts,
    ) -> None:
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
        self, one: SourceStatus, extent: ChunkExtent, same_log: SameLog | None, erased: frozenset[int], *, recount: bool
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
        tp = (one.source.topic, one.source.partition)
        with LogReader(settings.kafka_properties(), one.isolation) as reader:
            for run, _ in reader.read(tp, extent.readable, extent.end):
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

    def _same_log(self, one: SourceStatus, extent: ChunkExtent, chunk: int) -> SameLog | None:
        one = with_chunks(self.connections, replace(one, low=extent.low), chunk, 1)
        return log_to_compare(self.connections, one, chunk, extent.end).get(chunk)

    def _gaps(self, source: Source) -> tuple[audit_rules.Gap, ...]:
        sql = "SELECT from_offset, to_offset FROM gaps FINAL WHERE source_id = %(source)s AND why != %(cut)s"
        return tuple(ask(self.connections.store, sql, {"source": source.source_id, "cut": LOG_CUT_BACK}))

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
    for one in locate(connections, partitions):
        for chunk in auditor.chunks(one):
            yield auditor.check(one, chunk, recount=recount)


class ContinuousAudit(threading.Thread):
    """Recounts a chunk, as far as it is stored, now and then, beside the daemon, and says so in metrics and the log.

    Only chunks that the log still holds, of the places that `assigned` names. It never ends the daemon.
    """

    def __init__(self, settings: ConsumerSettings, assigned: Callable[[], set[TopicPartition]]) -> None:
        super().__init__(name="audit", daemon=True)
        self._settings = settings
        self._assigned = assigned
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask it to end; it may still be reading for a while."""
        self._stopping.set()

    def run(self) -> None:
        """One chunk every `audit_seconds`."""
        while not self._stopping.wait(self._settings.audit_seconds):
            try:
                self._sample()
            except (Unavailable, Refused) as error:
                logger.warning("no audit this time", error=str(error))
            except OrgstatsError as error:
                logger.error("audit failed", error=str(error))  # noqa: TRY400 - the text says it

    def _sample(self) -> None:
        connections = open_connections(self._settings)
        try:
            auditor, assigned = auditor_of(connections), self._assigned()
            candidates = [
                (one, chunk)
                for one in locate(connections)
                if (one.source.topic, one.source.partition) in assigned
                for chunk in auditor.chunks(one)
                if one.grid.chunk_end(chunk) > one.low
            ]
            if candidates:
                one, chunk = random.choice(candidates)  # noqa: S311 - a sample
                _report(auditor.check(one, chunk, recount=True))
        finally:
            connections.store.close()


def _report(checked: AuditResult) -> None:
    metrics.audited.inc()
    metrics.mismatched.inc(len(checked.differences))
    log = logger.bind(topic=checked.topic, partition=checked.partition, chunk=checked.chunk)
    for difference in checked.differences[:10]:
        log.error("stored counts differ from the log", **difference._asdict())
    if not checked.differences:
        log.info("audited", accounted=checked.accounted, cells=checked.cells)


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
