"""What is to be left of an organization that was erased: of its events only their day and their number."""

from collections import Counter
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Final

from tests.sim.clickhouse import Row, SimClickHouse
from tests.sim.events import DAY_SECONDS
from tests.sim.oracle import Values

CELLS: Final = ("counts", "hourly", "totals")


def mark_of(org_id: int) -> int:
    """What stands for it in the place of a project."""
    return 1 << 63 | int.from_bytes(blake2b(b"erased %d" % org_id, digest_size=8).digest())


def forgotten(values: Values, orgs: Collection[int]) -> Values:
    """The same, with what these organizations have in the one cell of each day; an endpoint shows none of it."""
    found: Values = Counter()
    for key, value in values.items():
        table, org, bucket, *rest = key
        if org not in orgs:
            found[key] += value
        elif table != "totals":
            project = (mark_of(org), 0) if table == "counts" else (mark_of(org),)
            found[table, 0, bucket // DAY_SECONDS * DAY_SECONDS, *project, 255, 0, "erased", rest[-1]] += value
    return found


def without_moved(store: SimClickHouse, source_id: int, orgs: Collection[int], values: Values) -> Values:
    """What is stored of a source, without cells whose day has its one cell: they are about to be deleted.

    Or somebody who was cut off has stored them again.
    """
    found = values.copy()
    for table in ("counts", "hourly"):
        for row in moved(store, table, source_id, orgs):
            which = (row.project_id, row.key_id) if table == "counts" else (row.project_id,)
            key = table, row.org_id, row.bucket, *which, row.category, row.outcome, row.reason
            found[*key, "quantity"] -= row.quantity
            found[*key, "events"] -= row.events
    return found


def moved(store: SimClickHouse, table: str, source_id: int, orgs: Collection[int]) -> Iterator[Row]:
    """Cells of these organizations beside the one of their day."""
    rows = [*store.winners(table).get(source_id, {}).values()]
    days = {(row.chunk, row.bucket, row.project_id) for row in rows if row.org_id == 0 and row.events}
    for row in rows:
        day = row.bucket // DAY_SECONDS * DAY_SECONDS
        if row.org_id in orgs and (row.chunk, day, mark_of(row.org_id)) in days:
            yield row
