"""Makes the sums by hour of counts that were stored before there were any, beside whoever counts.

Failure semantics: it inserts what differs, so a part of it may be done already, and two may do it at once. What an
older consumer stores while it runs is not in it, and `progress` tells: then the sums are not read until the next run.
"""

from collections.abc import Iterator
from typing import Final

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors

from orgstats.clickhouse.cluster import read, write
from orgstats.clickhouse.connect import INSERT_SETTINGS, connect, translate
from orgstats.schemas import hours
from orgstats.schemas.tables import insert

MONTH_SECONDS: Final = 3_600.0
"""ClickHouse's time for the sums of a month."""
_MEMORY_BYTES: Final = 1 << 30
"""More than this of sums that are being made waits on ClickHouse's disk."""


def sum_by_hour(url: str, *, again: bool = False) -> Iterator[str]:
    """Sum month by month, saying which was; nothing when there is nothing to do. Raises Unavailable (run it again).

    With `again` also what was summed before: all closed chunks.
    """
    client = connect(
        url,
        client_name="orgstats-migrate",
        timeout_seconds=MONTH_SECONDS,
        max_bytes_before_external_group_by=_MEMORY_BYTES,
    )
    try:
        yield from _sum(client, again=again)
    except (driver_errors.Error, OSError, EOFError) as error:
        raise translate(error) from error
    finally:
        client.disconnect()


def _sum(client: Client, *, again: bool) -> Iterator[str]:
    to_sum: dict[int, int] = dict(read(client, hours.CLOSED)) if again else {}
    for source_id, end in read(client, hours.UNSUMMED):
        to_sum[source_id] = max(end, to_sum.get(source_id, 0))
    if not to_sum:
        return
    ids, ends = list(to_sum), list(to_sum.values())
    # Not what a consumer sums while it counts: a row from here could come after its own of the same version.
    where = "toYYYYMM(bucket) = %(month)s AND chunk < transform(source_id, %(ids)s, %(ends)s, toUInt64(0))"
    months = [
        month for (month,) in read(client, "SELECT DISTINCT toYYYYMM(bucket) AS month FROM counts ORDER BY month")
    ]
    for number, month in enumerate(months, 1):
        write(client, hours.mend(where), {"month": month, "ids": ids, "ends": ends})
        yield f"sums by hour of {month // 100}-{month % 100:02} ({number} of {len(months)})"
    client.execute(insert("summed"), list(to_sum.items()), settings=INSERT_SETTINGS)
