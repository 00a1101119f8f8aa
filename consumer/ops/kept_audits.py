"""Keeps what audits found, for the operators' page."""

import secrets
from collections.abc import Sequence

from orgstats.consumer.ops.audit import AuditResult
from orgstats.consumer.ops.connections import Connections, now
from orgstats.consumer.ops.stored import insert_rows
from orgstats.consumer.store.rules import publisher
from orgstats.schemas.tables import AuditRow


def keep_result(connections: Connections, found: Sequence[AuditResult], *, recount: bool, sample: str = "") -> None:
    """Store what an audit found; of samples with one name the last. Raises OrgstatsError."""
    wrong = [(one, difference) for one in found for difference in one.differences]
    first = ""
    if wrong:
        one, difference = wrong[0]
        first = (
            f"{one.topic}/{one.partition} chunk {one.chunk}, {difference.table}: "  # whose it is goes with an erasure
            f"stored {difference.stored}, wanted {difference.wanted}"
        )
    row = AuditRow(
        audit_id=sample or secrets.token_hex(4),
        places=sorted({f"{one.topic}/{one.partition}" for one in found}),
        recount=recount,
        chunks=len(found),
        compared=sum(one.cells for one in found),
        differences=len(wrong),
        first=first,
        by="consumer" if sample else publisher(),
        at=now(),
    )
    insert_rows(connections.store, "audits", [row])
