"""`orgstats backup-plan` and `orgstats restore-check`: copies that heal by themselves."""

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat


@dataclass(frozen=True, kw_only=True)
class PlanOptions(ops.OnDatabase):
    """What the backup is called, and where it goes."""

    name: Annotated[str, typer.Argument(help="The backup's name, as 2026-11-27.")]
    base: Annotated[
        str, ops.option(help="An earlier backup; only what is not in it is copied.", show_default=False)
    ] = ""
    to: Annotated[
        str | None,
        ops.option(
            help="Where ClickHouse puts it, with {name} and {table}; default: a disk named backups.", show_default=False
        ),
    ] = None
    restore: Annotated[bool, ops.option("--restore", help="Print the way back.")] = False


@flat
def backup_plan(options: PlanOptions) -> None:
    """Print the BACKUP statements of ClickHouse, in the order in which tables are copied while consumers count.

    Run them one after the other: what is restored from them heals by itself, since progress is the oldest of it.
    Nothing is asked of ClickHouse.

    Example: orgstats backup-plan 2026-11-27 --base 2026-11-26 --database orgstats
    """
    from orgstats.schemas.backup import TO_DISK, backup, restore

    database, cluster = options.place()
    to = TO_DISK if options.to is None else options.to
    wrong = typer.BadParameter("needs {name} and {table}, and no other braces", param_hint="--to")
    if "{name}" not in to or "{table}" not in to:
        raise wrong
    try:
        if options.restore:
            statements = list(restore(database, cluster, options.name, to))
        else:
            statements = list(backup(database, cluster, options.name, to, options.base))
    except (KeyError, IndexError, ValueError):
        raise wrong from None
    for statement in statements:
        typer.echo(f"{statement};")


@dataclass(frozen=True)
class CheckOptions(ops.OnTopics):
    """What to look at, and what to say of it."""

    as_json: ops.AsJson = False


@flat
def restore_check(options: CheckOptions) -> None:
    """After a restore, before consumers start: is it consistent, what will be counted again, what is to be done.

    Changes nothing. Exit 1 when something does not heal by itself.

    Example: orgstats restore-check --topic outcomes
    """
    from orgstats.consumer.ops.restored import restore_check as check
    from orgstats.errors import DifferenceFound

    found = list(check(options.connections()))
    if options.as_json:
        ops.print_json([asdict(one) for one in found])
    else:
        ops.print_findings(found)
    if acts := sum(one.level == "act" for one in found):
        raise DifferenceFound(f"{acts} to act on before consumers start")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_BACKUP_PLAN"})(backup_plan)
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_RESTORE_CHECK"})(restore_check)
