"""What each role needs of ClickHouse, and no more: one list for `orgstats grants`, `orgstats doctor` and the tests.

What privileges there are: https://clickhouse.com/docs/sql-reference/statements/grant. On a cluster a Distributed table
and the one behind it are asked for each (https://github.com/ClickHouse/ClickHouse/issues/15165), making one takes
REMOTE (https://github.com/ClickHouse/ClickHouse/issues/61692), and ON CLUSTER takes CLUSTER
(https://clickhouse.com/docs/reference/settings/server-settings/settings/access-control).
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from orgstats.clickhouse.cluster import LOCAL, SHARDED_BY
from orgstats.schemas.retention import RETAINED
from orgstats.schemas.tables import TABLES

RoleName = Literal["consumer", "api", "ops", "operator", "migrate"]
ON_ALL: Final = "*.*"
SYNC: Final = "SYSTEM SYNC REPLICA"

_CELLS: Final = frozenset({"counts", "hourly", "totals"})
_ALTER: Final = (
    "ALTER ADD COLUMN, ALTER DROP COLUMN, ALTER RENAME COLUMN, ALTER MODIFY COLUMN, ALTER COMMENT COLUMN,"
    " ALTER ADD INDEX, ALTER ADD PROJECTION, ALTER SETTINGS, ALTER MODIFY COMMENT, ALTER TTL, ALTER MATERIALIZE TTL"
)


class Role(NamedTuple):
    """Tables that a role reads and inserts into.

    One that `catches_up` waits for replicas before it reads; one that `erases` takes rows of one organization out of
    tables; one that `makes` makes the tables, and alters them.
    """

    reads: frozenset[str]
    inserts: frozenset[str] = frozenset()
    catches_up: bool = True
    makes: bool = False
    erases: bool = False


ERASED_FROM: Final = (
    *("counts", "hourly", "totals", "replaced_counts", "replaced_hourly", "replaced_totals"),
    *("organizations", "projects", "tokens"),
)
"""Tables whose rows with an `org_id` belong to an organization, and go with it."""

ROLES: Final[dict[RoleName, Role]] = {
    "consumer": Role(
        reads=_CELLS
        | {"chunk_days", "chunk_lengths", "chunks", "dead_letters"}
        | {"erasures", "flushes", "gaps", "progress", "repairs", "rules", "sources"},
        inserts=_CELLS
        | {"chunk_days", "chunks", "dead_letters", "flushes", "gaps", "progress", "repairs", "rules", "sources"}
        | {"audits", "watched"},
    ),
    "api": Role(
        reads=_CELLS | {"erasures", "organizations", "progress", "projects", "retired_topics", "sources", "tokens"},
        catches_up=False,
    ),
    "ops": Role(  # of the operators' page, apart, so that the user of the endpoint cannot read dead letters
        reads=frozenset(
            {"audits", "dead_letter_actions", "dead_letters", "erasures", "gaps", "progress", "replay_chunks"}
        )
        | {"replays", "retired_topics", "rules", "sources", "watched"},
        catches_up=False,
    ),
    "operator": Role(
        reads=frozenset(TABLES), inserts=frozenset(TABLES) - {"flushes", "migrations", "sources"}, erases=True
    ),
    "migrate": Role(reads=frozenset({"migrations", *RETAINED}), inserts=frozenset({"migrations"}), makes=True),
}


class Privilege(NamedTuple):
    """An access, or several between commas, on something as GRANT names it: `database.table` or `*.*`."""

    access: str
    on: str


class Place(NamedTuple):
    """Where the tables are: in which database, and on which cluster, empty for one server.

    `cloud` is ClickHouse Cloud, whose servers share the tables.
    """

    database: str
    cluster: str = ""
    cloud: bool = False


def privileges(role: RoleName, place: Place) -> Iterator[Privilege]:
    """What the role needs, table by table, then what holds for all of the server."""
    one = ROLES[role]
    for table in TABLES:
        if accesses := [name for name, tables in (("SELECT", one.reads), ("INSERT", one.inserts)) if table in tables]:
            for stored in _stored(table, place):
                yield Privilege(", ".join(accesses), f"{place.database}.{stored}")
    if one.erases:
        yield from _to_erase(place)
    if one.catches_up and (place.cluster or place.cloud):
        for table in TABLES:
            if table in one.reads:
                yield Privilege(SYNC, f"{place.database}.{_stored(table, place)[-1]}")
        if place.cluster:
            yield Privilege("CLUSTER", ON_ALL)
    if one.makes:
        yield from _to_make(place)


def _to_make(place: Place) -> Iterator[Privilege]:
    yield Privilege(f"CREATE DATABASE, CREATE TABLE, DROP TABLE, {_ALTER}", f"{place.database}.*")
    yield Privilege("SELECT", "system.mutations")  # KILL MUTATION looks there, when a retention is lifted
    if place.cluster:
        yield Privilege("SELECT", "system.clusters")
        yield Privilege("SELECT", "system.macros")
        yield Privilege("REMOTE", ON_ALL)  # to make Distributed tables, and to ask all servers
        yield Privilege("CREATE TEMPORARY TABLE", ON_ALL)  # as table functions do, here clusterAllReplicas


def _to_erase(place: Place) -> Iterator[Privilege]:
    for table in ERASED_FROM:
        yield Privilege("ALTER DELETE", f"{place.database}.{_stored(table, place)[-1]}")
    yield Privilege("ALTER UPDATE", f"{place.database}.{_stored('dead_letters', place)[-1]}")


def _stored(table: str, place: Place) -> list[str]:
    """The names of a table: of a split one that which is shown, then that which has the rows."""
    return [table, table + LOCAL] if place.cluster and table in SHARDED_BY else [table]


def statements(role: RoleName, place: Place, name: str, settings: Sequence[str] = ()) -> Iterator[str]:
    """SQL that makes the role `name` and gives it what it needs; it may be run again, as after an upgrade.

    A role that inserts nothing is read only: `settings` are those that its program sends, which it may set all the
    same. That needs settings_constraints_replace_previous, which servers have by default
    (https://clickhouse.com/docs/operations/settings/constraints-on-settings).
    """
    everywhere = f" ON CLUSTER '{place.cluster}'" if place.cluster else ""
    yield f"CREATE ROLE IF NOT EXISTS {name}{everywhere}"
    if not ROLES[role].inserts:
        allowed = "".join(f", {setting} CHANGEABLE_IN_READONLY" for setting in settings)
        yield f"CREATE SETTINGS PROFILE OR REPLACE {name}{everywhere} SETTINGS readonly = 1{allowed} TO {name}"
    for access, on in privileges(role, place):
        yield f"GRANT{everywhere} {access} ON {on} TO {name}"
