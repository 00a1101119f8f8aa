"""The product's own audit of a simulated world, every cell counted again: it has to agree with a right store."""

import json
from typing import Any

from orgstats.consumer.kafka.reader import LogReaders
from orgstats.consumer.ops import audit
from orgstats.consumer.ops.connections import locate
from orgstats.errors import Refused
from tests.sim.operating import connections, operator
from tests.sim.oracle import VERSIONS, Violation, sources
from tests.sim.world import SimWorld

AUDIT = "the audit agrees"


def agree(world: SimWorld, isolation: str, version: int, limits: dict[int, str]) -> None:
    """Raises Violation where the audit of a quiet world finds a difference that is none."""
    left_out = {
        one.source_id
        for one in sources(world.store, world.kafka)
        if one.source_id in limits or one.log.unresolved or one.log.compacted or world.store.expired_before
    }
    try:
        every = _audit(world, isolation, version, left_out)
    except Refused as error:
        raise Violation(AUDIT, str(error)) from error
    for checked in every:
        if checked.differences:
            raise Violation(AUDIT, json.dumps(checked.shown()))


def finds(world: SimWorld, isolation: str, version: int, at: tuple[int, int], *, recount: bool) -> bool:
    """Whether the audit tells that a chunk of a source is wrong, or that it cannot compare its cells."""
    others = {one.source_id for one in sources(world.store, world.kafka)} - {at[0]}
    found = [one for one in _audit(world, isolation, version, others, recount=recount) if one.chunk == at[1]]
    return any(one.differences or one.note for one in found)


def _audit(
    world: SimWorld, isolation: str, version: int, left_out: set[int], *, recount: bool = True
) -> list[audit.AuditResult]:
    settings: dict[str, Any] = {"max_event_age_seconds": VERSIONS[version], "kafka": {"isolation.level": isolation}}
    with operator(world, lambda: None):
        auditor = audit.auditor_of(connections(world, **settings))
        wanted = [
            (one, chunk)
            for one in locate(auditor.connections)
            if one.source.source_id not in left_out
            for chunk in auditor.chunks(one)
        ]
        with LogReaders(auditor.connections.settings.kafka_properties()) as readers:
            return [*auditor.check_all(wanted, readers, recount=recount)]
