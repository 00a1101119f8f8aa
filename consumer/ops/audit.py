"""Checks closed segments against the log: every offset accounted for, and on request every cell counted again.

Failure semantics: it only reads. What does not answer is Unavailable. A difference is looked at twice, since a
replay may be writing; retention in Kafka or ClickHouse, and listed gaps, only widen what may be stored.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import structlog
from clickhouse_driver import Client

from orgstats.clickhouse.cluster import read
from orgstats.consumer import metrics
from orgstats.consumer.counting.chunk import HourKey
from orgstats.consumer.counting.fingerprint import fingerprint
from orgstats.consumer.counting.reference import Cell, Plain, PlainCounter, ProjectCell
from orgstats.consumer.counting.resume import counted_with
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import SEGMENT_LENGTH, Source, segment_end, segment_of
from orgstats.consumer.kafka.group import Place
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.ops import audit_rules as judgement
from orgstats.consumer.ops.audit_rules import Difference, Extent, Held
from orgstats.consumer.ops.site import Located, Site, locate, open_site
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.store.rules import load_history
from orgstats.errors import OrgstatsError, Refused, Unavailable
from orgstats.schemas import hours
from orgstats.schemas.retention import retained_days

SECOND_LOOK_SECONDS: Final = 2.0
_DAY: Final = 86_400

logger = structlog.get_logger("orgstats.audit")


@dataclass(slots=True)
class Checked:
    """One segment, and what was found. `log` is whole, head gone, or gone; `cells` says whether each was compared."""

    topic: str
    partition: int
    segment: int
    accounted: int
    log: str
    cells: bool = False
    note: str = ""
    differences: list[Difference] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "differences": [difference._asdict() for difference in self.differences]}


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits the sources of a site; made by `auditor`."""

    site: Site
    rules: RuleHistory
    logic: str
    retained_days: int

    def closed(self, one: Located) -> range:
        """First offsets of the segments that are counted to their end."""
        if one.progress is None:
            return range(0)
        return range(segment_of(one.first_offset), segment_of(one.progress.next_offset), SEGMENT_LENGTH)

    def check(self, one: Located, segment: int, *, recount: bool) -> Checked:
        """Audit one closed segment; raises Unavailable, or Refused when the log was cut back."""
        checked = self._look(one, segment, recount=recount)
        if checked.differences:
            time.sleep(SECOND_LOOK_SECONDS)
            checked = self._look(one, segment, recount=recount)
        return checked

    def _look(self, one: Located, segment: int, *, recount: bool) -> Checked:
        end = segment_end(segment)
        place = (one.source.topic, one.source.partition)
        low = self.site.topics.starts([place])[place]
        extent = Extent(max(segment, one.first_offset), end, low, self._gaps(one.source), self._expired_before())
        log = "whole" if extent.whole else "head gone" if extent.readable < end else "gone"
        checked = Checked(*place, segment, self.site.store.run(_accounted(one.source, segment)), log)
        if one.progress is not None and segment < one.progress.summed_from:
            checked.note = "stored before there were sums by hour: run orgstats migrate --sums"
        else:
            checked.differences += judgement.hours(extent, self.site.store.run(_differing_hours(one.source, segment)))
        if checked.accounted == end - extent.first and extent.whole and not extent.gaps and not recount:
            return checked  # every offset is a record and counted: the log has nothing to add
        counts = self._read(one, extent, recount=recount)
        checked.differences += judgement.conservation(extent, checked.accounted, counts[0].records, counts[1].records)
        if recount and log != "gone":
            self._compare(one, checked, extent, *counts)
        return checked

    def _compare(self, one: Located, checked: Checked, extent: Extent, surely: Plain, at_most: Plain) -> None:
        if self._logic_of(one, checked.segment) != self.logic:
            checked.note = "counted with another logic or other settings: cells are not compared"
            return
        held = self.site.store.run(_held(one.source, checked.segment, projects=self.site.settings.projects))
        if not extent.whole and len({cell.reason for cell in held.cells}) >= 1_000:
            checked.note = "the head is gone, and with it which reasons came first: cells are not compared"
            return
        checked.cells = True
        if not self.site.settings.projects:
            surely.project_cells.clear()
            at_most.project_cells.clear()
        checked.differences += judgement.cells(extent, held, surely, at_most)

    def _logic_of(self, one: Located, segment: int) -> str:
        repair = one.repairs.get(segment)
        if repair is not None or one.progress is None:
            return repair.logic if repair else ""
        return counted_with(segment, one.repairs, one.progress, self.logic)

    def _read(self, one: Located, extent: Extent, *, recount: bool) -> tuple[Plain, Plain]:
        """What the log gives: without the records in listed gaps, and with them."""
        surely, at_most = (PlainCounter(self.site.settings.limits, self.rules) for _ in range(2))
        if extent.readable == extent.end:
            return surely.counted, at_most.counted
        place = (one.source.topic, one.source.partition)
        with LogReader(self.site.settings.kafka_properties(), one.isolation) as reader:
            for run, _ in reader.read(place, extent.readable, extent.end):
                kept = [record for record in run if not extent.in_gap(record.offset() or 0)]
                if not recount:
                    surely.counted.records += len(kept)
                    at_most.counted.records += len(run)
                    continue
                surely.take(kept)
                if extent.gaps:
                    at_most.take(run)
        return surely.counted, (at_most if extent.gaps or not recount else surely).counted

    def _gaps(self, source: Source) -> tuple[judgement.Gap, ...]:
        sql = "SELECT from_offset, to_offset FROM gaps FINAL WHERE source_id = %(source)s"
        return tuple(self.site.store.run(lambda client: client.execute(sql, {"source": source.source_id})))

    def _expired_before(self) -> int:
        """A day more than ClickHouse keeps may be there or not: it deletes when it merges."""
        return (int(time.time()) // _DAY + 1 - self.retained_days + 1) * _DAY if self.retained_days else 0


def auditor(site: Site) -> Auditor:
    """An auditor with the rules, the logic and the retention that are in force now."""
    rules = site.store.run(load_history)
    logic = fingerprint(site.settings.limits, rules.edition, projects=site.settings.projects)
    return Auditor(site, rules, logic, site.store.run(retained_days).get("counts", 0))


def audit(site: Site, *, recount: bool, partitions: tuple[int, ...] | None = None) -> Iterator[Checked]:
    """Every closed segment, partition by partition, oldest first."""
    judge = auditor(site)
    for one in locate(site, partitions):
        for segment in judge.closed(one):
            yield judge.check(one, segment, recount=recount)


class ContinuousAudit(threading.Thread):
    """Recounts a closed segment now and then, beside the daemon, and says so in metrics and the log.

    Only segments that the log still holds, of the places that `assigned` names. It never ends the daemon.
    """

    def __init__(self, settings: ConsumerSettings, assigned: Callable[[], set[Place]]) -> None:
        super().__init__(name="audit", daemon=True)
        self._settings = settings
        self._assigned = assigned
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask it to end; it may still be reading for a while."""
        self._stopping.set()

    def run(self) -> None:
        """One segment every `audit_seconds`."""
        while not self._stopping.wait(self._settings.audit_seconds):
            try:
                self._sample()
            except (Unavailable, Refused) as error:
                logger.warning("no audit this time", error=str(error))
            except OrgstatsError as error:
                logger.error("audit failed", error=str(error))  # noqa: TRY400 - the text says it

    def _sample(self) -> None:
        site = open_site(self._settings)
        try:
            judge, assigned = auditor(site), self._assigned()
            candidates = [
                (one, segment)
                for one in locate(site)
                if (one.source.topic, one.source.partition) in assigned
                for segment in judge.closed(one)
                if segment_end(segment) > one.low
            ]
            if candidates:
                one, segment = random.choice(candidates)  # noqa: S311 - a sample
                _report(judge.check(one, segment, recount=True))
        finally:
            site.store.close()


def _report(checked: Checked) -> None:
    metrics.audited.inc()
    metrics.mismatched.inc(len(checked.differences))
    log = logger.bind(topic=checked.topic, partition=checked.partition, segment=checked.segment)
    for difference in checked.differences[:10]:
        log.error("stored counts differ from the log", **difference._asdict())
    if not checked.differences:
        log.info("audited", accounted=checked.accounted, cells=checked.cells)


def _accounted(source: Source, segment: int) -> Callable[[Client], int]:
    values = {"source": source.source_id, "segment": segment, "end": segment_end(segment)}

    def ask(client: Client) -> int:
        events = read(
            client,
            "SELECT sum(events) FROM counts FINAL WHERE source_id = %(source)s AND segment = %(segment)s",
            values,
        )[0][0]
        dead = read(
            client,
            "SELECT count() FROM dead_letters FINAL WHERE source_id = %(source)s AND offset >= %(segment)s"
            " AND offset < %(end)s AND NOT withdrawn",
            values,
        )[0][0]
        return int(events) + int(dead)

    return ask


def _differing_hours(
    source: Source, segment: int
) -> Callable[[Client], list[tuple[HourKey, tuple[int, ...], tuple[int, ...]]]]:
    """(hour, stored sums, sums of the stored cells) of the hours where these are not the same."""
    sql = hours.differing("source_id = %(source)s AND segment = %(segment)s")
    values = {"source": source.source_id, "segment": segment}

    def ask(client: Client) -> list[tuple[HourKey, tuple[int, ...], tuple[int, ...]]]:
        return [(HourKey(row[0], int(row[1].timestamp())), row[7:10], row[4:7]) for row in read(client, sql, values)]

    return ask


def _held(source: Source, segment: int, *, projects: bool) -> Callable[[Client], Held]:
    values = {"source": source.source_id, "segment": segment, "end": segment_end(segment)}

    def ask(client: Client) -> Held:
        cells = read(
            client,
            "SELECT org_id, toUnixTimestamp(bucket), category, toInt8(outcome), toString(reason), quantity, events"
            " FROM counts FINAL WHERE source_id = %(source)s AND segment = %(segment)s",
            values,
        )
        project_cells = read(
            client,
            "SELECT org_id, project_id, toUnixTimestamp(bucket), category, toInt8(outcome), quantity"
            " FROM project_counts FINAL WHERE source_id = %(source)s AND segment = %(segment)s",
            values,
        )
        dead = read(
            client,
            "SELECT offset, toString(reason) FROM dead_letters FINAL WHERE source_id = %(source)s"
            " AND offset >= %(segment)s AND offset < %(end)s AND NOT withdrawn",
            values,
        )
        return Held(
            {Cell(*row[:5]): (row[5], row[6]) for row in cells},
            {ProjectCell(*row[:5]): row[5] for row in project_cells} if projects else {},
            dict(dead),
        )

    return ask
