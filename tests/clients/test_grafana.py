"""The dashboard of an organization: what its panels have Grafana's Sentry data source ask, asked of a running API.

Grafana and the data source do not run here. `_request` does what the data source's `GetStatsV2Input.ToQuery` does.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import pytest
import yaml

from orgstats.schemas.outcomes import STAT_CATEGORIES, Outcome
from tests.conformance.conftest import MATRIX_BUCKET, MATRIX_ID, PRIME, PUMP, SLUG, Target, matrix
from tests.deploy.commands import understood
from tests.deploy.test_compose import COMPOSE, FILE, SERVICES

GRAFANA: Final = Path(__file__).parents[2] / "deploy" / "grafana"
BOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "organization" / "usage.json").read_text(encoding="utf-8"))
PLUGIN: Final = "grafana-sentry-datasource"
CATEGORIES: Final = {"error": STAT_CATEGORIES, "transaction": (2,), "attachment": (4,)}
KNOWN: Final[Mapping[str, set[str]]] = {
    "statsFields": {"sum(quantity)", "sum(times_seen)"},
    "statsGroupBy": {"outcome", "reason", "category"},
    "statsCategory": {"transaction", "error", "attachment", "default", "session", "security"},
    "statsOutcome": {"accepted", "filtered", "invalid", "rate_limited", "client_discard", "abuse"},
}
"""What the data source's editor offers for a query of the type statsV2 (its src/types.ts)."""


def _request(slug: str, query: Mapping[str, Any], projects: list[str], start: str, end: str) -> str:
    """Path and query string; each list's values that are not empty, one by one."""
    named = {"category": "statsCategory", "field": "statsFields", "groupBy": "statsGroupBy", "project": "projectIds"}
    lists = {**named, "outcome": "statsOutcome", "reason": "statsReason"}
    asked = [("start", start), ("end", end)]
    asked += [("interval", query["statsInterval"])] * bool(query["statsInterval"])
    for name, member in lists.items():
        values = [one for value in query[member] for one in (projects if value == "$project" else [value])]
        asked += [(name, value) for value in values if value]
    return f"/api/0/organizations/{slug}/stats_v2/?{urlencode(sorted(asked))}"


@pytest.mark.parametrize("projects", [["-1"], ["0", "99"]], ids=["all", "chosen"])
@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: str(panel["title"]))
def test_every_panel_has_data(panel: dict[str, Any], projects: list[str], own: Target) -> None:
    """A week by the hour, of every project and of chosen ones: each group has what was counted for it."""
    (query,) = panel["targets"]
    path = _request("matrix", query, projects, "2020-03-19T00:00:00", "2020-03-26T00:00:00")
    answer = httpx.get(own.url + path, headers={"Authorization": f"Bearer {own.every_token}"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    hour = body["intervals"].index("2020-03-22T18:00:00Z")
    assert (MATRIX_BUCKET // 3600 * 3600, len(body["intervals"])) == (1_584_900_000, 168)
    for group in body["groups"]:
        series = group["series"]["sum(quantity)"]
        assert (series[hour], sum(series)) == (group["totals"]["sum(quantity)"],) * 2
    by = tuple(query["statsGroupBy"])
    shown = {tuple(group["by"][name] for name in by): group["totals"]["sum(quantity)"] for group in body["groups"]}
    assert shown == _counted(query, by) != {}


def _counted(query: Mapping[str, Any], by: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """The cells that are in the tables, added up."""
    sums: dict[tuple[str, ...], int] = {}
    for cell in matrix():
        assert cell.org_id == MATRIX_ID
        category = next((name for name, numbers in CATEGORIES.items() if cell.category in numbers), "")
        outcome = Outcome(cell.outcome).name if cell.outcome in set(Outcome) else f"outcome {cell.outcome}"
        if category in query["statsCategory"] and (not query["statsOutcome"] or outcome in query["statsOutcome"]):
            names = {"outcome": outcome, "category": category, "reason": "none"}
            key = tuple(names[name] for name in by)
            sums[key] = sums.get(key, 0) + cell.quantity
    return sums


@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: str(panel["title"]))
def test_every_query_is_one_that_the_data_source_knows(panel: dict[str, Any]) -> None:
    """Its type and names, a category and a field at least, an interval that all its versions pass on."""
    (query,) = panel["targets"]
    assert query["queryType"] == "statsV2"
    assert [name for name, known in KNOWN.items() if not set(query[name]) <= known] == []
    assert query["statsCategory"]
    assert query["statsFields"]
    assert re.fullmatch(r"\d+[mhdw]", query["statsInterval"])
    assert query["projectIds"] == ["$project"]  # of all that a query has, only these may be variables
    assert query["datasource"] == panel["datasource"] == {"type": PLUGIN, "uid": "${datasource}"}


def test_projects_are_chosen_by_id(own: Target) -> None:
    """The variable asks for the list of projects; all of them are -1."""
    _, project = BOARD["templating"]["list"]
    assert (project["name"], project["query"]["type"], project["allValue"]) == ("project", "projects", "-1")
    path = f"/api/0/organizations/{SLUG}/projects/"
    listed = httpx.get(own.url + path, headers={"Authorization": f"Bearer {own.token}"}).json()
    assert [one["id"] for one in listed] == [str(PUMP), str(PRIME)]


def test_compose_provisions_the_data_source() -> None:
    """The plugin is installed before anything is provisioned; address, organization and token are those of compose."""
    grafana, token = SERVICES["grafana"], SERVICES["token"]
    assert grafana["environment"]["GF_PLUGINS_PREINSTALL_SYNC"] == PLUGIN
    provisioned = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "usage.yaml").read_text(encoding="utf-8"))
    (source,) = provisioned["datasources"]
    assert (source["type"], source["access"]) == (PLUGIN, "proxy")
    assert source["jsonData"]["url"] == "http://api:8000"
    assert source["jsonData"]["orgSlug"] in SERVICES["organization"]["command"]
    read = re.fullmatch(r"\$__file\{(/run/orgstats/(.+))\}", source["secureJsonData"]["authToken"])
    assert read is not None
    assert "grafana-token:/run/orgstats:ro" in grafana["volumes"]
    assert "grafana-token:/run/grafana" in token["volumes"]
    test, words = token["command"][0].split(" || orgstats ")
    written, words = words.split(" > ")[1], words.split(" > ")[0].split()
    assert (test, written) == (f"test -s {written}", f"/run/grafana/{read[2]}")
    understood(words)
    assert source["jsonData"]["orgSlug"] in words
    assert grafana["depends_on"]["token"]["condition"] == "service_completed_successfully"


def test_compose_mounts_every_dashboard() -> None:
    """Each JSON file below deploy/grafana is where Grafana's provider looks."""
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "orgstats.yaml").read_text())["providers"]
    mounted = [volume.split(":")[:2] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    boards = {
        str((FILE.parent / source).resolve()) for source, to in mounted if to.startswith(provider["options"]["path"])
    }
    assert boards == {str(path) for path in GRAFANA.rglob("*.json")}
