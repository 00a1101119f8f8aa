"""`orgstats query`: an organization's counts on a terminal."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.query.series import Point


@dataclass(frozen=True)
class QueryOptions:
    """Whose events, which, when, and how they are shown."""

    organization: Annotated[str, typer.Argument(help="Slug or id.", show_default=False)]
    stat: Annotated[str, typer.Option(help="received, rejected, blacklisted or generated.")] = "received"
    since: Annotated[
        str | None, typer.Option(help="Start: epoch seconds, RFC 3339 or -2h; default: a day before until.")
    ] = None
    until: Annotated[str, typer.Option(help="End, in the last bucket.")] = "now"
    resolution: Annotated[
        str | None, typer.Option(help="10s, 1h or 1d; default: the finest for the range.", show_default=False)
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="As the endpoint answers.")] = False
    as_csv: Annotated[bool, typer.Option("--csv", help="As comma-separated values, with a header line.")] = False
    as_plot: Annotated[bool, typer.Option("--plot", help="As a picture.")] = False
    url: Annotated[
        str | None,
        typer.Option(help="Ask this server with the token in ORGSTATS_TOKEN, not ClickHouse.", show_default=False),
    ] = None


@flat
def query(options: QueryOptions) -> None:
    """Show how many events an organization had.

    Asks the ClickHouse of ORGSTATS_CLICKHOUSE_URL directly, or with --url a server.

    Examples:

    orgstats query the-interstellar-jurisdiction --since -2h --plot

    orgstats query 1 --stat rejected --since 2020-03-21 --until 2020-03-28 --resolution 1d --csv
    """
    if options.as_json + options.as_csv + options.as_plot > 1:
        raise typer.BadParameter("give at most one of --json, --csv and --plot")
    window = _window(options.since, options.until)
    asked = (options.organization, options.stat, window, options.resolution)
    points = _from_clickhouse(*asked) if options.url is None else _from_server(options.url, *asked)
    form = "json" if options.as_json else "csv" if options.as_csv else "plot" if options.as_plot else "table"
    typer.echo(_written(points, form))


def _window(since: str | None, until: str) -> "tuple[float | None, float]":
    from orgstats.times import parse_time

    now = time.time()
    try:
        return None if since is None else parse_time(since, now), parse_time(until, now)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _from_clickhouse(
    organization: str, stat: str, window: "tuple[float | None, float]", resolution: str | None
) -> "list[Point]":
    from orgstats.query.clickhouse import Database
    from orgstats.query.directory import Directory
    from orgstats.query.settings import QuerySettings
    from orgstats.query.stats import organization_stats

    settings = QuerySettings.from_env(os.environ)
    since, until = window
    with Database(settings.clickhouse_url, size=1, timeout_seconds=settings.query_timeout_seconds) as database:
        org_id = Directory(database).organization(organization).org_id
        return organization_stats(database, org_id, stat=stat, since=since, until=until, resolution=resolution)


def _from_server(
    url: str, organization: str, stat: str, window: "tuple[float | None, float]", resolution: str | None
) -> "list[Point]":
    from orgstats.errors import ConfigurationError
    from orgstats.query.client import StatsClient
    from orgstats.query.params import parse_stat

    if not (token := os.environ.get("ORGSTATS_TOKEN")):
        raise ConfigurationError("ORGSTATS_TOKEN: set it to the token to ask with; `orgstats tokens create` makes one")
    since, until = window
    with StatsClient(url, token) as client:
        stats = client.organization_stats(
            organization, stat=parse_stat(stat), since=since, until=until, resolution=resolution
        )
    return [(int(start), count) for start, count in stats.points]


def _written(points: "list[Point]", form: str) -> str:
    """The series in one of the forms; a table ends with its total."""
    import shutil

    from orgstats.query.http import body_of_series
    from orgstats.query.picture import picture
    from orgstats.times import format_time

    if form == "json":
        return body_of_series(points).content.decode()
    if form == "csv":
        return "\n".join(["timestamp,count", *(f"{start},{count}" for start, count in points)])
    if form == "plot":
        return picture(points, columns=shutil.get_terminal_size().columns)
    total = sum(count for _, count in points)
    width = len(f"{total:,}")
    lines = [f"{format_time(start)}  {count:>{width},}" for start, count in points]
    return "\n".join([*lines, f"{'total':<20}  {total:>{width},}"])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(query)
