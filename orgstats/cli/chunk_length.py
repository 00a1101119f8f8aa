"""`orgstats chunk-length`: how long the chunks of partitions are, and how to change that while they are counted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.consumer.ops.chunk_length import LengthChange

chunk_length = typer.Typer(no_args_is_help=True, help="How long the chunks of partitions are, and changes of it.")


@dataclass(frozen=True, kw_only=True)
class ListOptions(ops.OnTopics):
    """Which partitions."""

    partitions: ops.Partitions = None
    as_json: ops.AsJson = False


@dataclass(frozen=True, kw_only=True)
class SetOptions(ops.OnTopics):
    """Which length, and for which partitions."""

    length: Annotated[int, typer.Argument(help="Offsets in a chunk, a power of two.", show_default=False)]
    partitions: ops.Partitions = None
    execute: ops.Execute = False


@dataclass(frozen=True, kw_only=True)
class VoidOptions(ops.OnTopics):
    """Which change."""

    entry_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, see ls.", show_default=False)]
    execute: ops.Execute = False


@chunk_length.command("ls")
@flat
def list_lengths(options: ListOptions) -> None:
    """List the chunk lengths of partitions, and every change of them.

    Example: orgstats chunk-length ls --topic outcomes
    """
    from orgstats.consumer.ops.chunk_length import ls
    from orgstats.consumer.ops.connections import locate
    from orgstats.consumer.store.chunk_lengths import State

    connections, partitions = options.connections(), ops.partitions_of(options.partitions)
    rows = [
        (one.name, 0, one.grid.length_at(0), "registered", "", "")
        for one in locate(connections, partitions)
        if one.registration
    ]
    rows += [
        (one.name, row.from_offset, row.length, State(row.state).name.lower().replace("_", " "), row.entry_id, row.by)
        for one, row in ls(connections, partitions)
    ]
    rows.sort(key=lambda row: (row[0].rpartition("/")[0], int(row[0].rpartition("/")[2]), row[1]))
    names = ("partition", "from offset", "length", "state", "id", "by")
    if options.as_json:
        ops.print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        typer.echo(ops.table(names, rows))


@chunk_length.command("set")
@flat
def set_length(options: SetOptions) -> None:
    """Give partitions another chunk length, from an offset on that they have not come to yet.

    Consumers go on meanwhile. The offset lies some chunks beyond the end of the log, so that each of them knows the
    new length before it gets there.

    Example: orgstats chunk-length set 1048576 --topic outcomes --execute
    """
    from orgstats.consumer.ops.chunk_length import execute, plan
    from orgstats.consumer.store.rules import publisher

    connections = options.connections()
    changes: list[LengthChange] = []
    for one in plan(connections, ops.partitions_of(options.partitions), options.length):
        if isinstance(one, str):
            ops.say(one)
        else:
            changes.append(one)
    for change in changes:
        told = (
            f"{change.located.name}: chunks of {change.length:,} instead of {change.before:,} offsets from offset "
            f"{change.from_offset:,} on, {change.ahead:,} beyond the end of the log"
        )
        if options.execute:
            told = f"{told}: change {execute(connections, change, publisher())} is decided"
        typer.echo(told)
    if changes and not options.execute:
        ops.say("add --execute to do it")


@chunk_length.command("void")
@flat
def void_change(options: VoidOptions) -> None:
    """Take back a change that is only proposed, as a command leaves it that was killed.

    Example: orgstats chunk-length void 0f3a9c5d11e2b467 --execute
    """
    from orgstats.consumer.ops.chunk_length import void

    row = void(options.connections(), options.entry_id, execute=options.execute)
    told = "taken back" if row.state else "would be taken back; add --execute to do it"
    typer.echo(f"change {row.entry_id} to {row.length:,} from offset {row.from_offset:,} on: {told}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(chunk_length, name="chunk-length")
