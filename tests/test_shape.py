"""Functions stay small: at most six parameters and fifty lines, and none that hands on whatever it is given."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layers import FILES, ROOT

MOST_PARAMETERS = 6
MOST_LINES = 50
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, also those inside of others."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def parameters(function: Function) -> list[ast.arg]:
    """All that a caller may give, without self and cls."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [one for one in every if one.arg not in ("self", "cls")]


def is_any(argument: ast.arg | None) -> bool:
    """Whether a `*` or `**` parameter takes Any."""
    return argument is not None and argument.annotation is not None and ast.unparse(argument.annotation) == "Any"


def faults(tree: ast.AST) -> list[str]:
    """What is too large or too vague, by name and line."""
    found = []
    for function in functions(tree):
        name = f"{function.name}, line {function.lineno}"
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if (count := len(parameters(function))) > MOST_PARAMETERS:
            found.append(f"{name}: {count} parameters")
        if lines > MOST_LINES:
            found.append(f"{name}: {lines} lines")
        if is_any(function.args.vararg) or is_any(function.args.kwarg):
            found.append(f"{name}: takes anything")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_have_at_most_six_parameters_and_fifty_lines(file: Path) -> None:
    """A command's options are one dataclass; what belongs together is one argument."""
    found = faults(ast.parse(file.read_text()))
    assert not found, found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def f(a, b, c, d, *, e, f, g): ...", "f, line 1: 7 parameters"),
        ("class A:\n    async def f(self, **how: Any): ...", "f, line 2: takes anything"),
        ("def f():\n" + "    pass\n" * 50, "f, line 1: 51 lines"),
    ],
)
def test_each_fault_is_seen(text: str, fault: str) -> None:
    """Seven parameters, fifty-one lines, a `**` of Any."""
    assert faults(ast.parse(text)) == [fault]


def test_self_is_no_parameter() -> None:
    """Six beside self are allowed, and so is a `**` of one type."""
    assert faults(ast.parse("class A:\n    def f(self, a, b, c, d, e, f, **more: int): ...")) == []
