"""Lists have headers and line up where people read them, and are tab-separated where programs do."""

import sys

import pytest

from orgstats.cli import operating
from orgstats.cli.replay import _as_typed

NAMES = ("id", "name", "published", "note")
ROWS = [(1, "Acme", "2026-01-01", "first"), (1000, "B", "2026-01-02", "second")]


def test_a_list_is_aligned_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids without commas; what would be too long for a line is left out."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    operating.print_list(NAMES, ROWS, long=("published",))
    assert capsys.readouterr().out == "id    name  note\n1     Acme  first\n1000  B     second\n"


def test_a_list_is_whole_and_tab_separated_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Under the names of the columns."""
    operating.print_list(NAMES, ROWS, long=("published",))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t") for line in lines] == [[*NAMES], *([str(cell) for cell in row] for row in ROWS)]


def test_a_replay_is_listed_with_the_options_it_was_given() -> None:
    """As they are typed, so that the same again goes on with it."""
    request = '{"head":"refuse","partitions":[0,3],"repair":true,"since":"-7h","topics":["a","b"]}'
    assert _as_typed(request) == "--partitions 0,3 --repair --since -7h --topic a --topic b"
    assert _as_typed('{"from_offset":7,"head":"skip","topics":["a"]}') == "--from-offset 7 --head skip --topic a"
