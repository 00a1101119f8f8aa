"""Other consumers that are compiled: left out where no compiler is, and refused when they count otherwise."""

from pathlib import Path
from typing import Any, cast

import pytest

from tests.bench.ingest import native, run
from tests.bench.ingest.stage import Stage


def test_without_compilers_nothing_is_built_and_stderr_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is missing is a word on stderr, and its ratio is left out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.build() == {}
    told = capsys.readouterr().err
    assert all(name in told for names in native.NAMES.values() for name in names)
    assert "no cargo" in told


def test_a_build_that_fails_leaves_its_programs_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With what the compiler said."""
    for name in ("cc", "cargo", "go"):
        (tmp_path / name).write_text("#!/bin/sh\necho no registry >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(native, "cache_dir", lambda: tmp_path)
    assert native.build() == {}
    assert capsys.readouterr().err.count("no registry") == 3


def test_every_program_that_is_built_has_a_ratio() -> None:
    """By the names that `make bench-quick` prints."""
    assert {name for names in native.NAMES.values() for name in names} <= set(run.RATIOS.values())


def test_programs_that_count_otherwise_end_the_run(tmp_path: Path) -> None:
    """A program that is faster because it counts less is no other consumer."""
    stage = Stage(tmp_path, cast("Any", None), cast("Any", None))
    stage._agree("topic", (2, 2, 1, 7))
    stage._agree("topic", (2, 2, 1, 7))
    stage._agree("other", (2, 2, 1, 8))
    with pytest.raises(RuntimeError, match="count differently"):
        stage._agree("topic", (2, 2, 1, 8))
