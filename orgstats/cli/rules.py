"""`orgstats rules`: check, publish, look at, try out and void the rules for events that nobody has classified."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.operating import print_list
from orgstats.cli.options import flat
from orgstats.cli.rules_example import print_example
from orgstats.cli.rules_history import clickhouse, moment
from orgstats.cli.try_rules import try_record

if TYPE_CHECKING:
    from datetime import datetime

    from orgstats.schemas.tables import RulesRow

rules = typer.Typer(
    no_args_is_help=True,
    help="Rules for events that came without an outcome, and their history.\n\n"
    "The format: `orgstats rules example` prints a file to begin with, docs/rules.md explains it.",
)
rules.command("example")(print_example)
rules.command("test")(try_record)


@rules.command()
def check(file: Annotated[Path, typer.Argument(help="The rules file.")]) -> None:
    """Check a rules file; every fault is told with its line. Needs no server.

    Example: orgstats rules check rules.toml
    """
    from orgstats.consumer.counting.rules import parse
    from orgstats.consumer.store.rules import read_file

    typer.echo(f"{file}: {len(parse(read_file(file)))} rules, no faults")


@dataclass(frozen=True)
class PublishOptions:
    """What to publish, and from when on."""

    file: Annotated[Path, typer.Argument(help="The rules file.", show_default=False)]
    effective_from: Annotated[
        str | None, typer.Option(help="Epoch seconds, RFC 3339 or +2h [default: in 90 s].", show_default=False)
    ] = None
    note: Annotated[str, typer.Option(help="Why, for the history.", show_default=False)] = ""
    again: Annotated[bool, typer.Option("--again", help="Publish what was voided once more.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whether it is new.")] = False


@rules.command()
@flat
def publish(options: PublishOptions) -> None:
    """Append a rules file to the history, if it differs from the latest entry.

    Events are classified by it from `effective-from` on, by their Kafka timestamp; earlier ones never are.

    Example: orgstats rules publish rules.toml --note "block the crawler"
    """
    from orgstats.consumer.store.rules import history, is_new, publish_file, read_file

    with clickhouse() as client:
        start = moment(client, options.effective_from) if options.effective_from else None
        if options.dry_run:
            typer.echo("new" if is_new(history(client), read_file(options.file)) else "nothing new")
            return
        entry = publish_file(client, options.file, note=options.note, effective_from=start, again=options.again)
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
    names = ("version", "id", "state", "effective from", "published", "by", "note")
    rows = []
    for row in entries:
        state, start, published = _state(row, entries, now), _time(row.effective_from), _time(row.published_at)
        rows.append((row.version, row.entry_id, state, start, published, row.published_by, row.note))
    print_list(names, rows, long=("published",))


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
