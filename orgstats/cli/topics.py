"""`orgstats topics`: which topics the endpoint's completeness waits for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.operating import print_list

if TYPE_CHECKING:
    from orgstats.query.clickhouse import Database

topics = typer.Typer(no_args_is_help=True, help="Topics that were counted, and those that nobody waits for.")
Name = Annotated[str, typer.Argument(help="The topic.")]


@contextmanager
def _database() -> "Iterator[Database]":
    from orgstats.query.clickhouse import Database
    from orgstats.query.settings import QuerySettings

    with Database(QuerySettings.from_env(os.environ).clickhouse_url, size=1) as database:
        yield database


@topics.command("ls")
def list_topics() -> None:
    """List every topic that was ever counted: name, partitions, complete until, state.

    Example: orgstats topics ls
    """
    from orgstats.query.topics import topics as found
    from orgstats.times import format_time

    with _database() as database:
        rows: list[tuple[object, ...]] = [
            (
                one.name,
                one.partitions,
                format_time(one.complete_until_ms // 1000) if one.complete_until_ms else "unknown",
                "retired" if one.retired else "counted" if one.is_counted else "not counted",
            )
            for one in found(database)
        ]
    print_list(("topic", "partitions", "complete until", "state"), rows)


@topics.command("retire")
def retire_topic(name: Name) -> None:
    """Stop waiting for a topic that nobody produces to any more: X-Stats-Complete-Until goes on without it.

    Its counts stay. Counted again as a new topic it is waited for again. Refused while it is being counted.

    Example: orgstats topics retire outcomes-old
    """
    from orgstats.query.topics import retire

    with _database() as database:
        retire(database, name)


@topics.command("unretire")
def unretire_topic(name: Name) -> None:
    """Wait for a retired topic again.

    Example: orgstats topics unretire outcomes-old
    """
    from orgstats.query.topics import take_back

    with _database() as database:
        take_back(database, name)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(topics, name="topics")
