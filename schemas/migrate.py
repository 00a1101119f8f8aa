"""Brings a ClickHouse database to the tables this version needs: numbered files, applied once, in order.

ClickHouse has no transaction and no lock for this, so none is needed: every statement is rendered so that
doing it again, or twice at once, changes nothing. A file is recorded after its last statement.

Failure semantics: a crash or an error halfway leaves the file unrecorded, and the next run does all of it
again, to the same end. Two migrators at once both do the work and both record it, as one row. An older
version that starts beside a newer one can at worst re-make a table that the newer one dropped, empty.
Files define tables and columns only; moving data is not repeatable and does not belong here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors
from pydantic import Field

from orgstats.clickhouse.cluster import LOCAL, Cluster, look_up, read, spread
from orgstats.clickhouse.connect import INSERT_SETTINGS, connect, translate
from orgstats.errors import ConfigurationError, Refused
from orgstats.settings import ClickHouseSettings

FOLDER: Final = Path(__file__).parent / "clickhouse"
RETAINED: Final = {
    "counts": "bucket",
    "project_counts": "bucket",
    "hour_counts": "bucket",
    "replaced_counts": "bucket",
    "replaced_project_counts": "bucket",
    "replaced_dead_letters": "replaced_at",
}
"""Tables whose rows live as long as the retention says, and since when a row lives."""
MAX_RETENTION_DAYS: Final = 3650
"""A DateTime ends in 2106: a bucket plus more days than this could pass it, wrap to 1970, and be deleted."""

_UNKNOWN_DATABASE: Final = 81
_MIGRATIONS: Final = """CREATE TABLE migrations
(
    version    UInt32,
    name       String,
    sha256     FixedString(64),
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (version, sha256)"""


class MigrateSettings(ClickHouseSettings):
    """Everything that `orgstats migrate` can be told."""

    retention_days: int = Field(
        default=90, ge=0, le=MAX_RETENTION_DAYS, description="days that counts are kept; 0 keeps them for ever"
    )
    cluster: str = Field(
        default="", description="the cluster of ClickHouse servers to make the tables on; empty for a single server"
    )


class Migration(NamedTuple):
    """One numbered file."""

    version: int
    name: str
    sha256: str
    statements: tuple[str, ...]


class Applied(NamedTuple):
    """A file that the database says was applied."""

    version: int
    name: str
    sha256: str


class Step(NamedTuple):
    """Statements that belong together, ready to be run; `migration` is recorded after them."""

    title: str
    statements: tuple[str, ...]
    migration: Migration | None = None


def load(folder: Path = FOLDER) -> list[Migration]:
    """The files of a folder in order; raises ValueError when their numbers are not 1, 2, 3, …."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        version, _, name = path.stem.partition("_")
        found.append(Migration(int(version), name, sha256(text.encode()).hexdigest(), split(text)))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the files in {folder} are not numbered 1, 2, 3, …")
    return found


def split(sql: str) -> tuple[str, ...]:
    """The statements of a file, without comments; texts in quotes must not hold `;` or `--`."""
    statements = re.sub(r"[ \t]*--[^\n]*", "", sql).split(";")
    return tuple(statement.strip() for statement in statements if statement.strip())


def render(statement: str) -> str:
    """A statement of a file as it is run, repeatable. Raises ValueError if it cannot be."""
    for pattern, replacement in _REPEATABLE:
        repeatable, count = re.subn(pattern, replacement, statement, flags=re.IGNORECASE)
        if count:
            return repeatable
    raise ValueError(f"cannot be repeated safely: {statement[:60]}")


_REPEATABLE: Final = (
    (r"^(CREATE TABLE) (?:IF NOT EXISTS )?", r"\1 IF NOT EXISTS "),
    (r"^(ALTER TABLE \w+\s+ADD (?:COLUMN|INDEX|PROJECTION)) (?:IF NOT EXISTS )?", r"\1 IF NOT EXISTS "),
    (r"^(ALTER TABLE \w+\s+(?:DROP|RENAME) COLUMN) (?:IF EXISTS )?", r"\1 IF EXISTS "),
    (r"^(ALTER TABLE \w+\s+MODIFY (?:COLUMN|SETTING|COMMENT)) ", r"\1 "),
    (r"^(DROP TABLE) (?:IF EXISTS )?", r"\1 IF EXISTS "),
)


def pending(known: Sequence[Migration], applied: Iterable[Applied]) -> list[Migration]:
    """The files still to be applied, in order.

    Raises Refused when an applied file has changed since, or when the database is newer than the files.
    """
    by_version = {migration.version: migration for migration in known}
    done = set()
    for version, name, digest in applied:
        if version not in by_version:
            raise Refused(
                f"the database is newer than this program: it has migration {version} ({name}), this program "
                f"knows {len(known)}. Run the newer orgstats; tables are never taken back."
            )
        if digest != by_version[version].sha256:
            raise Refused(
                f"migration {version} ({name}) was applied with other contents than this program has: an applied "
                f"file must not be changed. Restore schemas/clickhouse/{version:04}_{name}.sql and put the change "
                "into a new file."
            )
        done.add(version)
    return [migration for migration in known if migration.version not in done]


def retention_statements(current_days: Mapping[str, int], retention_days: int) -> dict[str, tuple[str, ...]]:
    """Per table what makes its rows live `retention_days` (0: for ever); tables that already do are left out.

    The definition is changed first and applied to old rows after: ClickHouse's own way of doing both in one
    statement can be torn by a crash and then blocks every later mutation of the table. Torn here, old rows
    are deleted when they are next merged.
    """
    if not 0 <= retention_days <= MAX_RETENTION_DAYS:
        raise ConfigurationError(
            f"ORGSTATS_RETENTION_DAYS must be 0 (keep for ever) to {MAX_RETENTION_DAYS}, not {retention_days}"
        )
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


def migrate(
    url: str, *, retention_days: int, plan_only: bool = False, cluster: str = "", again: bool = False
) -> list[Step]:
    """Bring the database at `url` up to date, making it when it is missing; what was done (or would be).

    With the name of a `cluster` everything is done on all of its servers; `again` does what was done before, for
    servers that have joined since. Raises Unavailable when ClickHouse does not answer (run it again), Refused and
    ConfigurationError as `pending`, `look_up` and `retention_statements` do; then nothing was changed.
    """
    retention_statements({}, retention_days)
    database = unquote(urlsplit(url).path.lstrip("/")) or "default"
    client = connect(url, client_name="orgstats-migrate")
    try:
        steps = []
        missing = not _database_exists(client)
        if missing or (again and cluster):
            with connect(urlsplit(url)._replace(path="/default").geturl(), client_name="orgstats-migrate") as other:
                place = look_up(other, cluster, database) if cluster else None
                steps = [_database(database, place)]
                if missing and plan_only:
                    return [*steps, *_steps(load(), {}, retention_days, place)]
                if not plan_only:
                    _run(other, steps[0])
        place = look_up(client, cluster, database) if cluster else None
        return [*steps, *_migrate(client, retention_days, place, plan_only=plan_only, again=again)]
    except (driver_errors.Error, OSError, EOFError) as error:
        raise translate(error) from error
    finally:
        client.disconnect()


def _database(database: str, place: Cluster | None) -> Step:
    where = f" ON CLUSTER '{place.name}'" if place else ""
    return Step(f"database {database}", (f"CREATE DATABASE IF NOT EXISTS `{database}`{where}",))


def _database_exists(client: Client) -> bool:
    try:
        client.execute("SELECT 1")
    except driver_errors.ServerException as error:
        if error.code != _UNKNOWN_DATABASE:
            raise
        return False
    return True


def _migrate(client: Client, retention_days: int, place: Cluster | None, *, plan_only: bool, again: bool) -> list[Step]:
    _refuse_another_form(client, place)
    if not plan_only:
        _run(client, Step("migrations", _placed([render(_MIGRATIONS)], place)))
    known = load()
    missing = pending(known, applied(client))
    days = retained_days(client, retention_days, place)
    steps = _steps(known if again else missing, days, retention_days, place)
    for step in steps if not plan_only else ():
        _run(client, step)
    return steps


def _refuse_another_form(client: Client, place: Cluster | None) -> None:
    rows = client.execute(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'counts'"
    )
    made_for = re.match(r"Distributed\('(\w+)'", rows[0][0]) if rows else None
    before, now = made_for[1] if made_for else "", place.name if place else ""
    if rows and before != now:
        raise Refused(
            f"the tables were made for {f'the cluster {before}' if before else 'a single server'}, and "
            f"ORGSTATS_CLUSTER is {now or 'empty'}: set it as it was, or move to a new database"
        )


def _placed(statements: Iterable[str], place: Cluster | None) -> tuple[str, ...]:
    """Statements as they are run on one server, or on all of a cluster."""
    return tuple(one for statement in statements for one in (spread(statement, place) if place else (statement,)))


def _steps(
    migrations: Iterable[Migration], current_days: Mapping[str, int], retention_days: int, place: Cluster | None
) -> list[Step]:
    """What is to be done; tables that a migration is about to make have no retention yet."""
    steps = [
        Step(f"{m.version:04}_{m.name}", _placed((render(statement) for statement in m.statements), place), m)
        for m in migrations
    ]
    days = dict.fromkeys(RETAINED, 0) | dict(current_days)
    for table, statements in retention_statements(days, retention_days).items():
        steps.append(Step(f"retention of {table}: {retention_days or 'unlimited'} days", _placed(statements, place)))
    return steps


def _run(client: Client, step: Step) -> None:
    for statement in step.statements:
        client.execute(statement)
    if step.migration is not None:
        client.execute(
            "INSERT INTO migrations (version, name, sha256, applied_at) "
            "SELECT %(version)s, %(name)s, %(sha256)s, now64(3, 'UTC')",
            {"version": step.migration.version, "name": step.migration.name, "sha256": step.migration.sha256},
            settings=INSERT_SETTINGS,
        )


def applied(client: Client) -> list[Applied]:
    """The migrations that the database records, in order; none when it records none."""
    if not client.execute("EXISTS TABLE migrations")[0][0]:
        return []
    rows = read(client, "SELECT DISTINCT version, name, sha256 FROM migrations ORDER BY version")
    return [Applied(*row) for row in rows]


def retained_days(client: Client, wanted: int = 0, place: Cluster | None = None) -> dict[str, int]:
    """Days that rows of the retained tables live, 0 meaning for ever; only tables that exist.

    Where servers of a cluster differ, one that is not `wanted` is told.
    """
    tables = f"clusterAllReplicas('{place.name}', system.tables)" if place else "system.tables"
    database = f"'{place.database}'" if place else "currentDatabase()"  # which is another one on other servers
    rows = client.execute(
        "SELECT name, toUInt32OrZero(extract(engine_full, 'TTL \\\\w+ \\\\+ toIntervalDay\\\\((\\\\d+)\\\\)')) "  # noqa: S608 - names that were checked
        f"FROM {tables} WHERE database = {database} AND name IN %(tables)s AND engine != 'Distributed'",
        {"tables": [*RETAINED, *(table + LOCAL for table in RETAINED)]},
    )
    found: dict[str, int] = {}
    for name, days in rows:
        table = name.removesuffix(LOCAL)
        if found.get(table, wanted) == wanted:
            found[table] = days
    return found
