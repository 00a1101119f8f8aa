"""`orgstats query`: an organization's counts on a terminal."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.query.clickhouse import Database
    from orgstats.query.client import StatsClient, Usage, UsageAsked
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
        str | None,
        typer.Option(help="10s, 1h or 1d, with --by 1m to 1d; default: the finest for the range.", show_default=False),
    ] = None
    by: Annotated[
        str | None,
        typer.Option(help="outcome, category, reason, project or key_id, or several with commas.", show_default=False),
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

    With --by the groups of `stats_v2`: totals as a table, the highest first; each interval too as JSON or CSV, but not
    by project. Since and until are widened to whole intervals. By outcome, `received` is every outcome; all categories
    are shown by category, else only errors.

    Examples:

    orgstats query the-interstellar-jurisdiction --since -2h --plot

    orgstats query 1 --stat rejected --since 2020-03-21 --until 2020-03-28 --resolution 1d --csv

    orgstats query 1 --since -7d --by outcome,category
    """
    _check_choices(options)
    if options.by and options.as_plot:
        raise typer.BadParameter("one picture shows one series: give --plot or --by")
    if options.as_json + options.as_csv + options.as_plot > 1:
        raise typer.BadParameter("give at most one of --json, --csv and --plot")
    window = _window(options.since, options.until)
    if options.by:
        asked = _asked(options, *window)
        usage = _usage_from_clickhouse(options, asked) if options.url is None else _usage_from_server(options, asked)
        typer.echo(_written_usage(usage, options))
    else:
        points = _from_clickhouse(options, *window) if options.url is None else _from_server(options, *window)
        typer.echo(_written(points, options))


def _check_choices(options: QueryOptions) -> None:
    from orgstats.query.series import RESOLUTIONS
    from orgstats.query.usage import GROUPS
    from orgstats.schemas.outcomes import STATS

    resolutions = None if options.by else options.resolution  # of groups there are many
    for name, given, choices in (
        ("--stat", [options.stat], STATS),
        ("--resolution", [resolutions] if resolutions else [], tuple(RESOLUTIONS)),
        ("--by", options.by.split(",") if options.by is not None else [], GROUPS),
    ):
        for one in given:
            if one not in choices:
                raise typer.BadParameter(f"{one!r} is none of {', '.join(choices)}", param_hint=name)


def _window(since: str | None, until: str) -> "tuple[float | None, float]":
    from orgstats.times import parse_time

    now = time.time()
    try:
        return None if since is None else parse_time(since, now), parse_time(until, now)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _asked(options: QueryOptions, since: float | None, until: float) -> "UsageAsked":
    """What --by asks for, of ClickHouse and of a server alike."""
    from orgstats.query.params import parse_stat
    from orgstats.query.usage import MAX_INTERVALS
    from orgstats.schemas.outcomes import DAY_SECONDS, STAT_OUTCOMES
    from orgstats.times import UNIT_SECONDS

    groups = str(options.by).split(",")
    start = max(0.0, until - DAY_SECONDS) if since is None else since
    fitting = (unit for unit in "mh" if (until - start) / UNIT_SECONDS[unit] + 2 <= MAX_INTERVALS)
    asked: UsageAsked = {
        "groups": groups,
        "start": start,
        "end": until,
        "interval": options.resolution or f"1{next(fitting, 'd')}",
    }
    if "outcome" not in groups or options.stat != "received":
        asked["outcomes"] = [outcome.name for outcome in STAT_OUTCOMES[parse_stat(options.stat)]]
    if "category" not in groups:
        asked["categories"] = ["error"]
    return asked


def _database() -> "Database":
    from orgstats.query.clickhouse import Database
    from orgstats.query.settings import QuerySettings

    settings = QuerySettings.from_env(os.environ)
    return Database(settings.clickhouse_url, size=1, timeout_seconds=settings.query_timeout_seconds)


def _from_clickhouse(options: QueryOptions, since: float | None, until: float) -> "list[Point]":
    from orgstats.query.directory import Directory
    from orgstats.query.stats import organization_stats

    with _database() as database:
        org_id = Directory(database).organization(options.organization).org_id
        return organization_stats(
            database, org_id, stat=options.stat, since=since, until=until, resolution=options.resolution
        )


def _usage_from_clickhouse(options: QueryOptions, asked: "UsageAsked") -> "Usage":
    from orgstats.query import sql
    from orgstats.query.client import read_usage, usage_parameters
    from orgstats.query.directory import Directory
    from orgstats.query.usage import groups_of, parse_usage

    given = {name: [value] if isinstance(value, str) else value for name, value in usage_parameters(asked).items()}
    pairs = [(name, value) for name, values in given.items() for value in values]
    with _database() as database:
        org_id = Directory(database).organization(options.organization).org_id
        query = parse_usage(org_id, pairs, time.time())
        return read_usage(groups_of(query, database.read(sql.usage(query))))


def _client(options: QueryOptions) -> "StatsClient":
    from orgstats.errors import ConfigurationError
    from orgstats.query.client import StatsClient

    if not (token := os.environ.get("ORGSTATS_TOKEN")):
        raise ConfigurationError("ORGSTATS_TOKEN: set it to the token to ask with; `orgstats tokens create` makes one")
    return StatsClient(str(options.url), token)


def _from_server(options: QueryOptions, since: float | None, until: float) -> "list[Point]":
    with _client(options) as client:
        stats = client.organization_stats(
            options.organization, stat=options.stat, since=since, until=until, resolution=options.resolution
        )
    return [(int(start), count) for start, count in stats.points]


def _usage_from_server(options: QueryOptions, asked: "UsageAsked") -> "Usage":
    with _client(options) as client:
        return client.usage(options.organization, **asked)


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


def _written_usage(usage: "Usage", options: QueryOptions) -> str:
    """As JSON or CSV each group and interval; a table has the totals of the groups, the highest first."""
    import csv
    import io
    import json

    from orgstats.cli.operating import table
    from orgstats.query.usage import FIELDS, GROUPS

    if options.as_json:
        return json.dumps(_answer(usage))
    groups = [group for group in GROUPS if group in str(options.by).split(",")]
    totals = [(*group.by.values(), group.totals[FIELDS[0]]) for group in usage.groups]
    if not options.as_csv:
        rows = [(*map(_shown, by), total) for *by, total in sorted(totals, key=lambda row: -int(row[-1]))]
        return table((*groups, "count"), rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if "project" in groups:
        writer.writerows([(*groups, "count"), *totals])
    else:
        writer.writerow((*groups, "timestamp", "count"))
        for group in usage.groups:
            for start, count in zip(usage.intervals, group.series[FIELDS[0]], strict=True):
                writer.writerow((*group.by.values(), start, count))
    return out.getvalue().removesuffix("\n")


def _shown(value: str | int) -> str:
    """Reasons are what producers write: no terminal is told to do anything by one."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(value))


def _answer(usage: "Usage") -> dict[str, object]:
    """The body of `stats_v2` that it was read from."""
    from orgstats.times import format_time

    answer: dict[str, object] = {"start": format_time(usage.start), "end": format_time(usage.end)}
    if usage.intervals:
        answer["intervals"] = [format_time(start) for start in usage.intervals]
    answer["groups"] = [
        {"by": one.by, "totals": one.totals} | ({"series": one.series} if one.series else {}) for one in usage.groups
    ]
    return answer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(query)
