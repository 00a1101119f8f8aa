"""`orgstats query`: an organization's counts on a terminal."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.options import flat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orgstats.query.series import Point

    Series = Mapping[int, list[Point]]
    """By id of a project; without a group one series alone."""


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
    by: Annotated[str | None, typer.Option(help="project: one series for each, by its id.", show_default=False)] = None
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

    orgstats query 1 --since -7d --by project
    """
    _check_choices(options)
    if options.by and options.as_plot:
        raise typer.BadParameter("one picture shows one series: give --plot or --by")
    if options.as_json + options.as_csv + options.as_plot > 1:
        raise typer.BadParameter("give at most one of --json, --csv and --plot")
    window = _window(options.since, options.until)
    series = _from_clickhouse(options, *window) if options.url is None else _from_server(options, *window)
    typer.echo(_written_by_project(series, options) if options.by else _written(next(iter(series.values())), options))


def _check_choices(options: QueryOptions) -> None:
    from orgstats.query.series import RESOLUTIONS
    from orgstats.schemas.outcomes import STATS

    for name, given, choices in (
        ("--stat", options.stat, STATS),
        ("--resolution", options.resolution, tuple(RESOLUTIONS)),
        ("--by", options.by, ("project",)),
    ):
        if given is not None and given not in choices:
            raise typer.BadParameter(f"{given!r} is none of {', '.join(choices)}", param_hint=name)


def _window(since: str | None, until: str) -> "tuple[float | None, float]":
    from orgstats.times import parse_time

    now = time.time()
    try:
        return None if since is None else parse_time(since, now), parse_time(until, now)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _from_clickhouse(options: QueryOptions, since: float | None, until: float) -> "Series":
    from orgstats.query.clickhouse import Database
    from orgstats.query.directory import Directory
    from orgstats.query.settings import QuerySettings
    from orgstats.query.stats import read_series, stats_query

    settings = QuerySettings.from_env(os.environ)
    with Database(settings.clickhouse_url, size=1, timeout_seconds=settings.query_timeout_seconds) as database:
        directory = Directory(database)
        org_id = directory.organization(options.organization).org_id
        projects = [one.project_id for one in directory.projects(org_id)] if options.by else None
        query = stats_query(
            org_id, stat=options.stat, since=since, until=until, resolution=options.resolution, projects=projects
        )
        return {} if projects == [] else read_series(database, query)


def _from_server(options: QueryOptions, since: float | None, until: float) -> "Series":
    from orgstats.errors import ConfigurationError
    from orgstats.query.client import Asked, StatsClient

    if not (token := os.environ.get("ORGSTATS_TOKEN")):
        raise ConfigurationError("ORGSTATS_TOKEN: set it to the token to ask with; `orgstats tokens create` makes one")
    asked: Asked = {"stat": options.stat, "since": since, "until": until, "resolution": options.resolution}
    with StatsClient(str(options.url), token) as client:
        if options.by:
            found = client.stats_by_project(options.organization, **asked)
        else:
            found = {0: client.organization_stats(options.organization, **asked)}
    return {key: [(int(start), count) for start, count in stats.points] for key, stats in found.items()}


def _written(points: "list[Point]", options: QueryOptions) -> str:
    """The series in one of the forms; a table ends with its total."""
    import shutil

    from orgstats.query.http import body_of_series
    from orgstats.query.picture import picture
    from orgstats.times import format_time

    if options.as_json:
        return body_of_series(points).content.decode()
    if options.as_csv:
        return "\n".join(["timestamp,count", *(f"{start},{count}" for start, count in points)])
    if options.as_plot:
        return picture(points, columns=shutil.get_terminal_size().columns)
    total = sum(count for _, count in points)
    width = max(len(f"{total:,}"), len(options.stat))
    lines = [f"{format_time(start)}  {count:>{width},}" for start, count in points]
    return "\n".join([f"{'time':<20}  {options.stat:>{width}}", *lines, f"{'total':<20}  {total:>{width},}"])


def _written_by_project(series: "Series", options: QueryOptions) -> str:
    """All points of all projects as JSON or CSV; a table has their totals, the highest first."""
    from orgstats.cli.operating import table
    from orgstats.query.http import body_of_projects

    if options.as_json:
        return body_of_projects(series).content.decode()
    if options.as_csv:
        rows = (f"{key},{start},{count}" for key, points in series.items() for start, count in points)
        return "\n".join(["project,timestamp,count", *rows])
    totals = {key: sum(count for _, count in points) for key, points in series.items()}
    highest = sorted(totals.items(), key=lambda total: (-total[1], total[0]))
    return table(("project", options.stat), [(str(key), total) for key, total in highest])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(query)
