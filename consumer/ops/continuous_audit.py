"""The audit beside the daemon: a chunk now and then, told in metrics and the log."""

import random
import threading
from collections.abc import Callable

import structlog

from orgstats.consumer import metrics
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.ops.audit import AuditResult, auditor_of
from orgstats.consumer.ops.connections import locate, open_connections
from orgstats.consumer.ops.kept_audits import keep_result
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import OrgstatsError, Refused, Unavailable

logger = structlog.get_logger("orgstats.audit")


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
                checked = auditor.check(one, chunk, recount=True)
                _report(checked)
                keep_result(connections, [checked], recount=True, sample=one.name)
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
