"""How long counts and dead letters are kept: what the tables say, what is asked for, and what shorter would delete.

History that ClickHouse has deleted is gone for good. So a retention that nobody names stays as it is, and one that
is shorter than what a table with rows keeps is refused until it is asked for by name.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import LOCAL, Cluster, read
from orgstats.errors import ConfigurationError, Refused

RETAINED: Final = {
    "counts": "bucket",
    "hourly": "bucket",
    "totals": "bucket",
    "dead_letters": "stored_at",
    "replaced_counts": "bucket",
    "replaced_hourly": "bucket",
    "replaced_totals": "bucket",
    "replaced_dead_letters": "replaced_at",
}
"""Tables whose rows live as long as the retention says, and since when a row lives."""
MAX_RETENTION_DAYS: Final = 3650
"""A DateTime ends in 2106: a bucket plus more days than this could pass it, wrap to 1970, and be deleted."""
FIRST_RETENTION_DAYS: Final = 90
"""What tables get that are made when nobody named a retention."""


class Loss(NamedTuple):
    """What a shorter retention would delete of a table at once."""

    table: str
    kept_days: int  # now; 0: for ever
    rows: int
    oldest: datetime | None

    def __str__(self) -> str:
        """In words, for operators."""
        now = f"{self.kept_days} days" if self.kept_days else "for ever"
        gone = f"{self.rows:,} rows, the oldest of {self.oldest:%Y-%m-%d}" if self.oldest else "no row yet"
        return f"{self.table} (kept {now}): {gone}"


def check_days(retention_days: int) -> None:
    """Raise ConfigurationError for a retention that cannot be."""
    if not 0 <= retention_days <= MAX_RETENTION_DAYS:
        raise ConfigurationError(
            f"ORGSTATS_RETENTION_DAYS must be 0 (keep for ever) to {MAX_RETENTION_DAYS}, not {retention_days}"
        )


def retention_statements(current_days: Mapping[str, int], retention_days: int) -> dict[str, tuple[str, ...]]:
    """Per table what makes its rows live `retention_days` (0: for ever); tables that already do are left out.

    The definition is changed first and applied to old rows after: ClickHouse's own way of doing both in one
    statement can be torn by a crash and then blocks every later mutation of the table. Torn here, old rows
    are deleted when they are next merged.
    """
    check_days(retention_days)
    changes: dict[str, tuple[str, ...]] = {}
    for table, days in current_days.items():
        if retention_days and days != retention_days:
            lifetime = f"{RETAINED[table]} + toIntervalDay({retention_days})"
            define = f"ALTER TABLE {table} MODIFY TTL {lifetime} SETTINGS materialize_ttl_after_modify = 0"
            changes[table] = (define, f"ALTER TABLE {table} MATERIALIZE TTL")
        elif days and not retention_days:
            waiting = f"table = '{table}' AND command LIKE '%MATERIALIZE TTL%' AND NOT is_done"
            stop = f"KILL MUTATION WHERE database = currentDatabase() AND {waiting}"
            changes[table] = (stop, f"ALTER TABLE {table} REMOVE TTL")
    return changes


def changes_of(
    lives: Mapping[str, frozenset[int]], retention_days: int | None, *, again: bool = False
) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Per table that needs it the days to keep and the statements for it; `lives` are those that exist.

    Without `retention_days` tables keep what they have, and a table that does not exist yet gets what `counts` has.
    With `again`, what is asked for is said to every server, since one that joined has nothing yet.
    """
    if retention_days is not None:
        check_days(retention_days)
    counts = lives.get("counts", frozenset({FIRST_RETENTION_DAYS}))
    changes = {}
    for table in RETAINED:
        wanted = retention_days
        now = lives.get(table)
        if wanted is None and (now is None or again):
            same = now or counts
            wanted = next(iter(same)) if len(same) == 1 else None  # servers that differ: not ours to decide
        if wanted is None:
            continue
        others = 0 if now is None else next((days for days in now if days != wanted), wanted)
        for statements in retention_statements({table: others}, wanted).values():
            changes[table] = (wanted, statements)
        if again and wanted and table not in changes:
            changes[table] = (wanted, retention_statements({table: 0}, wanted)[table][:1])
    return changes


def losses(client: Client, lives: Mapping[str, frozenset[int]], retention_days: int | None) -> list[Loss]:
    """What `retention_days` would delete, now or later, of tables that have rows and keep these longer."""
    found = []
    for table, now in lives.items():
        longest = 0 if 0 in now else max(now)
        if not retention_days or (longest and longest <= retention_days):
            continue
        born = RETAINED[table]
        old = f"{born} < now() - toIntervalDay(%(days)s)"
        rows, gone, oldest = read(
            client,
            f"SELECT count(), countIf({old}), minIf({born}, {old}) FROM {table}",  # noqa: S608 - names of ours
            {"days": retention_days},
        )[0]
        if rows:
            found.append(Loss(table, longest, gone, oldest if gone else None))
    return found


def refuse(lost: list[Loss], retention_days: int | None) -> None:
    """Raise Refused, saying what would be deleted, when there is any loss."""
    if lost:
        raise Refused(
            f"ORGSTATS_RETENTION_DAYS is {retention_days} and counts are kept longer: it would delete of "
            f"{'; '.join(map(str, lost))}. Nothing was changed. Leave it out to keep what is there, or say "
            "--shorten-retention to delete"
        )


def lives(client: Client, place: Cluster | None = None) -> dict[str, frozenset[int]]:
    """Days that rows of the retained tables live, 0 meaning for ever; only tables that exist.

    More than one number where servers of a cluster differ.
    """
    tables = f"clusterAllReplicas('{place.name}', system.tables)" if place else "system.tables"
    database = f"'{place.database}'" if place else "currentDatabase()"  # which is another one on other servers
    rows = read(
        client,
        "SELECT name, toUInt32OrZero(extract(engine_full, 'TTL \\\\w+ \\\\+ toIntervalDay\\\\((\\\\d+)\\\\)')) "  # noqa: S608 - names that were checked
        f"FROM {tables} WHERE database = {database} AND name IN %(tables)s AND engine != 'Distributed'",
        {"tables": [*RETAINED, *(table + LOCAL for table in RETAINED)]},
    )
    found: dict[str, frozenset[int]] = {}
    for name, days in rows:
        table = name.removesuffix(LOCAL)
        found[table] = found.get(table, frozenset()) | {days}
    return found


def retained_days(client: Client, place: Cluster | None = None) -> dict[str, int]:
    """As `lives`, one number a table: the longest where servers differ."""
    return {table: 0 if 0 in days else max(days) for table, days in lives(client, place).items()}
