"""`orgstats doctor`: what is not as it should be, and what to do about it."""

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.consumer.ops.findings import Finding


@dataclass(frozen=True)
class DoctorOptions(ops.OnTopics):
    """What to look at, and what to say of it."""

    group: ops.Group = None
    role: Annotated[
        str | None,
        ops.option(
            help="Only whether the ClickHouse user may do what this role needs: api, migrate, …", show_default=False
        ),
    ] = None
    quiet: Annotated[bool, ops.option("--quiet", help="Only what needs action.")] = False
    as_json: ops.AsJson = False


@flat
def doctor(options: DoctorOptions) -> None:
    """Look at brokers, topics, the group, ClickHouse, tables, rights, clocks, rules and lag. Exit 1 to act.

    Each finding comes with its remedy. Changes nothing. Every option has an environment variable, as
    ORGSTATS_DOCTOR_QUIET.

    Example: orgstats doctor --topic outcomes
    """
    from orgstats.consumer.ops.doctor import examine
    from orgstats.errors import DifferenceFound

    every = _rights(options.role) if options.role else examine(options.connections(options.group))
    found = [one for one in every if one.level == "act" or not options.quiet]
    if options.as_json:
        ops.print_json([asdict(one) for one in found])
    else:
        ops.print_findings(found)
    acts = sum(one.level == "act" for one in found)
    if acts:
        raise DifferenceFound(f"{acts} to act on")


def _rights(role: str) -> list["Finding"]:
    from orgstats.consumer.ops.connections import store_of
    from orgstats.consumer.ops.rights import rights
    from orgstats.schemas.grants import ROLES
    from orgstats.settings import ClickHouseSettings

    names = {str(name): name for name in ROLES}
    if role not in names:
        raise typer.BadParameter(f"{role} is none of {', '.join(names)}", param_hint="--role")
    return list(rights(store_of(ClickHouseSettings.from_env(os.environ).clickhouse_url), names[role]))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_DOCTOR"})(doctor)
