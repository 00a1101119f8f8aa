"""`orgstats serve`: the HTTP side."""

import os
from typing import Annotated

import typer


def serve(
    listen: Annotated[
        str | None, typer.Option(help="host:port of the API; default: 127.0.0.1:8000.", show_default=False)
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(help="host:port for /metrics instead of the API's.", show_default=False)
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error; default: info.", show_default=False)
    ] = None,
) -> None:
    """Answer requests for counts until stopped.

    Every setting has an environment variable, ORGSTATS_ and its name; ClickHouse's address, which holds a
    password, has only that: ORGSTATS_CLICKHOUSE_URL. SIGTERM: say not ready, answer what is under way, exit 0.

    Example: orgstats serve --listen 0.0.0.0:8000 --metrics-listen 127.0.0.1:9109
    """
    from orgstats.query.server import run
    from orgstats.query.settings import QuerySettings

    run(QuerySettings.from_env(os.environ, listen=listen, metrics_listen=metrics_listen, log_level=log_level))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)
