"""What differs when ClickHouse is a cluster: where each table lives, and how a read misses nothing that was stored.

Large tables are split over the shards by a key that all rows of one cell share, so `FINAL` and the highest version
of a cell are decided within one shard; their plain names are Distributed tables. Every other table is small, and
each server of the cluster holds all of it. `docs/scaling.md` says why.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from clickhouse_driver import Client

from orgstats.clickhouse.connect import INSERT_SETTINGS
from orgstats.errors import ConfigurationError

LOCAL: Final = "_local"
SHARDED_BY: Final = {
    "counts": "org_id",
    "hourly": "org_id",
    "totals": "org_id",
    "replaced_counts": "org_id",
    "replaced_hourly": "org_id",
    "replaced_totals": "org_id",
    "dead_letters": "source_id",
}
"""The column that decides the shard of a row."""

_WORD: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ENGINE: Final = re.compile(r"ENGINE = ReplacingMergeTree(?:\((\w+)\))?")
_PINNED: Final = re.compile(r"Distributed\('(\w+)', '(\w+)', '(\w+)', sipHash64\(\w+\) % (\d+)\)")
_READ: Final = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)", re.IGNORECASE | re.ASCII)
_ON_TABLE: Final = re.compile(r"(CREATE TABLE IF NOT EXISTS|ALTER TABLE|DROP TABLE IF EXISTS) (\w+)(.*)", re.DOTALL)
_OF_TABLE: Final = re.compile(
    r"(KILL MUTATION) WHERE database = currentDatabase\(\) AND table = '(\w+)'(.*)", re.DOTALL
)
_COLUMN: Final = re.compile(r"\s+(?:ADD|DROP|RENAME|MODIFY) COLUMN")


class Cluster(NamedTuple):
    """A cluster as `remote_servers` names it. `shards` is how many the rows are split over, whatever is added later."""

    name: str
    database: str
    shards: int


def look_up(client: Client, name: str, database: str) -> Cluster:
    """The cluster as this server knows it.

    The number of shards is that of the existing tables: another one would send the rows of a cell elsewhere, and
    two shards would each show one. Raises ConfigurationError for what the server's configuration lacks.
    """
    for word in (name, database):
        if not _WORD.fullmatch(word):
            raise ConfigurationError(f"{word!r}: a cluster's tables need names of letters, digits and _")
    weights = client.execute(
        "SELECT DISTINCT shard_num, shard_weight FROM system.clusters WHERE cluster = %(name)s", {"name": name}
    )
    macros = {macro for (macro,) in client.execute("SELECT macro FROM system.macros")}
    faults = []
    if not weights:
        faults.append(f"ORGSTATS_CLUSTER: the server knows no cluster {name}; name one of its remote_servers")
    if any(weight != 1 for _, weight in weights):
        faults.append(f"cluster {name}: every shard must have the weight 1")
    faults += [f"the server has no macro {{{macro}}}" for macro in ("shard", "replica") if macro not in macros]
    pinned = _pinned(client, database)
    if weights and pinned and pinned > len(weights):
        faults.append(f"cluster {name} has {len(weights)} shards, and the tables were split over {pinned}")
    if faults:
        raise ConfigurationError("\n".join(faults))
    return Cluster(name, database, pinned or len(weights))


def cluster_of(engine: str) -> str:
    """The cluster that a table was made for, by the `engine_full` of `counts`; empty for a single server."""
    found = re.match(r"Distributed\('(\w+)'", engine)
    return found[1] if found else ""


def _pinned(client: Client, database: str) -> int:
    rows = client.execute(
        "SELECT engine_full FROM system.tables WHERE database = %(database)s AND name = 'counts'",
        {"database": database},
    )
    found = _PINNED.match(rows[0][0]) if rows else None
    return int(found[4]) if found else 0


def spread(statement: str, cluster: Cluster) -> tuple[str, ...]:
    """A repeatable statement for one server as those that do the same on every server of the cluster.

    Raises ValueError for a statement that has no such form.
    """
    everywhere = f"ON CLUSTER '{cluster.name}'"
    if found := _OF_TABLE.fullmatch(statement):
        verb, table, rest = found.groups()
        where = f"WHERE database = '{cluster.database}' AND table = '{_stored_in(table)}'{rest}"
        return (f"{verb} {everywhere} {where}" if table in SHARDED_BY else f"{verb} {where}",)
    found = _ON_TABLE.fullmatch(statement)
    if not found:
        raise ValueError(f"has no form for a cluster: {statement[:60]}")
    verb, table, rest = found.groups()
    stored = f"{verb} {_stored_in(table)} {everywhere}{rest}"
    shown = f"{verb} {table} {everywhere}{rest}"
    if verb.startswith("CREATE"):
        return _create(verb, table, rest, cluster)
    if verb.startswith("DROP"):  # SYNC, or Keeper still knows the table when another of its name is made
        return (f"{shown} SYNC", f"{stored} SYNC") if table in SHARDED_BY else (f"{shown} SYNC",)
    if table not in SHARDED_BY:
        return (statement,)  # what is done to one replica of a table is done to all
    if not _COLUMN.match(rest):
        return (stored,)
    # Never may a name that is shown be one that is not stored.
    return (shown, stored) if _drops(rest) else (stored, shown)


def _drops(rest: str) -> bool:
    return rest.split(maxsplit=1)[0].upper() == "DROP"


def _create(verb: str, table: str, rest: str, cluster: Cluster) -> tuple[str, ...]:
    stored = _stored_in(table)
    shard, replica = ("{shard}", "{replica}") if table in SHARDED_BY else ("all", "{shard}-{replica}")

    def engine(found: re.Match[str]) -> str:
        version = f", {found[1]}" if found[1] else ""
        path = f"/clickhouse/tables/{cluster.name}/{shard}/{cluster.database}/{stored}"  # a Keeper may serve several
        return f"ENGINE = ReplicatedReplacingMergeTree('{path}', '{replica}'{version})"

    definition, count = _ENGINE.subn(engine, rest)
    if count != 1:
        raise ValueError(f"has no form for a cluster: {verb} {table}")
    everywhere = f"ON CLUSTER '{cluster.name}'"
    made = f"{verb} {stored} {everywhere}{definition}"
    if table not in SHARDED_BY:
        return (made,)
    key = f"sipHash64({SHARDED_BY[table]}) % {cluster.shards}"
    shown = f"{verb} {table} {everywhere} AS {cluster.database}.{stored}"
    return made, f"{shown}\nENGINE = Distributed('{cluster.name}', '{cluster.database}', '{stored}', {key})"


def _stored_in(table: str) -> str:
    return table + LOCAL if table in SHARDED_BY else table


def read(
    client: Client, sql: str, values: dict[str, Any] | None = None, settings: dict[str, Any] | None = None
) -> list[Any]:
    """The rows of a SELECT that must not miss anything that any server has acknowledged."""
    catch_up(client, sql)
    return list(client.execute(sql, values, settings=settings))


def write(client: Client, sql: str, values: dict[str, Any]) -> None:
    """Run an INSERT of what it reads, which must not miss anything that any server has acknowledged."""
    catch_up(client, sql)
    client.execute(sql, values, settings=INSERT_SETTINGS)


def alter(client: Client, table: str, action: str, values: dict[str, Any]) -> None:
    """Run an ALTER TABLE on the rows of a table, wherever they are: what is done to one replica is done to all.

    Raises the driver's errors. It returns before the rows are changed.
    """
    engines = client.execute(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = %(table)s",
        {"table": table},
    )
    split = _PINNED.match(engines[0][0]) if engines else None
    where = f"{split[3]} ON CLUSTER '{split[1]}'" if split else table
    client.execute(f"ALTER TABLE {where} {action}", values)


def catch_up(client: Client, sql: str) -> None:
    """Wait until whatever server answers for the tables of a statement has all that was acknowledged so far.

    An insert is acknowledged once a majority of the replicas has it; the one that is asked next may be of the
    others. So it is in ClickHouse Cloud, whose tables (`Shared…`) have the list of their parts in Keeper. A table that
    is no replica has nothing to wait for. Raises the driver's errors: for a statement that reads a split table also
    when any server of the cluster does not answer.
    """
    replicated = client.execute(
        "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()"
        " AND (engine = 'Distributed' OR startsWith(engine, 'Replicated') OR startsWith(engine, 'Shared'))"
        " ORDER BY name"
    )
    named = set(_READ.findall(sql))
    for statement in waits([table for table in replicated if table[0] in named]):
        client.execute(statement)


def waits(tables: Sequence[tuple[str, str]]) -> list[str]:
    """What to wait for before these tables (name, engine) are read; a split one is read on all servers.

    So then is what it is joined with.
    """
    split = {name: found for name, engine in tables if (found := _PINNED.match(engine))}
    if not split:
        return [f"SYSTEM SYNC REPLICA {name} LIGHTWEIGHT" for name, _ in tables]
    cluster, database, *_ = next(iter(split.values())).groups()
    stored = [split[name][3] if name in split else name for name, _ in tables]
    return [f"SYSTEM SYNC REPLICA ON CLUSTER '{cluster}' {database}.{name} LIGHTWEIGHT" for name in stored]
