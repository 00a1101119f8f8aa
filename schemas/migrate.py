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
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors
from pydantic import Field

from schemas.connect import connect, translate
from schemas.errors import ConfigurationError, Refused
from schemas.settings import ClickHouseSettings

FOLDER: Final = Path(__file__).parent / "clickhouse"
RETAINED_TABLES: Final = ("counts", "project_counts")
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


class Form(StrEnum):
    """What the tables are made for; a cluster would be another form."""

    single = "single"


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


def render(statement: str, form: Form = Form.single) -> str:
    """A statement of a file as it is run: repeatable, and in the given form. Raises ValueError if it cannot be."""
    if form is not Form.single:
        raise ValueError(f"no tables can be made for {form}")
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
            lifetime = f"bucket + toIntervalDay({retention_days})"
            define = f"ALTER TABLE {table} MODIFY TTL {lifetime} SETTINGS materialize_ttl_after_modify = 0"
            changes[table] = (define, f"ALTER TABLE {table} MATERIALIZE TTL")
        elif days and not retention_days:
            waiting = f"table = '{table}' AND command LIKE '%MATERIALIZE TTL%' AND NOT is_done"
            stop = f"KILL MUTATION WHERE database = currentDatabase() AND {waiting}"
            changes[table] = (stop, f"ALTER TABLE {table} REMOVE TTL")
    return changes


def migrate(url: str, *, retention_days: int, plan_only: bool = False) -> list[Step]:
    """Bring the database at `url` up to date, making it when it is missing; what was done (or would be).

    Raises Unavailable when ClickHouse does not answer (run it again), Refused and ConfigurationError as
    `pending` and `retention_statements` do; then nothing was changed.
    """
    retention_statements({}, retention_days)
    database = unquote(urlsplit(url).path.lstrip("/")) or "default"
    client = connect(url, client_name="orgstats-migrate")
    try:
        if not _database_exists(client):
            create = Step(f"database {database}", (f"CREATE DATABASE IF NOT EXISTS `{database}`",))
            if plan_only:
                return [create, *_steps(load(), {}, retention_days)]
            with connect(urlsplit(url)._replace(path="/default").geturl(), client_name="orgstats-migrate") as other:
                _run(other, create)
            return [create, *_migrate(client, retention_days, plan_only=False)]
        return _migrate(client, retention_days, plan_only=plan_only)
    except (driver_errors.Error, OSError, EOFError) as error:
        raise translate(error) from error
    finally:
        client.disconnect()


def _database_exists(client: Client) -> bool:
    try:
        client.execute("SELECT 1")
    except driver_errors.ServerException as error:
        if error.code != _UNKNOWN_DATABASE:
            raise
        return False
    return True


def _migrate(client: Client, retention_days: int, *, plan_only: bool) -> list[Step]:
    if not plan_only:
        client.execute(render(_MIGRATIONS))
    steps = _steps(pending(load(), applied(client)), retained_days(client), retention_days)
    for step in steps if not plan_only else ():
        _run(client, step)
    return steps


def _steps(migrations: Iterable[Migration], current_days: Mapping[str, int], retention_days: int) -> list[Step]:
    """What is to be done; tables that a migration is about to make have no retention yet."""
    steps = [
        Step(f"{m.version:04}_{m.name}", tuple(render(statement) for statement in m.statements), m) for m in migrations
    ]
    days = dict.fromkeys(RETAINED_TABLES, 0) | dict(current_days)
    for table, statements in retention_statements(days, retention_days).items():
        steps.append(Step(f"retention of {table}: {retention_days or 'unlimited'} days", statements))
    return steps


def _run(client: Client, step: Step) -> None:
    for statement in step.statements:
        client.execute(statement)
    if step.migration is not None:
        client.execute(
            "INSERT INTO migrations (version, name, sha256, applied_at) "
            "SELECT %(version)s, %(name)s, %(sha256)s, now64(3, 'UTC')",
            {"version": step.migration.version, "name": step.migration.name, "sha256": step.migration.sha256},
        )


def applied(client: Client) -> list[Applied]:
    """The migrations that the database records, in order; none when it records none."""
    if not client.execute("EXISTS TABLE migrations")[0][0]:
        return []
    rows = client.execute("SELECT DISTINCT version, name, sha256 FROM migrations ORDER BY version")
    return [Applied(*row) for row in rows]


def retained_days(client: Client) -> dict[str, int]:
    """Days that rows of the retained tables live, 0 meaning for ever; only tables that exist."""
    rows = client.execute(
        "SELECT name, toUInt32OrZero(extract(engine_full, 'TTL bucket \\\\+ toIntervalDay\\\\((\\\\d+)\\\\)')) "
        "FROM system.tables WHERE database = currentDatabase() AND name IN %(tables)s",
        {"tables": RETAINED_TABLES},
    )
    return dict(rows)
