"""What a command says to a word that is nearly right."""

import pytest
from typer.testing import CliRunner

from orgstats.cli.app import app


@pytest.mark.parametrize("words", [("tokns",), ("rules", "chek")])
def test_what_was_meant_is_asked_once(words: tuple[str, ...]) -> None:
    """A mistyped command, or one of a group, is told the nearest name, and only once."""
    assert CliRunner().invoke(app, words).output.count("Did you mean") == 1


def test_a_length_of_time_without_a_sign_is_told_which_is_meant() -> None:
    """`--expires 90d` is told to be +90d for later than now."""
    output = CliRunner().invoke(app, ["tokens", "create", "--all", "--expires", "90d"]).output
    assert "give +90d for later than now, -90d for earlier" in output
