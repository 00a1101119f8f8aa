"""`orgstats orgs` and `orgstats projects`: who can be asked about."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.erase import erase
from orgstats.cli.operating import print_list
from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.query.directory import Directory, Wanted

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


@dataclass(frozen=True)
class Named:
    """A slug, and what may be said beside it."""

    slug: Annotated[str, typer.Argument(help="The name in URLs: a-z, 0-9, - and _.", show_default=False)]
    key: Annotated[
        int | None,
        typer.Option("--id", help="The id that events carry; default: the next free without any.", show_default=False),
    ] = None
    name: Annotated[str, typer.Option(help="The name for people; default: the slug.", show_default=False)] = ""
    rename: Annotated[
        bool, typer.Option("--rename", help="The one with this id or slug may get another slug or name.")
    ] = False

    def wanted(self) -> "Wanted":
        """As the directory takes it."""
        from orgstats.query.directory import Wanted

        return Wanted(self.slug, self.name, self.key, self.rename)


@dataclass(frozen=True)
class InOrganization:
    """Where a project is."""

    organization: Annotated[str, typer.Argument(help="The organization's slug or id.", show_default=False)]


@dataclass(frozen=True)
class NamedProject(Named, InOrganization):
    """A project to add."""


@orgs.command("add")
@flat
def add_organization(options: Named) -> None:
    """Add an organization; prints its id, and on stderr what was done.

    One that is there already is left as it is; another slug or name for it needs --rename.

    Example: orgstats orgs add the-interstellar-jurisdiction --id 1 --name "The Interstellar Jurisdiction"
    """
    with directory() as where:
        added, change = where.add_organization(options.wanted(), time.time())
    typer.echo(added.org_id)
    typer.echo(f"Organization {added.org_id}, {added.slug} ({added.name}): {change}.", err=True)


@orgs.command("rm")
def remove_organization(organization: Annotated[str, typer.Argument(help="Its slug or id.")]) -> None:
    """Remove an organization and revoke its tokens; serving processes notice within 30 seconds.

    Its counts and the names of its projects stay: added again by its id, it has them again.

    Example: orgstats orgs rm the-interstellar-jurisdiction
    """
    with directory() as where:
        removed, tokens = where.remove_organization(organization, time.time())
    typer.echo(f"Organization {removed.org_id}, {removed.slug}: removed, {tokens} tokens revoked.", err=True)


@orgs.command("ls")
def list_organizations() -> None:
    """List all organizations: id, slug, name.

    Example: orgstats orgs ls
    """
    with directory() as where:
        rows = where.organizations()
    print_list(("id", "slug", "name"), [(row.org_id, row.slug, row.name) for row in rows])


@projects.command("add")
@flat
def add_project(options: NamedProject) -> None:
    """Add a project; prints its id, and on stderr what was done. As with `orgs add` only --rename changes one.

    Example: orgstats projects add the-interstellar-jurisdiction pump-station --id 11
    """
    with directory() as where:
        org_id = where.organization_to_change(options.organization).org_id
        added, change = where.add_project(org_id, options.wanted(), time.time())
    typer.echo(added.project_id)
    typer.echo(f"Project {added.project_id}, {added.slug} ({added.name}): {change}.", err=True)


@projects.command("ls")
def list_projects(organization: Annotated[str, typer.Argument(help="The organization's slug or id.")]) -> None:
    """List an organization's projects: id, slug, name.

    Example: orgstats projects ls the-interstellar-jurisdiction
    """
    with directory() as where:
        rows = where.projects(where.organization(organization).org_id)
    print_list(("id", "slug", "name"), [(row.project_id, row.slug, row.name) for row in rows])


def register(app: typer.Typer) -> None:
    """Add both groups of commands."""
    orgs.command("erase")(erase)
    app.add_typer(orgs, name="orgs")
    app.add_typer(projects, name="projects")
