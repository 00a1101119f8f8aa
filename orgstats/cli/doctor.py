"""`orgstats doctor`: what is not as it should be, and what to do about it."""

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat


@dataclass(frozen=True)
class DoctorOptions(ops.OnTopics):
    """What to look at, and what to say of it."""

    group: ops.Group = None
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

    found = [f for f in examine(options.connections(options.group)) if f.level == "act" or not options.quiet]
    if options.as_json:
        ops.print_json([asdict(one) for one in found])
    else:
        for one in found:
            typer.echo(f"{one.level:<4}  {one.what}")
            if one.remedy:
                typer.echo(f"      -> {one.remedy}")
    acts = sum(one.level == "act" for one in found)
    if acts:
        raise DifferenceFound(f"{acts} to act on")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_DOCTOR"})(doctor)
