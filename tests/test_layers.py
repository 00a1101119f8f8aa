"""Which room may lean on which: derived from the folders, so that a new file is held to it without being listed."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEANS_ON = {
    "orgstats": set(),
    "schemas": {"orgstats"},
    "query": {"orgstats", "schemas"},
    "consumer/counting": {"orgstats", "schemas"},
    "consumer/kafka": {"orgstats", "schemas", "consumer/counting"},
    "consumer/store": {"orgstats", "schemas", "consumer/counting"},
    "consumer": {"orgstats", "schemas", "consumer/counting", "consumer/kafka", "consumer/store"},
    "consumer/ops": {"orgstats", "schemas", "consumer", "consumer/counting", "consumer/kafka", "consumer/store"},
    "deploy": {"orgstats", "schemas", "query", "consumer", "consumer/counting", "consumer/kafka", "consumer/store"},
    "orgstats/cli": {"*"},
}
"""Rooms by folder, each with the rooms that its files may import besides their own."""

PURE = [
    *(ROOT / "consumer/counting").glob("*.py"),
    *(ROOT / f"schemas/{name}.py" for name in ("categories", "dead_letter_reasons", "event", "outcomes", "tables")),
    *(
        ROOT / f"query/{name}.py"
        for name in ("completeness", "http", "limits", "params", "picture", "series", "sql", "usage")
    ),
]
IMPURE_LIBRARIES = {
    *("asyncio", "clickhouse_driver", "confluent_kafka", "logging", "os", "random", "secrets", "socket", "structlog"),
    *("subprocess", "threading", "time", "urllib", "uuid"),
}
CLOCKS = {"now", "today", "utcnow"}
FILES = [path for top in LEANS_ON if "/" not in top for path in sorted((ROOT / top).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def ours(path: Path) -> set[Path]:
    """Files of this project that a file imports."""
    found = set()
    for name in imported(path):
        if name.startswith("orgstats."):
            module = ROOT.joinpath("orgstats", *name.split(".")[1:])
            found |= {each.resolve() for each in (module.with_suffix(".py"), module / "__init__.py") if each.is_file()}
    return found


def room(path: Path) -> str:
    """The innermost room that a file lies in."""
    relative = path.relative_to(ROOT)
    return max((top for top in LEANS_ON if relative.is_relative_to(top)), key=len)


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(file: Path) -> None:
    """A file leans on its own room and on those below it."""
    allowed = LEANS_ON[room(file)] | {room(file)}
    assert "*" in allowed or {room(path) for path in ours(file)} <= allowed


@pytest.mark.parametrize("file", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pure_file_knows_no_client_clock_or_log(file: Path) -> None:
    """What decides counts and answers depends on its arguments alone, however deep one looks."""
    assert {name.partition(".")[0] for name in imported(file)} & IMPURE_LIBRARIES == set()
    pure = {*PURE, *(ROOT / f"orgstats/{name}.py" for name in ("__init__", "errors", "times"))}
    assert ours(file) <= pure | {path for path in FILES if path.name == "__init__.py"}
    calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    assert {call.attr for call in calls if isinstance(call, ast.Attribute)} & CLOCKS == set()


TIMELESS = [path for path in (ROOT / "consumer").glob("*.py") if path.name not in ("clients.py", "health.py")]


@pytest.mark.parametrize("file", TIMELESS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_daemon_is_given_its_clock(file: Path) -> None:
    """Only so can a test let the time pass: whoever reads or waits for a clock is handed one (ports.Clock)."""
    assert "time" not in imported(file)


READERS = {ROOT / "orgstats/clickhouse/cluster.py", ROOT / "query/clickhouse.py"}
"""Who may give a SELECT to the driver: the one that catches up first, and the pool of connections behind the API."""
_READS = re.compile(r"\s*(?:INSERT\b.*)?SELECT\b.*\b(?:FROM|JOIN)\s+(?!system\.)\w", re.DOTALL | re.IGNORECASE)


def _text(node: ast.AST) -> str:
    """The constant parts of an expression."""
    parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return "".join(part for part in parts if isinstance(part, str))


def unsafe_reads(tree: ast.AST) -> list[str]:
    """SELECTs from tables of ours that are given to the driver, also in an INSERT: a replica that lags may answer."""
    texts = {
        target.id: _text(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    given = [
        texts.get(call.args[0].id, "") if isinstance(call.args[0], ast.Name) else _text(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args
        if call.func.attr.startswith("execute")
    ]
    return [text for text in given if _READS.match(text)]


@pytest.mark.parametrize(
    "file",
    [path for path in FILES if path not in READERS and not path.is_relative_to(ROOT / "deploy")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_what_decides_is_read_after_catching_up(file: Path) -> None:
    """Only cluster.read and write wait until the replica that answers has all that was acknowledged."""
    assert unsafe_reads(ast.parse(file.read_text())) == []
