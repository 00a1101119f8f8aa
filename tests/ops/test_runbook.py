"""The runbook names commands and options that exist, and each operator's command shows how it is used."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from orgstats.cli.app import app

RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"
COMMANDS = sorted(set(re.findall(r"^\$ (orgstats [^\n]+)", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)))


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words for it."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_runbook_exists(line: str) -> None:
    """Its words are understood, options and values too."""
    command, words = resolve(shlex.split(line)[1:])
    command.make_context("orgstats", words)


OURS = ("replay plan", "replay apply", "replay undo", "replay ls", "lag", "explain", "doctor")
DEAD_LETTERS = ("ls", "show", "redrive", "drop")


@pytest.mark.parametrize("words", [*OURS, *(f"dead-letters {name}" for name in DEAD_LETTERS)])
def test_each_command_shows_an_example(words: str) -> None:
    """Help has an example that the command itself understands."""
    command, _ = resolve(words.split())
    examples = re.findall(rf"orgstats {words}[^\n]*", command.help)
    assert examples
    for example in examples:
        command.make_context("orgstats", shlex.split(example)[1 + len(words.split()) :])
