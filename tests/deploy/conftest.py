"""The tools that deployments are tested with."""

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """Prometheus as Debian packages it, `promtool` beside it; without it the test is skipped, in CI it fails."""
    path = shutil.which("prometheus")
    if path is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs Prometheus: apt-get install prometheus")
    return Path(path)
