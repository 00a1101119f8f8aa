"""What deployments may refer to: commands of the program and variables of its settings."""

from typing import Any

import typer

from orgstats.cli.app import app
from orgstats.consumer.settings import ConsumerSettings
from orgstats.deploy.generate import GenerateSettings
from orgstats.query.settings import QuerySettings
from orgstats.schemas.migrate import MigrateSettings
from orgstats.settings import Settings

SETTINGS: dict[str, type[Settings]] = {
    "consume": ConsumerSettings,
    "serve": QuerySettings,
    "migrate": MigrateSettings,
    "orgs": MigrateSettings,
    "generate": GenerateSettings,
}


def understood(words: list[str]) -> None:
    """Raises when the program does not understand a command line, the program's name left out."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("orgstats", words)


def unknown_variables(names: set[str]) -> set[str]:
    """Those of the ORGSTATS_ variables that are no setting of any command."""
    known = {variable for settings in SETTINGS.values() for variable in settings.variables().values()}
    prefixes = tuple(variable for variable in known if variable.endswith("__"))
    return {n for n in names if not {n, n.removesuffix("_FILE")} & known and not n.startswith(prefixes)}
