"""`orgstats rules`: check, publish, look at, try out and void the rules for events that nobody has classified."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from clickhouse_driver import Client

    from orgstats.consumer.counting.rules import Rule
    from orgstats.schemas.event import Event
    from orgstats.schemas.tables import RulesRow

rules = typer.Typer(no_args_is_help=True, help="Rules for events that came without an outcome, and their history.")


@contextmanager
def clickhouse() -> Iterator["Client"]:
    """A connection to ORGSTATS_CLICKHOUSE_URL, its failures as this project's errors."""
    from clickhouse_driver import errors as driver_errors

    from orgstats.clickhouse.connect import connect, translate
    from orgstats.settings import ClickHouseSettings

    client = connect(ClickHouseSettings.from_env(os.environ).clickhouse_url, client_name="orgstats-rules")
    try:
        yield client
    except (driver_errors.Error, OSError, EOFError) as error:
        raise translate(error) from error
    finally:
        client.disconnect()


@rules.command()
def check(file: Annotated[Path, typer.Argument(help="The rules file.")]) -> None:
    """Check a rules file; every fault is told with its line. Needs no server.

    Example: orgstats rules check rules.toml
    """
    from orgstats.consumer.counting.rules import parse
    from orgstats.consumer.store.rules import read_file

    typer.echo(f"{file}: {len(parse(read_file(file)))} rules, no faults")


@rules.command()
def publish(
    file: Annotated[Path, typer.Argument(help="The rules file.")],
    effective_from: Annotated[
        str | None, typer.Option(help="Epoch seconds, RFC 3339 or +2h [default: in 90 s].", show_default=False)
    ] = None,
    note: Annotated[str, typer.Option(help="Why, for the history.", show_default=False)] = "",
    again: Annotated[bool, typer.Option("--again", help="Publish what was voided once more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it is new.")] = False,
) -> None:
    """Append a rules file to the history, if it differs from the latest entry.

    Events are classified by it from `effective-from` on, by their Kafka timestamp; earlier ones never are.

    Example: orgstats rules publish rules.toml --note "block the crawler"
    """
    from orgstats.consumer.store.rules import history, is_new, publish_file, read_file

    with clickhouse() as client:
        start = moment(client, effective_from) if effective_from else None
        if dry_run:
            typer.echo("new" if is_new(history(client), read_file(file)) else "nothing new")
            return
        entry = publish_file(client, file, note=note, effective_from=start, again=again)
        later = [
            row for row in history(client) if entry and not row.voided and row.effective_from > entry.effective_from
        ]
    if entry is None:
        typer.echo("nothing new: the latest entry says the same, or it was voided (--again publishes it all the same)")
        return
    typer.echo(f"published version {entry.version}, in force from {_time(entry.effective_from)}")
    for row in later:
        typer.echo(f"version {row.version} takes over at {_time(row.effective_from)}", err=True)


@rules.command("ls")
def list_entries(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with the rules' text.")] = False,
) -> None:
    """List the history in the order in which its entries come into force.

    Example: orgstats rules ls
    """
    import json

    from orgstats.consumer.store.rules import history, server_now

    with clickhouse() as client:
        entries, now = history(client), server_now(client)
    if as_json:
        for row in entries:
            typer.echo(
                json.dumps(row._asdict() | {"voided": row.voided, "state": _state(row, entries, now)}, default=_time)
            )
        return
    typer.echo("version\tid\tstate\teffective from\tpublished\tby\tnote")
    for row in entries:
        state, start, published = _state(row, entries, now), _time(row.effective_from), _time(row.published_at)
        typer.echo("\t".join((str(row.version), row.entry_id, state, start, published, row.published_by, row.note)))


@rules.command()
def show(
    version: Annotated[
        str | None, typer.Argument(help="A version, or an entry's id [default: the latest].", show_default=False)
    ] = None,
) -> None:
    """Print an entry's text as it was published.

    Example: orgstats rules show 3 > rules.toml
    """
    from orgstats.consumer.store.rules import history

    with clickhouse() as client:
        typer.echo(_entry(history(client), version).toml, nl=False)


@rules.command()
def diff(
    old: Annotated[str, typer.Argument(help="A file, or a version.")],
    new: Annotated[
        str | None, typer.Argument(help="A file, or a version [default: the first against the latest entry].")
    ] = None,
) -> None:
    """Show how two files or versions differ; exit code 1 if they do.

    Examples:

    orgstats rules diff rules.toml      what publishing it would change

    orgstats rules diff 3 4
    """
    from difflib import unified_diff

    from orgstats.consumer.store.rules import history

    with clickhouse() as client:
        entries = history(client)
    pair = (old, new) if new is not None else (None, old)
    (old_name, old_text), (new_name, new_text) = (_named_text(entries, one) for one in pair)
    lines = list(unified_diff(old_text.splitlines(), new_text.splitlines(), old_name, new_name, lineterm=""))
    for line in lines:
        typer.echo(line)
    if lines:
        raise typer.Exit(1)


@rules.command("test")
def try_record(
    record: Annotated[
        Path, typer.Argument(help="A file with one record's JSON; - is standard input.", allow_dash=True)
    ],
    file: Annotated[Path | None, typer.Option(help="Rules file to try [default: what is published].")] = None,
    at: Annotated[str, typer.Option(help="The record's Kafka timestamp: epoch seconds, RFC 3339 or -2h.")] = "now",
) -> None:
    """Say which rule a sample record meets, and why.

    Example: echo '{"timestamp": 0, "user_agent": "Googlebot"}' | orgstats rules test - --file rules.toml
    """
    from orgstats.consumer.counting.rules import explain

    event = _sample(record)
    if event.outcome is not None:
        typer.echo(f"the record has outcome {event.outcome} already: rules are not asked")
        return
    told = explain(_rules_to_try(file, at), event)
    for number, (rule, findings) in enumerate(told, 1):
        typer.echo(f"rule {number} (line {rule.line}): {rule.outcome.name}, {rule.reason!r}")
        for field, met in findings:
            found = getattr(event, field)
            classification = "does not match" if met is None else f"matches {met!r}"
            typer.echo(f"  {field} {'(absent)' if found is None else repr(found)} {classification}")
    last = told[-1][0] if told and told[-1][0].matches(event) else None
    typer.echo(
        f"classification: {last.outcome.name}, {last.reason!r}" if last else "classification: accepted, no rule matches"
    )


def _sample(record: Path) -> "Event":
    """The event in a file; raises DifferenceFound when it is a dead letter."""
    import sys

    from orgstats.consumer.counting.decode import Undecodable, decode, event_second
    from orgstats.errors import ConfigurationError, DifferenceFound

    try:
        event = decode(sys.stdin.buffer.read() if str(record) == "-" else record.read_bytes())
        event_second(event.timestamp)
    except OSError as error:
        raise ConfigurationError(f"{record}: {error}") from None
    except Undecodable as dead:
        raise DifferenceFound(f"the record is a dead letter: {dead}") from None
    return event


def _rules_to_try(file: Path | None, at: str) -> "tuple[Rule, ...]":
    """The rules of a file, or those that were in force at a time."""
    from orgstats.consumer.counting.rules import parse
    from orgstats.consumer.store.rules import load_history, read_file

    if file is not None:
        return parse(read_file(file))
    with clickhouse() as client:
        entry = load_history(client).in_force(round(moment(client, at).timestamp() * 1000))
    typer.echo(f"classified by version {entry.version}" if entry else "no rules are in force at that time", err=True)
    return entry.rules if entry else ()


@rules.command()
def void(
    version: Annotated[str, typer.Argument(help="The wrong entry: its version, or its id.")],
    execute: Annotated[bool, typer.Option("--execute", help="Do it; without, only say what it would mean.")] = False,
    note: Annotated[str, typer.Option(help="Why, for the history.", show_default=False)] = "",
) -> None:
    """Let an entry never have been in force, and say which replay repairs what it did.

    Running daemons count their open chunks again by themselves; closed ones need the replay that is printed.

    Example: orgstats rules void 4 --execute --note "blocked everyone"
    """
    from orgstats.clickhouse.cluster import read
    from orgstats.consumer.store import rules as rules_store

    with clickhouse() as client:
        rows = rules_store.history(client)
        entry = rules_store.find(rows, version)
        since, until = rules_store.period(rows, entry)
        now = rules_store.server_now(client)
        if execute:
            edition = rules_store.void(client, entry.entry_id, note=note)
            typer.echo(f"voided version {entry.version}: edition {edition} is in force", err=True)
        else:
            typer.echo(f"would void version {entry.version}, in force from {_time(since)}; --execute does it", err=True)
        topics = [topic for (topic,) in read(client, "SELECT DISTINCT topic FROM sources ORDER BY topic")]
    if since > now:
        typer.echo("it was never in force: nothing to repair", err=True)
        return
    typer.echo("daemons that are given its file with --rules need the corrected file", err=True)
    typer.echo("to repair what it did:" if topics else "nothing was counted yet: nothing to repair", err=True)
    for topic in topics:
        end = min(until or now, now)
        typer.echo(f"orgstats replay apply --repair --topic {topic} --since {_time(since)} --until {_time(end)}")


def moment(client: "Client", text: str) -> "datetime":
    """A time as people give it, relative to the server's clock; raises ConfigurationError."""
    from datetime import UTC, datetime

    from orgstats.consumer.store.rules import server_now
    from orgstats.errors import ConfigurationError
    from orgstats.times import parse_time

    try:
        return datetime.fromtimestamp(parse_time(text, server_now(client).timestamp()), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(str(error)) from None


def _time(at: "datetime") -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def _state(row: "RulesRow", entries: list["RulesRow"], now: "datetime") -> str:
    """voided, later, in force or past."""
    if row.voided:
        return "voided"
    if row.effective_from > now:
        return "later"
    started = [entry for entry in entries if not entry.voided and entry.effective_from <= now]
    return "in force" if row is started[-1] else "past"


def _entry(entries: list["RulesRow"], which: str | None) -> "RulesRow":
    """The entry with a version or id, or the latest one that is not voided."""
    from orgstats.consumer.store.rules import find
    from orgstats.errors import ConfigurationError

    if which is not None:
        return find(entries, which)
    found = [row for row in entries if not row.voided]
    if not found:
        raise ConfigurationError("no rules were published")
    return max(found, key=lambda row: (row.version, row.published_at))


def _named_text(entries: list["RulesRow"], which: str | None) -> tuple[str, str]:
    """Name and text of a version (None: the latest, empty if there is none) or of a file."""
    from orgstats.consumer.store.rules import read_file

    if which is None and not any(not row.voided for row in entries):
        return "nothing", ""
    if which is None or which.isdecimal() or any(row.entry_id == which for row in entries):
        entry = _entry(entries, which)
        return f"version {entry.version}", entry.toml
    return which, read_file(Path(which))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(rules, name="rules")
