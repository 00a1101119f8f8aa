"""`orgstats grants`: what ClickHouse must allow each role."""

import os
from dataclasses import dataclass
from typing import Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat


@dataclass(frozen=True)
class GrantOptions:
    """Whose rights, and where the tables are."""

    role: Annotated[
        list[str] | None,
        ops.option(
            "--role", help="consumer, api, operator or migrate; may be repeated; default: all.", show_default=False
        ),
    ] = None
    database: Annotated[
        str | None, ops.option(help="Default: that of ORGSTATS_CLICKHOUSE_URL.", show_default=False)
    ] = None
    cluster: Annotated[
        str | None, ops.option(help="The tables are on this cluster; default: ORGSTATS_CLUSTER.", show_default=False)
    ] = None
    cloud: Annotated[bool, ops.option("--cloud", help="The tables are in ClickHouse Cloud.")] = False


@flat
def grants(options: GrantOptions) -> None:
    """Print the SQL that makes a role of ClickHouse for each of consumer, api, operator and migrate.

    A role may do what its program does, and nothing more; the api's is read only. Whoever may manage access runs the
    statements, again after an upgrade, and gives the roles to users. Nothing is asked of ClickHouse.

    Example: orgstats grants --role api --database orgstats
    """
    from orgstats.clickhouse.url import parse
    from orgstats.query.clickhouse import SENT_SETTINGS
    from orgstats.schemas.grants import ROLES, Place, statements

    url = os.environ.get("ORGSTATS_CLICKHOUSE_URL", "")
    database = options.database or (parse(url).database if url else "")
    cluster = os.environ.get("ORGSTATS_CLUSTER", "") if options.cluster is None else options.cluster
    if not database:
        raise typer.BadParameter("name it, or set ORGSTATS_CLICKHOUSE_URL", param_hint="--database")
    for name, hint in ((database, "--database"), (cluster or "c", "--cluster")):
        if not name.isidentifier() or not name.isascii():
            raise typer.BadParameter(f"{name!r} is not made of letters, digits and _", param_hint=hint)
    if cluster and options.cloud:
        raise typer.BadParameter("ClickHouse Cloud has no cluster of yours", param_hint="--cloud")
    wanted = options.role or list(ROLES)
    if unknown := [role for role in wanted if role not in ROLES]:
        raise typer.BadParameter(f"{unknown[0]} is none of {', '.join(ROLES)}", param_hint="--role")
    for role in (role for role in ROLES if role in wanted):
        name = f"{database}_{role}"
        typer.echo(f"-- to a user of yours: GRANT {name} TO …")
        for statement in statements(role, Place(database, cluster, options.cloud), name, sorted(SENT_SETTINGS)):
            typer.echo(f"{statement};")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_GRANTS"})(grants)
