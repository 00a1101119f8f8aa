"""Packages of npm that tests use, fetched once; where the registry cannot be reached, a test is skipped."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import IN_CI

CACHE: Final = Path(__file__).parents[2] / ".local" / "clients"


def packages(npm: str, versions: Mapping[str, str]) -> Path:
    """A folder in which packages are installed, by name and version; kept for the next run."""
    folder = CACHE / "-".join(["npm", *versions.values()])
    if not folder.is_dir():
        made = folder.with_name(f"{folder.name}.{os.getpid()}")  # others may install at the same time
        made.mkdir(parents=True)
        wanted = [f"{name}@{version}" for name, version in versions.items()]
        quiet = ("--no-save", "--ignore-scripts", "--no-audit", "--no-fund")
        install = _run([npm, "install", *quiet, "--prefix", str(made), *wanted], made)
        if install.returncode:
            shutil.rmtree(made)
            reachable = _run([npm, "ping"], CACHE).returncode == 0
            (pytest.fail if IN_CI and reachable else pytest.skip)(f"npm gives no packages: {install.stderr[-500:]}")
        try:
            made.rename(folder)
        except OSError:  # somebody was faster
            shutil.rmtree(made)
    return folder


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
