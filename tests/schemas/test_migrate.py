"""The migrator: every file once and in order, repeatable after a crash, safe beside another one."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clickhouse_driver import Client

from orgstats.clickhouse.connect import connect
from orgstats.errors import ConfigurationError, Refused, Unavailable
from orgstats.schemas import migrate as migrations
from orgstats.schemas.migrate import Applied, Migration, load, migrate, pending, render, split
from orgstats.schemas.retention import FIRST_RETENTION_DAYS, RETAINED, changes_of, lives, retained_days
from orgstats.schemas.tables import FOLDER, TABLES

FILES = [f"{m.version:04}_{m.name}" for m in load()]


@pytest.fixture
def missing_url(clickhouse_server: str) -> Iterator[str]:
    """The URL of a database that does not exist yet."""
    database = f"test_{uuid.uuid4().hex[:12]}"
    yield urlsplit(clickhouse_server)._replace(path=f"/{database}").geturl()
    ask(clickhouse_server, f"DROP DATABASE IF EXISTS {database} SYNC")


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    with connect(url, client_name="tests") as client:
        rows: list[tuple[Any, ...]] = client.execute(statement)
    return rows


def tables(url: str) -> set[str]:
    """Names of the tables that a database has."""
    return {name for (name,) in ask(url, "SELECT name FROM system.tables WHERE database = currentDatabase()")}


def test_a_missing_database_is_made_with_every_table(missing_url: str) -> None:
    """One run makes the database, every table and the retention, in the order of the files; a second, nothing."""
    titles = [step.title for step in migrate(missing_url, retention_days=90)]
    assert titles[1 : -len(RETAINED)] == FILES
    assert tables(missing_url) == set(TABLES)
    assert migrate(missing_url, retention_days=90) == []


def test_a_plan_changes_nothing_and_is_what_is_done(missing_url: str) -> None:
    """--plan gives the steps of the run that follows, and leaves no database behind."""
    planned = migrate(missing_url, retention_days=7, plan_only=True)
    assert migrate(missing_url, retention_days=7, plan_only=True) == planned
    assert migrate(missing_url, retention_days=7) == planned
    assert migrate(missing_url, retention_days=7, plan_only=True) == []


def test_two_migrators_at_once_both_succeed(missing_url: str) -> None:
    """Eight that start together all end well, and each file is recorded once."""
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(migrate, missing_url, retention_days=30) for _ in range(8)]:
            done.result()
    assert tables(missing_url) == set(TABLES)
    recorded = ask(missing_url, "SELECT version FROM migrations FINAL ORDER BY version")
    assert recorded == [(number + 1,) for number in range(len(FILES))]


@pytest.mark.parametrize("survived", range(0, 44, 4))
def test_a_crash_halfway_is_completed_by_the_next_run(
    missing_url: str, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever statement is the last before the end, running it again gives every table and record."""
    left, execute = survived, Client.execute

    def dying(self: Client, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("the machine is gone")
        return execute(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Client, "execute", dying)
        with pytest.raises(Unavailable):
            migrate(missing_url, retention_days=90)
    migrate(missing_url, retention_days=90)
    assert tables(missing_url) == set(TABLES)
    assert migrate(missing_url, retention_days=90) == []


def test_a_file_that_is_new_is_applied_to_what_is_there(
    clickhouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade runs the files that the database lacks, in order, and leaves the rows of the others."""
    for path in FOLDER.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "0002_note.sql").write_text("ALTER TABLE gaps ADD COLUMN note String;")
    (tmp_path / "0003_remark.sql").write_text("ALTER TABLE gaps RENAME COLUMN note TO remark;")
    ask(clickhouse_url, "INSERT INTO gaps SELECT 1, 2, 3, 'retention', now64(3)")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "load", lambda: load(tmp_path))
        assert [step.title for step in migrate(clickhouse_url, retention_days=None)] == ["0002_note", "0003_remark"]
        assert migrate(clickhouse_url, retention_days=None) == []
    assert ask(clickhouse_url, "SELECT from_offset, to_offset, remark FROM gaps FINAL") == [(2, 3, "")]


def test_a_changed_file_is_refused(clickhouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was applied with other contents stops the migrator before it changes anything."""
    for path in FOLDER.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text() + "-- a word\n")
    changed = load(tmp_path)
    monkeypatch.setattr(migrations, "load", lambda: changed)
    with pytest.raises(Refused, match=r"migration 1 \(first\).* must not be changed"):
        migrate(clickhouse_url, retention_days=5)
    with connect(clickhouse_url, client_name="tests") as client:
        assert retained_days(client)["counts"] == 0


def test_migrations_of_a_newer_program_are_kept(clickhouse_url: str) -> None:
    """The way back to an older version: its migrator changes nothing, says so, and does not fail."""
    ask(clickhouse_url, "INSERT INTO migrations SELECT 99, 'later', repeat('0', 64), now64(3)")
    with connect(clickhouse_url, client_name="tests") as client:
        before = lives(client, None)
    told: list[str] = []
    assert migrate(clickhouse_url, retention_days=1, announce=told.append) == []
    (text,) = told
    assert text.startswith("the database is newer than this program: it has migration 99 (later)")
    with connect(clickhouse_url, client_name="tests") as client:
        assert lives(client, None) == before


def test_retention_is_set_changed_and_removed(clickhouse_url: str) -> None:
    """Counts, and what repairs keep of them for undo, live as long as the setting says, 0 meaning for ever."""
    for days in (90, 30, 0, 0, 1):
        migrate(clickhouse_url, retention_days=days)
        with connect(clickhouse_url, client_name="tests") as client:
            assert retained_days(client) == dict.fromkeys(RETAINED, days)


def test_retention_deletes_old_rows(clickhouse_url: str) -> None:
    """Once the retention is shorter than a row's age, the row goes; younger rows stay."""
    ask(
        clickhouse_url,
        "INSERT INTO counts SELECT 1, now() - INTERVAL n DAY, 5, 0, 1, 0, '', 1, 0, n, 1, 1 "
        "FROM (SELECT arrayJoin([1, 20]) AS n)",
    )
    migrate(clickhouse_url, retention_days=10, shorten=True)
    ask(clickhouse_url, "OPTIMIZE TABLE counts FINAL")
    assert ask(clickhouse_url, "SELECT quantity FROM counts FINAL") == [(1,)]


def test_a_withdrawn_dead_letter_does_not_come_back_with_age(clickhouse_url: str) -> None:
    """Its two rows are in two weeks: FINAL shows the newer one, and the older one goes first."""
    with connect(clickhouse_url, client_name="tests") as client:
        for version, withdrawn, age in ((1, False, 20), (2, True, 0)):
            client.execute(
                "INSERT INTO dead_letters (source_id, offset, kafka_timestamp, withdrawn, version, stored_at)"
                " SELECT 1, 7, toDateTime64(0, 3), %(withdrawn)s, %(version)s, now() - toIntervalDay(%(age)s)",
                {"withdrawn": withdrawn, "version": version, "age": age},
                settings={"insert_allow_materialized_columns": 1},
            )
    shown = "SELECT withdrawn FROM dead_letters FINAL"
    rows = "SELECT count() FROM dead_letters"
    ask(clickhouse_url, "OPTIMIZE TABLE dead_letters FINAL")
    assert (ask(clickhouse_url, shown), ask(clickhouse_url, rows)) == ([(True,)], [(2,)])
    migrate(clickhouse_url, retention_days=10, shorten=True)
    ask(clickhouse_url, "OPTIMIZE TABLE dead_letters FINAL")
    assert (ask(clickhouse_url, shown), ask(clickhouse_url, rows)) == ([(True,)], [(1,)])


def test_what_is_kept_for_undo_is_deleted_with_age(clickhouse_url: str) -> None:
    """A dead letter that a repair replaced is kept for undo as long as counts are, and no longer."""
    ask(
        clickhouse_url,
        "INSERT INTO replaced_dead_letters SELECT 'r', 1, 0, n, 'empty', '', false, now() - INTERVAL n DAY "
        "FROM (SELECT arrayJoin([1, 20]) AS n)",
    )
    migrate(clickhouse_url, retention_days=10, shorten=True)
    ask(clickhouse_url, "OPTIMIZE TABLE replaced_dead_letters FINAL")
    assert ask(clickhouse_url, "SELECT offset FROM replaced_dead_letters FINAL") == [(1,)]


def test_a_retention_that_is_not_said_stays(clickhouse_url: str) -> None:
    """Run without a retention, the migrator sends nothing to tables that keep a year, or for ever."""
    for days in (365, 0):
        migrate(clickhouse_url, retention_days=days)
        assert migrate(clickhouse_url, retention_days=None) == []
        with connect(clickhouse_url, client_name="tests") as client:
            assert retained_days(client) == dict.fromkeys(RETAINED, days)


def test_first_migration_sets_the_given_retention(missing_url: str) -> None:
    """Tables that are made while nobody says a retention keep 90 days; one that is added later, what counts have."""
    migrate(missing_url, retention_days=None)
    with connect(missing_url, client_name="tests") as client:
        assert retained_days(client) == dict.fromkeys(RETAINED, FIRST_RETENTION_DAYS)
    later = changes_of({"counts": frozenset({365})}, None)
    assert {days for days, _ in later.values()} == {365}
    assert set(later) == set(RETAINED) - {"counts"}


def test_a_joined_server_gets_what_the_others_have() -> None:
    """With --again the retention is said once more; where servers differ and nobody says it, it is left alone."""
    same, differing = (dict.fromkeys(RETAINED, frozenset(days)) for days in ({30}, {30, 365}))
    assert {days for days, _ in changes_of(same, None, again=True).values()} == {30}
    assert changes_of(same, None) == changes_of(differing, None, again=True) == {}
    assert set(changes_of(differing, 365)) == set(RETAINED)


def test_a_shorter_retention_is_refused_until_it_is_asked_for(clickhouse_url: str) -> None:
    """It says which rows would go and leaves them, also for tables that keep for ever; asked for, it says so first."""
    for kept in (365, 0):
        migrate(clickhouse_url, retention_days=kept)
        ask(
            clickhouse_url,
            "INSERT INTO counts SELECT 1, toDateTime('2020-01-01', 'UTC') + n * 10, 5, 0, 1, 0, '', 1, 0, n, 1, 1 "
            "FROM (SELECT arrayJoin([1, 2]) AS n)"
            if not kept
            else "INSERT INTO counts SELECT 1, now() - INTERVAL 1 DAY, 5, 0, 1, 0, '', 1, 0, 1, 1, 1",
        )
        with pytest.raises(Refused, match=r"counts.*--shorten-retention"):
            migrate(clickhouse_url, retention_days=90)
        with connect(clickhouse_url, client_name="tests") as client:
            assert retained_days(client) == dict.fromkeys(RETAINED, kept)
    assert "counts (kept for ever): 2 rows, the oldest of 2020-01-01" in [
        step.deletes for step in migrate(clickhouse_url, retention_days=90, plan_only=True)
    ]
    said: list[str] = []
    migrate(clickhouse_url, retention_days=90, shorten=True, announce=said.append)
    assert said == ["deletes counts (kept for ever): 2 rows, the oldest of 2020-01-01"]
    assert ask(clickhouse_url, "SELECT count() FROM counts WHERE bucket < '2021-01-01'") == [(0,)]


@pytest.mark.parametrize("days", [-1, 3651])
def test_a_retention_that_would_overflow_is_refused(days: int) -> None:
    """A lifetime that leads past the end of DateTime would delete everything, and is refused unasked."""
    with pytest.raises(ConfigurationError, match="ORGSTATS_RETENTION_DAYS must be 0"):
        migrate("clickhouse://localhost:1/x", retention_days=days)


def test_unreachable_server_is_unavailable() -> None:
    """Without an answer the migrator says so and may be run again."""
    with pytest.raises(Unavailable, match="does not answer"):
        migrate("clickhouse://127.0.0.1:1/x", retention_days=0)


@pytest.mark.parametrize(
    ("statement", "rendered"),
    [
        ("CREATE TABLE a (b UInt8)", "CREATE TABLE IF NOT EXISTS a (b UInt8)"),
        ("CREATE TABLE IF NOT EXISTS a (b UInt8)", "CREATE TABLE IF NOT EXISTS a (b UInt8)"),
        ("ALTER TABLE a ADD COLUMN b UInt8", "ALTER TABLE a ADD COLUMN IF NOT EXISTS b UInt8"),
        ("ALTER TABLE a DROP COLUMN b", "ALTER TABLE a DROP COLUMN IF EXISTS b"),
        ("ALTER TABLE a MODIFY COLUMN b UInt16", "ALTER TABLE a MODIFY COLUMN b UInt16"),
        ("DROP TABLE a", "DROP TABLE IF EXISTS a"),
    ],
)
def test_statements_are_made_repeatable(statement: str, rendered: str) -> None:
    """A statement is run in a form that changes nothing the second time."""
    assert render(statement) == rendered


@pytest.mark.parametrize(
    "statement", ["INSERT INTO a VALUES (1)", "RENAME TABLE a TO b", "ALTER TABLE a DELETE WHERE 1"]
)
def test_what_cannot_be_repeated_is_refused(statement: str) -> None:
    """A statement that would do something else the second time has no place in a file."""
    with pytest.raises(ValueError, match="cannot be repeated safely"):
        render(statement)


def test_statements_are_split_without_their_comments() -> None:
    """A file is cut at its semicolons; what a comment says is no statement."""
    assert split("-- a; b\nCREATE TABLE a; -- c\n\nDROP\n  TABLE a;\n") == ("CREATE TABLE a", "DROP\n  TABLE a")


def test_every_file_can_be_rendered() -> None:
    """Each statement of each file has a repeatable form."""
    assert all(render(statement) for migration in load() for statement in migration.statements)


def test_files_are_numbered_without_a_hole(tmp_path: Path) -> None:
    """A missing or doubled number is a mistake of ours, found before anything is applied."""
    (tmp_path / "0001_a.sql").write_text("")
    (tmp_path / "0003_b.sql").write_text("")
    with pytest.raises(ValueError, match="not numbered"):
        load(tmp_path)


def test_only_what_is_not_applied_is_pending() -> None:
    """The files that the database lacks come in order, also one between others."""
    known = [Migration(number, "x", str(number), ()) for number in (1, 2, 3)]
    assert pending(known, [Applied(1, "x", "1"), Applied(3, "x", "3")]) == [known[1]]


def test_tables_of_another_edition_are_refused() -> None:
    """Files that were numbered anew are not those that a database had: it says what to do instead."""
    with pytest.raises(Refused, match=r"their migration 1 is counts, this program's is first.*new database"):
        pending(load(), [Applied(1, "counts", "0" * 64)])


def test_the_command_tells_what_it_does(missing_url: str) -> None:
    """`orgstats migrate` prints the plan, then what it did, then that there is nothing to do."""

    def orgstats(*arguments: str) -> tuple[str, str]:
        command = [str(Path(sys.executable).with_name("orgstats")), "migrate", *arguments]
        done = subprocess.run(
            command, env={"ORGSTATS_CLICKHOUSE_URL": missing_url}, capture_output=True, text=True, check=True
        )
        return done.stdout, done.stderr

    assert "\nCREATE TABLE IF NOT EXISTS counts\n" in orgstats("--plan")[0]
    assert orgstats("--retention-days", "0")[0].splitlines()[1:] == [f"done: {name}" for name in FILES]
    assert orgstats("--retention-days", "0") == ("", "nothing to do: the tables have all that this version needs\n")
