"""`orgstats config`: what the settings are, where they come from, and what is wrong with them."""

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from orgstats.settings import Settings

config = typer.Typer(no_args_is_help=True, help="The settings, as the commands would read them here and now.")

OTHER_VARIABLES: Final = ("ORGSTATS_FAILPOINTS", "ORGSTATS_TOKEN", "ORGSTATS_CHDB_PASSWORD")
"""Variables that are read beside the settings."""


class Command(StrEnum):
    """Commands with settings of their own."""

    consume = "consume"
    serve = "serve"
    migrate = "migrate"
    generate = "generate"


Chosen = Annotated[list[Command] | None, typer.Argument(help="Which commands' settings [default: all].")]


@config.command()
def check(commands: Chosen = None) -> None:
    """Read the settings as the commands would and tell every fault, misspelt variables too.

    Example: orgstats config check consume migrate
    """
    from orgstats.errors import ConfigurationError

    faults = _misspelt()
    for command in commands or Command:
        try:
            _settings(command).from_env(os.environ)
        except ConfigurationError as error:
            faults += [f"{command}: {line}" for line in str(error).splitlines()]
    if faults:
        raise ConfigurationError("\n".join(("the settings have faults", *faults)))
    typer.echo("no faults")


@config.command()
def show(
    commands: Chosen = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
) -> None:
    """Print the settings, secrets masked.

    Example: orgstats config show consume --origin
    """
    for command in commands or Command:
        kind = _settings(command)
        settings = kind.from_env(os.environ)
        typer.echo(f"[{command}]")
        origins = settings.origins()
        for name, value in settings.masked().items():
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            typer.echo(f"{kind.variables()[name]}={'' if shown is None else shown}" + f"  # {origins[name]}" * origin)


def _settings(command: Command) -> "type[Settings]":
    if command is Command.consume:
        from orgstats.consumer.settings import ConsumerSettings

        return ConsumerSettings
    if command is Command.serve:
        from orgstats.query.settings import QuerySettings

        return QuerySettings
    if command is Command.generate:
        from orgstats.deploy.generate import GenerateSettings

        return GenerateSettings
    from orgstats.schemas.migrate import MigrateSettings

    return MigrateSettings


def _misspelt() -> list[str]:
    """Variables that begin like ours and that no command knows."""
    from difflib import get_close_matches

    known = {*OTHER_VARIABLES, *(name for command in Command for name in _settings(command).variables().values())}
    prefixes = tuple(name for name in known if name.endswith("__"))
    unknown = [
        n
        for n in sorted(os.environ)
        if n.startswith("ORGSTATS_") and not {n, n.removesuffix("_FILE")} & known and not n.startswith(prefixes)
    ]
    near = {name: get_close_matches(name, known, n=1) for name in unknown}
    return [f"{name}: no such setting" + (f"; did you mean {near[name][0]}?" if near[name] else "") for name in unknown]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(config, name="config")
