"""`orgstats up`: the whole product on embedded Kafka and ClickHouse."""

import os
import sys
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import typer


class Kafka(StrEnum):
    """Which Kafka the demo runs on."""

    auto = "auto"
    mock = "mock"
    apache = "apache"


def up(
    kafka: Annotated[
        Kafka, typer.Option(help="apache needs Java and Maven, mock nothing; auto: what is here.")
    ] = Kafka.auto,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Made-up events a second.")] = 10.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what earlier runs counted, and their token.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Print settings for the one that runs, for a shell.")] = False,
) -> None:
    """Run everything on this machine: Kafka, ClickHouse, traffic, consumer, API, dashboard.

    Listens on ORGSTATS_LISTEN [default: 127.0.0.1:8000, or another port when that is taken]. Data and logs are
    kept in .local/up. Ctrl-C stops all of it. For trying things out, not for production.

    While it runs, every command works with it after: eval "$(orgstats up --env)"

    Example: orgstats up --fresh --rate 100
    """
    import signal

    if find_spec("chdb") is None:
        raise ModuleNotFoundError(name="chdb")
    from orgstats.deploy.local import up as demo
    from orgstats.deploy.local.paths import cache_dir

    if env:
        typer.echo(demo.environment_of(cache_dir() / "up"))
        return
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job comes with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    demo.up(
        cache_dir() / "up",
        kafka=kafka.value,
        rate=rate,
        listen=os.environ.get("ORGSTATS_LISTEN"),
        fresh=fresh,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)
