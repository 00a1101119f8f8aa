"""npm's clients: `sentry-api`, `@sentry/api`, and the `api` command of `sentry`, at the versions of docs/api.md."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_go import SERIES, TOTAL
from tests.conformance.conftest import ORG_ID, PUMP, SLUG, Target
from tests.query.seeding import EXAMPLE
from tests.support.npm import packages

pytestmark = pytest.mark.campaign  # packages are fetched
HERE = Path(__file__).parent
VERSIONS = {"sentry-api": "0.2.0", "sentry": "0.49.0", "@sentry/api": "0.1.0"}
USAGE_DAY = "field=sum(quantity)&start=2020-03-21T21:00:00&end=2020-03-22T21:00:00"


@pytest.fixture(scope="module")
def modules(target: Target) -> Path:
    """A folder in which the packages are installed; kept in `.local` for the next run."""
    if not target.own or not (npm := shutil.which("npm")):
        pytest.skip("needs npm" if target.own else "needs data of its own")
    return packages(npm, VERSIONS)


Program = Callable[[str], dict[str, Any]]


@pytest.fixture
def program(modules: Path, target: Target) -> Program:
    """Runs one of the programs beside this file where the packages are; what it printed."""

    def run(name: str) -> dict[str, Any]:
        # From standard input, a program finds the packages of the folder it runs in.
        asked = ["node", "--input-type=module", "-", target.url, target.token, SLUG]
        done = _run(asked, modules, text=(HERE / name).read_text())
        assert done.returncode == 0, done.stderr
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed

    return run


def test_sentry_api(program: Program) -> None:
    """Lists, series, errors by their text; with a token as Bearer and, as from a DSN, as Basic."""
    told = program("sentry_api.mjs")
    assert told["organization"]["id"] == str(ORG_ID)
    assert [one["slug"] for one in told["projects"]] == ["pump-station", "prime-mover"]
    assert told["series"] == SERIES
    assert [count for _, count in told["project"]] == [0] * 24  # of the last day
    assert told["invalid"] == "Invalid resolution"
    assert told["foreign"] == "You do not have permission to perform this action."


def test_generated_api(program: Program) -> None:
    """Every operation that we answer, with each category that its description names."""
    told = program("generated_api.mjs")
    assert [one["slug"] for one in told["organizations"]] == [told["organization"]["slug"]] == [SLUG]
    (group,) = told["usage"]["groups"]
    assert (group["by"], group["series"]["sum(quantity)"]) == ({"category": "error", "outcome": "accepted"}, EXAMPLE)
    assert told["epoch"] == told["usage"]
    assert told["byProject"]["groups"][0]["by"] == {"category": "error", "project": PUMP}
    sums = {name: [group["totals"]["sum(quantity)"] for group in one["groups"]] for name, one in told["totals"].items()}
    assert sums == {name: [TOTAL] if name == "error" else [] for name in sums}
    assert told["summary"]["projects"][0]["stats"][0]["outcomes"] == {"accepted": TOTAL}
    assert {name: len(one["projects"]) for name, one in told["summaries"].items()} == {
        **dict.fromkeys(told["summaries"], 0),
        "error": 1,
    }
    assert told["series"] == SERIES
    assert told["invalid"]["detail"].startswith('Invalid interval: "7h"')


def test_sentry_command(modules: Path, target: Target, tmp_path: Path) -> None:
    """`sentry api PATH` prints the answer, and of a refusal the text of it."""
    env = {
        "HOME": str(tmp_path),
        "SENTRY_CONFIG_DIR": str(tmp_path),
        "SENTRY_URL": target.url,
        "SENTRY_AUTH_TOKEN": target.token,
        "SENTRY_FORCE_ENV_TOKEN": "1",
        "SENTRY_CLI_NO_TELEMETRY": "1",
        "SENTRY_CLI_NO_UPDATE_CHECK": "1",
    }

    def api(path: str) -> subprocess.CompletedProcess[str]:
        return _run(["node", "node_modules/sentry/dist/bin.cjs", "api", path], modules, env=env)

    series = api(f"organizations/{SLUG}/stats/?since=1584824400&until=1584907200&resolution=1h")
    assert json.loads(series.stdout) == SERIES, series.stderr
    usage = json.loads(api(f"organizations/{SLUG}/stats_v2/?{USAGE_DAY}&groupBy=category").stdout)
    assert usage["groups"][0]["series"]["sum(quantity)"] == EXAMPLE
    refused = api(f"organizations/{SLUG}/stats/?resolution=2h")
    assert refused.returncode != 0
    assert "Invalid resolution" in refused.stdout + refused.stderr


def _run(
    command: list[str], folder: Path, text: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    both = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=folder, input=text, env=both, capture_output=True, text=True, check=False)
