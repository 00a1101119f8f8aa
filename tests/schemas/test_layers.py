"""Which file may lean on which: pure files on pure ones only, the contracts on nothing above them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = [
    *(
        f"schemas/{name}.py"
        for name in (
            "errors",
            "event",
            "first_match",
            "globs",
            "hours",
            "outcomes",
            "rule_history",
            "rules",
            "tables",
            "times",
        )
    ),
    "schemas/toml_lines.py",
    *(f"consumer/{name}.py" for name in ("batch", "classify", "decode", "logic", "segment", "source")),
    *(f"query/{name}.py" for name in ("completeness", "http", "limits", "params", "picture", "series", "sql")),
]
IMPURE_LIBRARIES = {
    *("asyncio", "clickhouse_driver", "confluent_kafka", "logging", "os", "random", "secrets", "socket", "structlog"),
    *("subprocess", "threading", "time", "urllib", "uuid"),
}
CLOCKS = {"now", "today", "utcnow"}


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def ours(names: set[str]) -> set[str]:
    """Files of this project among dotted names."""
    paths = {name.replace(".", "/") + ".py" for name in names}
    return {path for path in paths if (ROOT / path).is_file()}


@pytest.mark.parametrize("file", PURE)
def test_a_pure_file_knows_no_client_clock_or_log(file: str) -> None:
    """What decides counts and answers depends on its arguments alone, however deep one looks."""
    names = imported(ROOT / file)
    assert {name.partition(".")[0] for name in names} & IMPURE_LIBRARIES == set()
    assert ours(names) <= set(PURE)
    calls = [node.func for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.Call)]
    assert {call.attr for call in calls if isinstance(call, ast.Attribute)} & CLOCKS == set()


def test_the_contracts_lean_on_nothing_above_them() -> None:
    """schemas/ imports neither the consumer, nor the query side, nor deployment."""
    for path in (ROOT / "schemas").rglob("*.py"):
        assert {name.partition(".")[0] for name in imported(path)} & {"consumer", "query", "deploy", "tests"} == set()


def test_only_deployment_and_tests_lean_on_deployment() -> None:
    """The daemon and the query side can be installed without the command line."""
    for path in [*(ROOT / "consumer").rglob("*.py"), *(ROOT / "query").rglob("*.py")]:
        assert {name.partition(".")[0] for name in imported(path)} & {"deploy", "tests"} == set()
