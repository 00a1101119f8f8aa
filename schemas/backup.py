"""In which order the tables are copied while consumers count, so that what is restored heals by itself.

`progress` first: whatever is copied later holds at least what it says. Counts, then what tells of them: a cell beyond
the restored progress has its day in `chunk_days`, the revision it was counted in in `repairs`, the rules it was counted
by in `rules`, and a row in `flushes`, which says up to where such cells may be. Consumers go back to the progress and
count from there; whole counts with versions make writing twice writing once. A table that is copied too early may lack
a row that a cell needs, and nobody would notice.
"""

from collections.abc import Iterator
from typing import Final

from orgstats.clickhouse.cluster import LOCAL, SHARDED_BY

ORDER: Final = (
    "progress",
    *("counts", "hourly", "totals", "dead_letters"),
    *("chunk_days", "chunks", "repairs", "flushes", "gaps", "sources", "chunk_lengths", "rules"),
    "erasures",
    *("replays", "replay_chunks", "replaced_counts", "replaced_hourly", "replaced_totals", "replaced_dead_letters"),
    *(
        "dead_letter_actions",
        "watched",
        "audits",
        "retired_topics",
        "organizations",
        "projects",
        "tokens",
        "migrations",
    ),
)
"""Every table, as it is copied."""
TO_DISK: Final = "Disk('backups', '{name}/{table}')"
"""Where a table goes, unless it is said otherwise: a disk of the server's configuration."""


def backup(database: str, cluster: str, name: str, to: str = TO_DISK, base: str = "") -> Iterator[str]:
    """A BACKUP for each table, to be run one after the other; with `base` only what is not in that earlier backup.

    `to` has {name} and {table} where those go. Raises KeyError, IndexError or ValueError for one that has others.
    """
    for table in ORDER:
        since = f" SETTINGS base_backup = {to.format(name=base, table=table)}" if base else ""
        yield f"BACKUP TABLE {_place(table, database, cluster)} TO {to.format(name=name, table=table)}{since}"


def restore(database: str, cluster: str, name: str, to: str = TO_DISK) -> Iterator[str]:
    """The way back, `progress` last: a restore that ends halfway is never taken for a store that has counted."""
    everywhere = f" ON CLUSTER '{cluster}'" if cluster else ""
    yield f"CREATE DATABASE IF NOT EXISTS {database}{everywhere}"
    for table in reversed(ORDER):
        yield f"RESTORE TABLE {_place(table, database, cluster)} FROM {to.format(name=name, table=table)}"


def _place(table: str, database: str, cluster: str) -> str:
    if not cluster:
        return f"{database}.{table}"
    return f"{database}.{table + LOCAL if table in SHARDED_BY else table} ON CLUSTER '{cluster}'"
