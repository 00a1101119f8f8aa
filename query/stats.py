"""The one public function: how many events an organization had, without any HTTP."""

import time
from collections import defaultdict
from collections.abc import Sequence

from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.params import InvalidQuery, StatsQuery, parse_stat, window
from orgstats.query.series import LAST_SECOND, RESOLUTIONS, Point, filled


def organization_stats(
    database: Database,
    org_id: int,
    *,
    stat: str = "received",
    since: float | None = None,
    until: float | None = None,
    resolution: str | None = None,
) -> list[Point]:
    """The (start of bucket, count) of each bucket, ascending and without a gap; times in epoch seconds.

    `stat` is received, rejected, blacklisted or generated, `resolution` 10s, 1h or 1d; the defaults are the endpoint's.
    An organization without events has zeros. Raises InvalidQuery for arguments without an answer and
    Unavailable when ClickHouse is away or too slow; never gives a part of a series.
    """
    until = time.time() if until is None else until
    for value in (until, until if since is None else since):
        if not 0 <= value <= LAST_SECOND:
            raise InvalidQuery(f"since and until are out of range 0 to {LAST_SECOND}; seconds, not milliseconds?")
    if resolution is not None and resolution not in RESOLUTIONS:
        raise InvalidQuery("Invalid resolution")
    width = RESOLUTIONS[resolution] if resolution else None
    query = StatsQuery(org_id, parse_stat(stat), window(since, until, width))
    return read_series(database, query)[org_id]


def read_series(database: Database, query: StatsQuery) -> dict[int, list[Point]]:
    """The series of each project asked for, or the organization's own, by its id; raises as organization_stats does."""
    return read_together(database, [query])[query]


def read_together(database: Database, queries: Sequence[StatsQuery]) -> dict[StatsQuery, dict[int, list[Point]]]:
    """What read_series gives for each query, by one statement; several must be such as sql.series takes together."""
    counts: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for key, start, total in database.read(sql.series(*queries)):
        counts[key][start] = total
    return {query: {key: filled(query.buckets, counts[key]) for key in query.keys} for query in queries}
