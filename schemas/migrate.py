"""Brings a ClickHouse database to the tables this version needs: numbered files, applied once, in order.

ClickHouse has no transaction and no lock for this, so none is needed: every statement is rendered so that
doing it again, or twice at once, changes nothing. A file is recorded after its last statement.

Failure semantics: a crash or an error halfway leaves the file unrecorded, and the next run does all of it
again, to the same end. Two migrators at once both do the work and both record it, as one row. An older
version that starts beside a newer one can at worst re-make a table that the newer one dropped, empty.
Files define tables and columns only; moving data is not repeatable and does not belong here.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors
from pydantic import Field, field_validator

from orgstats.clickhouse.cluster import Cluster, cluster_of, look_up, read, spread
from orgstats.clickhouse.connect import INSERT_SETTINGS, connect, translate
from orgstats.clickhouse.url import parse
from orgstats.errors import Refused
from orgstats.schemas.retention import (
    FIRST_RETENTION_DAYS,
    MAX_RETENTION_DAYS,
    Loss,
    changes_of,
    check_days,
    lives,
    losses,
    refuse,
)
from orgstats.schemas.tables import FOLDER, MIGRATIONS
from orgstats.settings import ClickHouseSettings

_UNKNOWN_DATABASE: Final = 81


class MigrateSettings(ClickHouseSettings):
    """Everything that `orgstats migrate` can be told."""

    retention_days: int | None = Field(
        default=None,
        ge=0,
        le=MAX_RETENTION_DAYS,
        description="days that counts are kept; 0 keeps them for ever; "
        f"empty: as the tables say, {FIRST_RETENTION_DAYS} for new ones",
    )

    @field_validator("retention_days", mode="before")
    @classmethod
    def _empty_is_as_it_is(cls, value: object) -> object:
        return None if value == "" else value

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
    deletes: str = ""  # in words, what of the counts is gone after it


class Servers(NamedTuple):
    """Where the tables are made: on the server that is asked, or on all of a `cluster`.

    `again` does what was done before once more, for servers that have joined since.
    """

    cluster: str = ""
    again: bool = False


ONE_SERVER: Final = Servers()


class _Wish(NamedTuple):
    """What an operator says of the time that counts are kept."""

    retention_days: int | None
    shorten: bool
    announce: Callable[[str], None]


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
    """The files still to be applied, in order; what a newer program has applied beside them is `newer`'s.

    Raises Refused when an applied file has changed since, or is of another edition of the tables.
    """
    by_version = {migration.version: migration for migration in known}
    done = set()
    for version, name, digest in applied:
        if version not in by_version:
            continue
        if name != by_version[version].name:
            raise Refused(
                f"the tables are of another edition: their migration {version} is {name}, this program's is "
                f"{by_version[version].name}. They cannot be carried over: name a new database and count the log "
                "again, as docs/upgrading.md says"
            )
        if digest != by_version[version].sha256:
            raise Refused(
                f"migration {version} ({name}) was applied with other contents than this program has: an applied "
                f"file must not be changed. Restore schemas/clickhouse/{version:04}_{name}.sql and put the change "
                "into a new file."
            )
        done.add(version)
    return [migration for migration in known if migration.version not in done]


def newer(known: Sequence[Migration], applied: Iterable[Applied]) -> list[Applied]:
    """What a newer program has applied, in order: tables and columns that this one does not know and does not need."""
    versions = {migration.version for migration in known}
    return [one for one in applied if one.version not in versions]


def migrate(
    url: str,
    *,
    retention_days: int | None,
    servers: Servers = ONE_SERVER,
    plan_only: bool = False,
    shorten: bool = False,
    announce: Callable[[str], None] = lambda _: None,
) -> list[Step]:
    """Bring the database at `url` up to date, making it when it is missing; what was done (or would be).

    Without `retention_days` tables keep what they have. Fewer than tables with rows keep need `shorten`, and
    `announce` is told what goes before anything is done; a plan says it and is never refused for it.

    Raises Unavailable when ClickHouse does not answer (run it again), Refused and ConfigurationError as `pending`,
    `look_up`, `check_days` and `refuse` do; then nothing was changed.
    """
    cluster, again = servers
    if retention_days is not None:
        check_days(retention_days)
    client = connect(url, client_name="orgstats-migrate")
    database = parse(url).database
    wish = _Wish(retention_days, shorten, announce)
    try:
        steps = []
        missing = not _database_exists(client)
        if missing or (again and cluster):
            with connect(url, client_name="orgstats-migrate", database="default") as other:
                place = look_up(other, cluster, database) if cluster else None
                steps = [_database(database, place)]
                if missing and plan_only:
                    return [*steps, *_steps(load(), {}, wish, place)]
                if not plan_only:
                    _run(other, steps[0])
        place = look_up(client, cluster, database) if cluster else None
        return [*steps, *_migrate(client, wish, place, plan_only=plan_only, again=again)]
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


def refuse_engine(engine: str, cluster: str) -> None:
    """Raise Refused for a database whose own engine replicates tables in a way that these are not made for.

    In ClickHouse Cloud a database is `Shared`, and the tables of a single server become shared ones by themselves. In
    one that is `Replicated` only their definitions would be on every server, and each would keep rows of its own.
    """
    if engine == "Replicated":
        raise Refused(
            "the database has the engine Replicated: it would give every server the tables and leave the rows on the "
            "one that was asked. Make it with the engine Atomic, and set ORGSTATS_CLUSTER for several servers"
        )
    if engine == "Shared" and cluster:
        raise Refused(
            f"ORGSTATS_CLUSTER is {cluster}, and the servers of ClickHouse Cloud share their tables: leave it empty"
        )


def _migrate(client: Client, wish: _Wish, place: Cluster | None, *, plan_only: bool, again: bool) -> list[Step]:
    found = client.execute("SELECT engine FROM system.databases WHERE name = currentDatabase()")
    refuse_engine(found[0][0], place.name if place else "")
    _refuse_another_form(client, place)
    known, done = load(), applied(client)
    missing = pending(known, done)
    if ahead := newer(known, done):
        # The way back to an older version must not end here: it runs on newer tables, which are never taken back.
        wish.announce(
            f"the database is newer than this program: it has migration {ahead[-1].version} ({ahead[-1].name}), this "
            f"program knows {len(known)}; nothing is changed, the retention neither"
        )
        return []
    now = lives(client, place)
    lost = losses(client, now, wish.retention_days)
    if not plan_only and not wish.shorten:
        refuse(lost, wish.retention_days)
    for loss in lost if not plan_only else ():
        wish.announce(f"deletes {loss}")
    if not plan_only:
        _run(client, Step("migrations", _placed([render(MIGRATIONS)], place)))
    steps = _steps(known if again else missing, now, wish, place, lost, again=again)
    for step in steps if not plan_only else ():
        _run(client, step)
    return steps


def _refuse_another_form(client: Client, place: Cluster | None) -> None:
    rows = client.execute(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'counts'"
    )
    before, now = cluster_of(rows[0][0]) if rows else "", place.name if place else ""
    if rows and before != now:
        raise Refused(
            f"the tables were made for {f'the cluster {before}' if before else 'a single server'}, and "
            f"ORGSTATS_CLUSTER is {now or 'empty'}: set it as it was, or move to a new database"
        )


def _placed(statements: Iterable[str], place: Cluster | None) -> tuple[str, ...]:
    """Statements as they are run on one server, or on all of a cluster."""
    return tuple(one for statement in statements for one in (spread(statement, place) if place else (statement,)))


def _steps(
    migrations: Iterable[Migration],
    now: Mapping[str, frozenset[int]],
    wish: _Wish,
    place: Cluster | None,
    lost: Sequence[Loss] = (),
    *,
    again: bool = False,
) -> list[Step]:
    """What is to be done; `now` is how long rows live in the tables that exist."""
    steps = [
        Step(f"{m.version:04}_{m.name}", _placed((render(statement) for statement in m.statements), place), m)
        for m in migrations
    ]
    deletes = {loss.table: str(loss) for loss in lost}
    changes = changes_of(now, wish.retention_days, again=again and place is not None)
    for table, (days, statements) in changes.items():
        title = f"retention of {table}: {days or 'unlimited'} days"
        steps.append(Step(title, _placed(statements, place), deletes=deletes.get(table, "")))
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
