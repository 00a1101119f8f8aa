"""What the ClickHouse user of this process lacks for a role, asked of the server itself."""

from collections.abc import Iterator
from typing import Any

from orgstats.clickhouse.cluster import cluster_of
from orgstats.consumer.ops.findings import Finding
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.store.store import Store
from orgstats.errors import OrgstatsError
from orgstats.schemas.grants import ROLES, Place, Privilege, RoleName, privileges


def place_of(store: Store) -> Place:
    """Where the tables are, as the server says."""
    rows = ask(
        store,
        "SELECT currentDatabase(), anyIf(engine_full, name = 'counts'), countIf(startsWith(engine, 'Shared')) > 0"
        " FROM system.tables WHERE database = currentDatabase()",
        {},
    )
    database, engine, shared = rows[0]
    return Place(database, cluster_of(engine), bool(shared))


def rights(store: Store, role: RoleName) -> Iterator[Finding]:
    """Whether the user has all that a role needs, and for the API, whether it has more than that."""
    if ROLES[role].inserts and ask(store, "SELECT getSetting('readonly')", {}) != [(0,)]:  # which grants do not show
        yield Finding(
            "act",
            "the ClickHouse user has readonly in its profile: nothing it counts can be stored",
            "take it out of the profile of the consumers' user; the API's own user may be read only",
        )
    place = place_of(store)
    try:
        lacking = [one for one in privileges(role, place) if not _has(store, one)]
        more = [
            one
            for one in (Privilege("INSERT", f"{place.database}.{table}") for table in ("counts", "tokens"))
            if role == "api" and _has(store, one)
        ]
    except OrgstatsError:  # servers before 24.11 have no such question
        yield Finding("note", "ClickHouse cannot be asked for the user's rights", "look at SHOW GRANTS")
        return
    if lacking:
        names = ", ".join(f"{access} on {on}" for access, on in lacking)
        yield Finding("act", f"the ClickHouse user lacks for the role {role}: {names}", _remedy(role))
    else:
        yield Finding("ok", f"rights: the ClickHouse user may do what the role {role} needs")
    if more:
        names = ", ".join(f"{access} on {on}" for access, on in more)
        yield Finding("note", f"the ClickHouse user may do more than the API needs: {names}", _remedy(role))


def _remedy(role: RoleName) -> str:
    return f"orgstats grants --role {role} prints what the user of ORGSTATS_CLICKHOUSE_URL should have"


def _has(store: Store, privilege: Privilege) -> bool:
    answer: Any = ask(store, f"CHECK GRANT {privilege.access} ON {privilege.on}", {})
    return bool(answer == [(1,)])
