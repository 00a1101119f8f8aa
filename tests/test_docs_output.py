"""What the pages show below a command is what the code prints: its texts, and the headers of its tables."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = ("consumer", "query", "orgstats/cli", "schemas", "deploy/local")
LEAST = 4
"""Letters that a text has to have of its own, or anything would be one."""
PLACE = r"(?:ok|note|act) +|orgstats: |\S+/\d+(?: chunk \d+)?: | +-> |\w+: "
"""What stands before a text: a level, a place, who says it."""

Shown = tuple[str, str]
"""A command, and what it printed."""


def shown(page: Path) -> Iterator[Shown]:
    """Every command of ours on a page, with what stands below it, without what is left out there."""
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^\$ (orgstats [^\n]+)\n((?:(?!\$ )[^\n]*\n)*)", block, re.MULTILINE)


@cache
def nodes() -> list[ast.AST]:
    """All that the product's code consists of."""
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    return [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


@cache
def names() -> set[str]:
    """Every word that could be the name of a column: in quotes, or of a field."""
    constants = {node.value for node in nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    fields = {
        node.target.id for node in nodes() if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return constants | fields


def pattern(node: ast.AST) -> str:
    """What a text looks like: anything where a value goes, and either where one of two texts does."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(map(pattern, node.values))
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.IfExp):
        return f"(?:{pattern(node.value.body)}|{pattern(node.value.orelse)})"
    return ".*"


@cache
def texts() -> re.Pattern[str]:
    """Every text that is long enough."""
    found = {
        pattern(node)
        for node in nodes()
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
    return re.compile("|".join(f"(?:{one})" for one in sorted(found) if len(re.findall("[A-Za-z]", one)) >= LEAST))


def is_text(line: str) -> bool:
    """Whether the code has such a text, with or without something in front of it."""
    return bool(texts().fullmatch(line) or texts().fullmatch(re.sub(f"^(?:{PLACE})", "", line)))


def never_printed(output: str) -> list[str]:
    """Lines that no text of the code, no header of a table and no row below one can be."""
    wrong, table, lines = [], False, output.splitlines()
    for line in lines:
        columns = re.split(r"  +", line.strip())
        wrapped = (f"{one.strip()} {another.strip()}" for one, another in pairwise(lines))
        if not line.strip(" …") or is_text(line) or any(line.strip() in both and is_text(both) for both in wrapped):
            continue
        if len(columns) > 2 and names().issuperset(columns):
            table = True
        elif not (table and len(columns) > 1) and not (len(columns) == 2 and columns[0] in names()):
            wrong.append(line)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_the_code_prints(page: Path) -> None:
    """Each line is one of its texts, the header of a table, or a row below that."""
    assert [(command, line) for command, output in shown(page) for line in never_printed(output)] == []


@pytest.mark.parametrize(
    "line", ["rights: the ClickHouse user may read and insert", "position  ending  behind", "3 deleted"]
)
def test_what_nobody_prints_is_noticed(line: str) -> None:
    """A text of former times, a column that has another name, and one that never was."""
    assert never_printed(f"{line}\n") == [line]


def test_there_is_something_to_compare() -> None:
    """The runbook shows tens of commands."""
    assert sum(1 for page in PAGES for _ in shown(page)) > 25
