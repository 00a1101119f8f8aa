"""How partitions are counted: made of the settings and of the rules that are in force, anew whenever those change."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from orgstats.consumer import ports
from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.fingerprint import fingerprint_of
from orgstats.consumer.counting.limits import DeadLetterLimits
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.settings import ConsumerSettings


@dataclass(frozen=True, slots=True)
class CountingOptions:
    """How partitions are counted: what all of them share."""

    batch: BatchCounter
    fingerprint: str
    alike: frozenset[str]
    """Fingerprints that differ from it in nothing but who was erased."""
    isolation: str
    chunk_length: int
    projects: bool
    topic_id: str | None
    accept_skip: bool
    allow_compaction: bool
    dead_letter_limits: DeadLetterLimits
    reader: Callable[[], AbstractContextManager[ports.LogReader]]
    clock: ports.Clock


def counting_by(settings: ConsumerSettings, history: RuleHistory, clients: ports.Clients) -> CountingOptions:
    """How partitions are counted with these settings and rules."""

    def fingerprint(edition: str) -> str:
        return fingerprint_of(settings.limits, edition, projects=settings.projects)

    return CountingOptions(
        BatchCounter(settings.limits, history),
        fingerprint(history.edition),
        frozenset(map(fingerprint, history.alike)),
        settings.isolation,
        settings.chunk_length,
        settings.projects,
        settings.topic_id,
        settings.accept_skip,
        settings.allow_compaction,
        settings.dead_letter_limits,
        clients.reader,
        clients.clock,
    )
