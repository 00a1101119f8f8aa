"""`orgstats lag`: how far behind counting is."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.consumer.ops.lag import Lag


@dataclass(frozen=True)
class LagOptions(ops.OnTopics):
    """What to look at, and how often."""

    group: ops.Group = None
    partitions: ops.Partitions = None
    watch: Annotated[bool, ops.option("--watch", help="Again and again, until Ctrl-C.")] = False
    interval: Annotated[float, ops.option(min=0, help="Seconds between two looks, for the rate; 0: one look.")] = 2.0
    as_json: ops.AsJson = False


@flat
def lag(options: LagOptions) -> None:
    """Show for each partition the position, the end, records and seconds behind, and the retention deadline.

    The position is what is stored. `deadline` is the time at which retention would delete uncounted records if
    counting stood still. `hidden` of the records behind lie behind the first one of a transaction that is not ended:
    nobody may read them yet. Every option has an environment variable, as ORGSTATS_LAG_INTERVAL.

    Example: orgstats lag --topic outcomes --watch
    """
    from orgstats.consumer.ops.lag import lag as look

    connections = options.connections(options.group)
    wanted = ops.partitions_of(options.partitions)
    with ops.stopping() as stopped:
        began = time.monotonic()
        found = look(connections, wanted)
        while not stopped():
            if options.interval:
                _wait(options.interval, stopped)
                now = time.monotonic()
                found, began = look(connections, wanted, found, now - began), now
            _print(found, as_json=options.as_json, clear=options.watch)
            if not options.watch:
                return


def _wait(seconds: float, stopped: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not stopped() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(0.1, left))


def _print(found: "list[Lag]", *, as_json: bool, clear: bool) -> None:
    from orgstats.times import format_time

    if as_json:
        ops.print_json([one.shown() for one in found])
        return
    if clear and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        typer.echo("\033[2J\033[H", nl=False)
    rows = [
        (
            f"{one.topic}/{one.partition}",
            "-" if one.position is None else f"{one.position:,}",
            one.end,
            one.behind,
            "?" if one.behind_seconds is None else f"{one.behind_seconds:,.0f} s",
            "-" if one.open_chunk is None else f"{one.open_chunk:,}",
            f"{one.produced_rate:,.0f}/s",
            "-" if one.counted_rate is None else f"{one.counted_rate:,.0f}/s",
            "never" if one.retention_deadline is None else format_time(one.retention_deadline),
            one.open_transaction,
        )
        for one in found
    ]
    names = ("partition", "position", "end", "behind", "time", "chunk", "produced", "counted", "deadline", "hidden")
    typer.echo(ops.table(names, rows))
    typer.echo(f"{format_time(time.time())}  {sum(one.behind for one in found):,} records behind")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_LAG"})(lag)
