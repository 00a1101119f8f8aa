"""Options as dataclasses: what typer sees, what the command gets."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from orgstats.cli.options import flat


@dataclass(frozen=True)
class Shared:
    """What two commands have in common."""

    name: Annotated[str, typer.Argument(help="Who.")]
    times: Annotated[int, typer.Option(min=1, help="How often.")] = 1


@dataclass(frozen=True)
class More(Shared):
    """What one of them has besides."""

    loud: Annotated[bool, typer.Option("--loud", help="In capitals.")] = False


def test_fields_become_options_and_arrive_as_one_object() -> None:
    """Arguments, bounds, flags and those of the base class work as if each were a parameter."""
    app, got = typer.Typer(), list[More]()

    @app.command()
    @flat
    def greet(options: More) -> None:
        """Greet."""
        got.append(options)

    assert CliRunner().invoke(app, ["Ann", "--loud", "--times", "2"]).exit_code == 0
    assert got == [More("Ann", 2, loud=True)]
    assert CliRunner().invoke(app, ["Ann", "--times", "0"]).exit_code == 2
    assert "How often." in CliRunner().invoke(app, ["--help"]).output
    assert inspect.getdoc(greet) == "Greet."
