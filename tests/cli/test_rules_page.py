"""docs/rules.md shows rules that `orgstats` takes, and what its commands print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orgstats.cli.rules_example import EXAMPLE
from orgstats.consumer.counting.rules import CONDITION_FIELDS, OUTCOMES, explain, parse
from orgstats.schemas.event import Event

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
FILES = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(CONSOLE,) = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_example_that_is_printed() -> None:
    """Its first file is that of `orgstats rules example`, byte for byte."""
    assert FILES[0] == EXAMPLE


@pytest.mark.parametrize("text", FILES)
def test_every_file_of_the_page_has_no_faults(text: str) -> None:
    """What people copy can be published."""
    assert parse(text)


def test_the_page_names_every_condition_and_outcome() -> None:
    """One that is added needs its line here."""
    assert [name for name in (*CONDITION_FIELDS, *OUTCOMES) if f"`{name}`" not in PAGE.replace('"', "")] == []


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event(0, org_id=12, error_message="extension context invalidated."), "own-extension"),
        (Event(0, org_id=13, error_message="Extension context invalidated."), "browser-extensions"),
        (Event(0, org_id=12, url="chrome-extension://abc/x.js"), "browser-extensions"),
    ],
)
def test_the_exception_comes_first(event: Event, reason: str) -> None:
    """The page's example of an exception does what the page says."""
    (text,) = (file for file in FILES if "own-extension" in file)
    rule, _ = explain(parse(text), event)[-1]
    assert (rule.matches(event), rule.reason) == (True, reason)


def test_a_backslash_between_single_quotes_takes_a_question_mark_as_it_is() -> None:
    """So the page's example does not match any other character there."""
    (text,) = (file for file in FILES if "questions" in file)
    (rule,) = parse(text)
    assert [rule.matches(Event(0, error_message=f"Really{end}")) for end in ("? No", "! No")] == [True, False]


def test_the_commands_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    """Each command is run as it stands, in order, in one folder."""
    shown = re.findall(r"^\$ ([^\n]+)\n((?:(?!\$ )[^\n]*\n)*)", CONSOLE, re.MULTILINE)
    assert len(shown) == 3
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command, output in shown:
        words = ["bash", "-c", command]
        ran = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (command, ran.stdout, ran.stderr, ran.returncode) == (command, output, "", 0)
