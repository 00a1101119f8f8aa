"""`orgstats orgs` and `orgstats projects`: who can be asked about."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orgstats.query.directory import Directory

orgs = typer.Typer(no_args_is_help=True, help="Organizations that can be asked about.")
projects = typer.Typer(no_args_is_help=True, help="Projects of an organization.")


@contextmanager
def directory() -> "Iterator[Directory]":
    """The directory in the ClickHouse of ORGSTATS_CLICKHOUSE_URL."""
    from orgstats.query.clickhouse import Database
    from orgstats.query.directory import Directory
    from orgstats.query.settings import QuerySettings

    with Database(QuerySettings.from_env(os.environ).clickhouse_url, size=1) as database:
        yield Directory(database)


def show(rows: list[tuple[object, ...]], names: tuple[str, ...]) -> None:
    """Rows as tab-separated lines under their names; the names only on a terminal, so pipes get data alone."""
    if os.isatty(1):
        typer.echo("\t".join(names))
    for row in rows:
        typer.echo("\t".join(map(str, row)))


@orgs.command("add")
def add_organization(
    slug: Annotated[str, typer.Argument(help="Its name in URLs: a-z, 0-9, - and _.")],
    org_id: Annotated[
        int | None, typer.Option("--id", help="The id that events carry; default: the next free.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="Its name for people.", show_default=False)] = "",
) -> None:
    """Add an organization, or rename the one with this id; prints its id.

    Example: orgstats orgs add the-interstellar-jurisdiction --id 1 --name "The Interstellar Jurisdiction"
    """
    with directory() as where:
        added = where.add_organization(slug, name=name, org_id=org_id, now=time.time())
    typer.echo(added.org_id)


@orgs.command("ls")
def list_organizations() -> None:
    """List all organizations: id, slug, name.

    Example: orgstats orgs ls
    """
    with directory() as where:
        rows = where.organizations()
    show([(row.org_id, row.slug, row.name) for row in rows], ("id", "slug", "name"))


@projects.command("add")
def add_project(
    organization: Annotated[str, typer.Argument(help="The organization's slug or id.")],
    slug: Annotated[str, typer.Argument(help="The project's name in URLs.")],
    project_id: Annotated[
        int | None, typer.Option("--id", help="The id that events carry; default: the next free.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="Its name for people.", show_default=False)] = "",
) -> None:
    """Add a project, or rename the one with this id; prints its id.

    Example: orgstats projects add the-interstellar-jurisdiction pump-station --id 11
    """
    with directory() as where:
        org_id = where.organization(organization).org_id
        added = where.add_project(org_id, slug, name=name, project_id=project_id, now=time.time())
    typer.echo(added.project_id)


@projects.command("ls")
def list_projects(organization: Annotated[str, typer.Argument(help="The organization's slug or id.")]) -> None:
    """List an organization's projects: id, slug, name.

    Example: orgstats projects ls the-interstellar-jurisdiction
    """
    with directory() as where:
        rows = where.projects(where.organization(organization).org_id)
    show([(row.project_id, row.slug, row.name) for row in rows], ("id", "slug", "name"))


def register(app: typer.Typer) -> None:
    """Add both groups of commands."""
    app.add_typer(orgs, name="orgs")
    app.add_typer(projects, name="projects")
