"""PyPI's clients, which are tools for language models: `mcparmory-sentry` and `universal-mcp-sentry`.

Each has an environment of its own, because they ask for other versions of what we use. `universal-mcp-sentry` does not
run on newer versions of `universal-mcp` than the one that is named here.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_go import SERIES, TOTAL
from tests.conformance.conftest import ORG_ID, SLUG, Target
from tests.conftest import IN_CI
from tests.query.seeding import EXAMPLE

pytestmark = pytest.mark.campaign  # packages are fetched
CACHE = Path(__file__).parents[2] / ".local" / "clients"

ARMORY = """
import asyncio, json, sys
from fastmcp import Client
import server

async def main():
    day = {"field": "sum(quantity)", "start": "2020-03-21T21:00:00Z", "end": "2020-03-22T21:00:00Z"}
    organization = {"organization_id_or_slug": sys.argv[1]}
    asked = {
        "usage": ("get_event_counts_for_organization",
                  {**organization, **day, "groupBy": ["outcome"], "category": "error"}),
        "summary": ("get_organization_events_count_by_project",
                    {**organization, "field": "sum(quantity)", "category": "profiles"}),
        "series": ("get_event_counts_for_project",
                   {**organization, "project_id_or_slug": "pump-station", "stat": "received", "resolution": "1h"}),
    }
    async with Client(server.mcp) as client:
        told = {name: (await client.call_tool(*call)).structured_content for name, call in asked.items()}
    print(json.dumps(told))

asyncio.run(main())
"""

UNIVERSAL = """
import json, sys
from universal_mcp_sentry.app import SentryApp

class Token:
    def get_credentials(self):
        return {"api_key": sys.argv[3]}

app = SentryApp(integration=Token())
app.base_url = sys.argv[2]
slug, field, start, end = sys.argv[1], "sum(quantity)", "2020-03-21T21:00:00", "2020-03-22T21:00:00"
print(json.dumps({
    "organizations": app.list_your_organizations(),
    "organization": app.retrieve_an_organization(slug),
    "projects": app.list_an_organization_s_projects(slug),
    "usage": app.retrieve_event_counts_for_an_organization_v2(
        slug, ["outcome", "category"], field, start=start, end=end, project=[-1]),
    "summary": app.retrieve_an_organization_s_events_count_by_project(
        slug, field, start=start, end=end, category="error", download=False),
    "series": app.retrieve_event_counts_for_a_project(
        slug, "pump-station", stat="received", since="1584824400", until="1584907200", resolution="1h"),
}))
"""


def test_mcparmory_sentry(target: Target) -> None:
    """Its tools for usage, the summary and a project's series; the last two of the last day, which is empty.

    The summary's tool knows no range, and the series' one only dates where we, as the original, take numbers.
    """
    env = {"BASE_URL": target.url, "BEARER_TOKEN": target.token}
    told = _asked(target, ["mcparmory-sentry==1.0.2"], ARMORY, [SLUG], env)
    (group,) = told["usage"]["groups"]
    assert (group["by"], group["series"]["sum(quantity)"]) == ({"outcome": "accepted"}, EXAMPLE)
    assert told["summary"]["projects"] == []
    (series,) = told["series"].values()
    assert [count for _, count in series] == [0] * 24


def test_universal_mcp_sentry(target: Target) -> None:
    """Lists, usage, summary and a project's series, as its methods ask for them."""
    packages = ["universal-mcp-sentry==0.1.1", "universal-mcp==0.1.15"]
    told = _asked(target, packages, UNIVERSAL, [SLUG, target.url, target.token])
    assert [one["id"] for one in told["organizations"]] == [told["organization"]["id"]] == [str(ORG_ID)]
    assert [one["slug"] for one in told["projects"]] == ["pump-station", "prime-mover"]
    (group,) = told["usage"]["groups"]
    assert group["series"]["sum(quantity)"] == EXAMPLE
    assert told["summary"]["projects"][0]["stats"][0]["totals"] == {"sum(quantity)": TOTAL}
    assert told["series"] == SERIES


def _asked(
    target: Target, packages: list[str], program: str, arguments: list[str], env: dict[str, str] | None = None
) -> dict[str, Any]:
    """What the program prints where the packages are."""
    if not target.own:
        pytest.skip("needs data of its own")
    folder = _environment(packages)
    both = {**os.environ, **(env or {})}
    command = [str(folder / "bin" / "python"), "-c", program, *arguments]
    run = subprocess.run(command, cwd=folder, env=both, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    told: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return told


def _environment(packages: list[str]) -> Path:
    """An environment with the packages; kept for the next run. An environment cannot be moved, so it is marked last."""
    folder = CACHE / f"pypi-{packages[0]}"
    if (folder / "complete").exists():
        return folder
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", str(folder)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *packages]
    run = subprocess.run(install, capture_output=True, text=True, check=False)
    if run.returncode:
        shutil.rmtree(folder)
        away = "error sending request" in run.stderr or "Failed to fetch" in run.stderr
        (pytest.fail if IN_CI and not away else pytest.skip)(f"PyPI gives no packages: {run.stderr[-500:]}")
    (folder / "complete").touch()
    return folder
