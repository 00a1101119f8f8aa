"""What the operators' commands share: their options, the servers they work with, tables, and stopping in order."""

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orgstats.consumer.ops.connections import Connections
    from orgstats.consumer.ops.findings import Finding

option = partial(typer.Option, show_envvar=False)
"""An option; that each has an environment variable is said once in the command's help, not beside each."""

BootstrapServers = Annotated[
    str | None,
    option("--bootstrap-servers", "--bootstrap-server", help="Kafka's addresses.", show_default=False),
]
Topics = Annotated[list[str] | None, option("--topic", help="Topic; may be repeated; default: ORGSTATS_TOPIC.")]
Group = Annotated[str | None, option(help="The consumers' group; default: ORGSTATS_GROUP.")]
Partitions = Annotated[str | None, option(help="Partitions, as 0,3,5-7; default: all.", show_default=False)]
Since = Annotated[str | None, option(help="Kafka timestamp from: epoch seconds, RFC 3339 or -2h.")]
Until = Annotated[str | None, option(help="Kafka timestamp before which it ends.")]
AtPlace = Annotated[str | None, option("--place", help="Only topic/partition/offset.", show_default=False)]
Execute = Annotated[bool, option("--execute/--dry-run", help="Do it, instead of saying what it would do.")]
AsJson = Annotated[bool, option("--json", help="As JSON.")]


@dataclass(frozen=True)
class OnTopics:
    """Which servers and topics a command works with; what flags do not say comes from the environment."""

    bootstrap_servers: BootstrapServers = None
    topic: Topics = None

    def connections(self, group: str | None = None) -> "Connections":
        """Connections to them; nothing is asked yet."""
        from orgstats.consumer.ops.connections import open_connections
        from orgstats.consumer.settings import ConsumerSettings

        return open_connections(
            ConsumerSettings.from_env(
                os.environ,
                bootstrap_servers=self.bootstrap_servers,
                topic=tuple(self.topic) if self.topic else None,
                group=group,
            ),
            cache(say),  # once, however often a command looks
        )


@dataclass(frozen=True)
class OnDatabase:
    """Which tables SQL is printed for; what flags do not say comes from the environment. Nothing is asked of them."""

    database: Annotated[str | None, option(help="Default: that of ORGSTATS_CLICKHOUSE_URL.", show_default=False)] = None
    cluster: Annotated[
        str | None, option(help="The tables are on this cluster; default: ORGSTATS_CLUSTER.", show_default=False)
    ] = None

    def place(self) -> tuple[str, str]:
        """Database, and cluster, empty for a single server; raises BadParameter when no database is named."""
        from orgstats.clickhouse.url import parse

        url = os.environ.get("ORGSTATS_CLICKHOUSE_URL", "")
        database = self.database or (parse(url).database if url else "")
        if not database:
            raise typer.BadParameter("name it, or set ORGSTATS_CLICKHOUSE_URL", param_hint="--database")
        return database, os.environ.get("ORGSTATS_CLUSTER", "") if self.cluster is None else self.cluster


def partitions_of(text: str | None) -> tuple[int, ...] | None:
    """Numbers of `0,3,5-7`; raises BadParameter."""
    if text is None:
        return None
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise typer.BadParameter(f"{part!r} is not a partition or a range of them, as 0,3,5-7")
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def epoch_ms(text: str | None, option: str) -> int | None:
    """Epoch milliseconds of a time on the command line."""
    from orgstats.times import parse_time

    if text is None:
        return None
    try:
        return round(parse_time(text, time.time()) * 1000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns under their names; numbers to the right."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(names))]
    lines = [
        "  ".join(
            cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (list(names), *texts)
    ]
    return "\n".join(lines)


def print_list(names: Sequence[str], rows: Sequence[Sequence[object]], *, long: Collection[str] = ()) -> None:
    """What a list has: aligned columns on a terminal, without those that are too `long` for it; else for programs,
    all of them, tab-separated under their names.
    """
    if not sys.stdout.isatty():
        for row in (names, *rows):
            typer.echo("\t".join(map(str, row)))
        return
    kept = [at for at, name in enumerate(names) if name not in long]
    typer.echo(table([names[at] for at in kept], [[str(row[at]) for at in kept] for row in rows]))


def say(*lines: str) -> None:
    """Talk, to stderr."""
    for line in lines:
        typer.echo(line, err=True)


def print_json(value: object) -> None:
    """Data, to stdout."""
    import json

    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def print_findings(found: "Iterable[Finding]") -> None:
    """One line each, with the remedy below."""
    for one in found:
        typer.echo(f"{one.level:<4}  {one.what}")
        if one.remedy:
            typer.echo(f"      -> {one.remedy}")


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; the second one ends the process at once."""
    asked: list[int] = []

    def stop(signum: int, _frame: FrameType | None) -> None:
        if asked:
            os._exit(130)
        asked.append(signum)
        say("stopping after what is under way; once more ends at once")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], Any]]:
    """Takes how many more are done; draws on a terminal only, with the time left."""
    if not sys.stderr.isatty():
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
