"""`orgstats dead-letters`: look at records that could not be decoded, and let them be; `redrive` has its own file."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat
from orgstats.cli.redrive import redrive
from orgstats.cli.selection import Selection

if TYPE_CHECKING:
    from orgstats.consumer.ops.dead_letters import DeadLetter
    from orgstats.consumer.store.store import Store

dead_letters = typer.Typer(
    no_args_is_help=True,
    help="Records that could not be decoded. Every option has an environment variable: ORGSTATS_DEAD_LETTERS_, the "
    "command and the option.",
    context_settings={"auto_envvar_prefix": "ORGSTATS_DEAD_LETTERS"},
)
dead_letters.command("redrive")(flat(redrive))


@dataclass(frozen=True)
class Sight(Selection):
    """Which dead letters to look at."""

    everything: Annotated[bool, ops.option("--all", help="Also those that were redriven or dropped.")] = False


@dataclass(frozen=True)
class ListOptions(Sight):
    """What to count, and by what."""

    by: Annotated[str, ops.option(help="hour, topic and reason, or some of them.")] = "topic,reason"
    as_json: ops.AsJson = False


@dead_letters.command("ls")
@flat
def ls(options: ListOptions) -> None:
    """Count dead letters by topic and reason, or as --by says, with the place of the first; shows no payload.

    Examples:

    orgstats dead-letters ls --since -6h

    orgstats dead-letters ls --reason field_invalid --by hour
    """
    from orgstats.consumer.ops.dead_letters import BY, groups
    from orgstats.times import format_time

    columns = [name.strip() for name in options.by.split(",")]
    if not set(columns) <= set(BY):
        raise typer.BadParameter(f"{options.by!r} is not made of {', '.join(BY)}", param_hint="--by")
    rows = [
        {
            **({"hour": format_time(g.hour.timestamp())} if g.hour else {}),
            **{name: value for name, value in (("topic", g.topic), ("reason", g.reason)) if name in columns},
            "action": g.action or "-",
            "records": g.records,
            "first": "/".join(map(str, g.first)),
        }
        for g in groups(_store(), options.filter(handled=options.everything), columns)
    ]
    if options.as_json:
        ops.print_json(rows)
    elif rows:
        typer.echo(ops.table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
        total = sum(g["records"] for g in rows if isinstance(g["records"], int))
        ops.say(f"{total:,} dead letters; look at one: orgstats dead-letters show {rows[0]['first']}")
        waiting = sum(g["records"] for g in rows if g["action"] == "sent" and isinstance(g["records"], int))
        if waiting:
            ops.say(f"{waiting:,} of them were sent and are not yet counted")
    else:
        ops.say("no dead letters")


@dataclass(frozen=True)
class Place:
    """One of them."""

    place: Annotated[str | None, typer.Argument(help="topic/partition/offset.", show_default=False)] = None


@dataclass(frozen=True)
class ShowOptions(Sight, Place):
    """Which to show, and how many."""

    limit: Annotated[int, ops.option(min=1, help="Most records shown.")] = 10
    as_json: ops.AsJson = False


@dead_letters.command("show")
@flat
def show(options: ShowOptions) -> None:
    """Show dead letters in full: place, error, key, headers, payload.

    Examples:

    orgstats dead-letters show outcomes/3/18236

    orgstats dead-letters show --reason not_json --since -1h --limit 3
    """
    from orgstats.consumer.ops.dead_letters import find

    which = options.filter(options.place, handled=options.everything or bool(options.place))
    found = find(_store(), which, options.limit)
    if options.as_json:
        ops.print_json([one.shown() for one in found])
        return
    for one in found:
        _print_one(one)
    if not found:
        ops.say("no such dead letter")
        raise typer.Exit(1)


def _print_one(letter: "DeadLetter") -> None:
    for name, value in letter.shown().items():
        if value not in ("", []):
            typer.echo(f"{name:<16} {value}")
    typer.echo("")


@dataclass(frozen=True)
class DropOptions(Selection):
    """Which to drop."""

    place: ops.AtPlace = None
    limit: Annotated[int, ops.option(min=1, help="Most records.")] = 1_000_000
    execute: ops.Execute = False


@dead_letters.command("drop")
@flat
def drop(options: DropOptions) -> None:
    """Mark dead letters as done with, so that ls leaves them out; nothing is deleted, ls --all shows them.

    Example: orgstats dead-letters drop --reason empty --until -7d --execute
    """
    from orgstats.consumer.ops.dead_letters import mark, pages
    from orgstats.consumer.store.rules import publisher

    store = _store()
    count = 0
    for page in pages(store, options.filter(options.place), options.limit):
        count += len(page)
        if options.execute:
            mark(store, page, "dropped", publisher())
    typer.echo(f"{count:,} {'dropped' if options.execute else 'would be dropped; add --execute to do it'}")


def _store() -> "Store":
    from orgstats.consumer.ops.connections import store_of
    from orgstats.settings import ClickHouseSettings

    return store_of(ClickHouseSettings.from_env(os.environ).clickhouse_url)


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(dead_letters, name="dead-letters")
