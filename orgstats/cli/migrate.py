"""`orgstats migrate`: the tables."""

import os
from typing import Annotated

import typer


def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Print the statements; change nothing.")] = False,
    retention_days: Annotated[
        int | None,
        typer.Option(
            help="Days that counts are kept, 0 for ever [default: as it is; 90 at first].", show_default=False
        ),
    ] = None,
    shorten: Annotated[
        bool, typer.Option("--shorten-retention", help="Let a shorter retention delete counts; says which first.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(help="Make the tables on every server of this cluster [default: one server].", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was done before: for servers that joined the cluster since.")
    ] = False,
) -> None:
    """Make or bring up to date ClickHouse's tables and how long counts are kept.

    May be run at any time, also by several at once, and again after it was interrupted. ClickHouse's address is
    ORGSTATS_CLICKHOUSE_URL; ORGSTATS_RETENTION_DAYS and ORGSTATS_CLUSTER stand for the options of that name.
    Without a retention the tables keep the one that they have.

    Example: orgstats migrate --plan
    """
    from orgstats.schemas.migrate import MigrateSettings, Servers
    from orgstats.schemas.migrate import migrate as bring_up_to_date

    settings = MigrateSettings.from_env(os.environ, retention_days=retention_days, cluster=cluster)
    steps = bring_up_to_date(
        settings.clickhouse_url,
        retention_days=settings.retention_days,
        servers=Servers(settings.cluster, again),
        plan_only=plan,
        shorten=shorten,
        announce=lambda text: typer.echo(text, err=True),
    )
    for step in steps:
        if plan:
            deletes = (f"-- deletes, with --shorten-retention: {step.deletes}",) if step.deletes else ()
            statements = (f"{statement};" for statement in step.statements)
            print(f"-- {step.title}", *deletes, *statements, sep="\n", end="\n\n")
        else:
            print(f"done: {step.title}")
    if not steps:
        typer.echo("nothing to do: the tables have all that this version needs", err=True)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)
