"""`orgstats generate`: made-up outcomes traffic."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.options import flat

if TYPE_CHECKING:
    from threading import Event

    from orgstats.deploy.traffic import Mix, Record


@dataclass(frozen=True)
class GenerateOptions:
    """What to make up, and where to send it."""

    bootstrap_servers: Annotated[str | None, typer.Option(help="Kafka's addresses.", show_default=False)] = None
    topic: Annotated[str | None, typer.Option(help="Topic to write to.", show_default=False)] = None
    count: Annotated[
        int | None, typer.Option(min=1, help="Records [default: 100,000 for a range, else without end].")
    ] = None
    rate: Annotated[float | None, typer.Option(min=0.1, help="Records a second [default: as fast as it goes].")] = None
    follow: Annotated[
        bool,
        typer.Option("--follow", help="With --since and --rate, a day's average: catch up with the present and go on."),
    ] = False
    fastest: Annotated[float | None, typer.Option(min=1, help="With --follow: not faster than this.")] = None
    since: Annotated[
        str | None, typer.Option(help="Events of a range of time: epoch seconds, RFC 3339 or -2h [default: now].")
    ] = None
    until: Annotated[str, typer.Option(help="End of that range.")] = "now"
    seed: Annotated[int, typer.Option(help="The same seed and range give the same records.")] = 1
    organizations: Annotated[int, typer.Option(min=1, help="Organizations 1 to N; a few have most events.")] = 1000
    broken: Annotated[float, typer.Option(min=0, max=1, help="Share of records that cannot be decoded.")] = 0.001
    unkeyed: Annotated[bool, typer.Option("--unkeyed", help="Spread organizations over partitions.")] = False
    example: Annotated[
        bool, typer.Option("--example", help="The documented example instead: 172,100 events of one organization.")
    ] = False
    org_id: Annotated[int, typer.Option(min=0, help="The organization of --example.")] = 1


@flat
def generate(options: GenerateOptions) -> None:
    """Write made-up outcomes to a topic; a summary as JSON goes to stdout.

    Exit code 69 when Kafka is away or did not take every record.

    Examples:

    orgstats generate --rate 500

    orgstats generate --count 1000000 --since -24h --seed 7
    """
    import json
    import signal
    from threading import Event

    from orgstats.deploy.generate import GenerateSettings, send
    from orgstats.deploy.traffic import documented_example
    from orgstats.errors import Unavailable

    settings = GenerateSettings.from_env(
        os.environ,
        bootstrap_servers=options.bootstrap_servers,
        topic=(options.topic,) if options.topic else None,
    )
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if options.example:
        found = documented_example(options.seed, options.org_id)
    else:
        found = _live(options, stop) if options.since is None else _range(options, options.since, stop)
    with _progress() as progress:
        summary = send(found, settings, stop=stop, progress=progress)
    typer.echo(json.dumps(summary.as_dict()))
    if summary.failed:
        raise Unavailable(f"Kafka did not take {summary.failed} records")


def _mix(options: GenerateOptions) -> "Mix":
    from orgstats.deploy.traffic import Mix

    return Mix(organizations=options.organizations, broken=options.broken, keyed=not options.unkeyed)


def _live(options: GenerateOptions, stop: "Event") -> "Iterator[Record]":
    from orgstats.deploy.generate import live
    from orgstats.deploy.traffic import records

    return records(options.seed, live(options.rate, options.count, stop), _mix(options))


def _range(options: GenerateOptions, since: str, stop: "Event") -> "Iterator[Record]":
    from orgstats.deploy.generate import following, paced
    from orgstats.deploy.traffic import day_and_night, records
    from orgstats.times import parse_time

    now = time.time()
    try:
        if options.follow:
            if options.rate is None:
                raise typer.BadParameter("it needs --rate", param_hint="--follow")
            slots = following(parse_time(since, now), options.rate, options.fastest, stop)
            return records(options.seed, slots, _mix(options))
        slots = day_and_night(options.count or 100_000, parse_time(since, now), parse_time(options.until, now))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return records(options.seed, slots if options.rate is None else paced(slots, options.rate, stop), _mix(options))


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Talk on stderr: a moving line on a terminal, else a line every ten seconds."""
    if not sys.stderr.isatty():
        said = [time.monotonic()]

        def say(sent: int) -> None:
            if time.monotonic() - said[0] >= 10:
                said[0] = time.monotonic()
                print(f"{sent} records", file=sys.stderr)

        yield say
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} records"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda sent: bar.update(task, completed=sent)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(generate)
