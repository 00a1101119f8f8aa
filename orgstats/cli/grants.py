"""`orgstats grants`: what ClickHouse must allow each role."""

from dataclasses import dataclass
from typing import Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat


@dataclass(frozen=True, kw_only=True)
class GrantOptions(ops.OnDatabase):
    """Whose rights, and where the tables are."""

    role: Annotated[
        list[str] | None,
        ops.option(
            "--role", help="consumer, api, ops, operator or migrate; may be repeated; default: all.", show_default=False
        ),
    ] = None
    cloud: Annotated[bool, ops.option("--cloud", help="The tables are in ClickHouse Cloud.")] = False


@flat
def grants(options: GrantOptions) -> None:
    """Print the SQL that makes a role of ClickHouse for each of consumer, api, ops, operator and migrate.

    A role may do what its program does, and nothing more; those of api and ops are read only. Whoever may manage
    access runs the statements, again after an upgrade, and gives the roles to users. Nothing is asked of ClickHouse.

    Example: orgstats grants --role api --database orgstats
    """
    from orgstats.query.clickhouse import SENT_SETTINGS
    from orgstats.schemas.grants import ROLES, Place, statements

    database, cluster = options.place()
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
