"""Metrics, dashboards, alerts and runbook name each other rightly, and each alert fires when it should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from orgstats.consumer import metrics as consumer_metrics
from orgstats.deploy import metrics_page
from orgstats.query import metrics as query_metrics

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARDS: Final = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
EVERY_DASHBOARD: Final = sorted((ROOT / "deploy" / "grafana").rglob("*.json"))
DECLARED: Final = {
    one.name: one for module in (consumer_metrics, query_metrics) for one in metrics_page.declared(module)
}
STANDARD: Final = {"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def promtool(prometheus: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What Prometheus' own checker says."""
    argv = [prometheus.with_name("promtool"), *words]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def rules() -> list[dict[str, Any]]:
    """The alerts as they are written."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def chosen(expression: str) -> str:
    """A query as Grafana sends it when all of every variable is chosen."""
    return re.sub(r"\$(environment|namespace|group)\b", ".*", expression.replace("$__rate_interval", "1m"))


def panels() -> Iterator[tuple[str, str]]:
    """(dashboard and title, expression) of every panel's every query."""
    for dashboard in DASHBOARDS:
        for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                yield f"{dashboard.name}: {panel['title']}", chosen(target["expr"])


def named(expression: str) -> set[str]:
    """The metrics in an expression, a histogram's series as the histogram."""
    found = set(re.findall(r"\b(?:orgstats|process)_\w+", re.sub(r'"[^"]*"', "", expression)))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in found}


def shown() -> set[str]:
    """Metrics that a dashboard or an alert uses."""
    expressions = [*(expression for _, expression in panels()), *(rule["expr"] for rule in rules())]
    return set().union(*map(named, expressions))


def test_metrics_page_matches_declarations() -> None:
    """docs/metrics.md is what `python -m orgstats.deploy.metrics_page` prints."""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == metrics_page.page()


def test_dashboards_use_declared_metrics_and_every_one() -> None:
    """Dashboards and alerts use declared metrics only, and each declared one is used."""
    assert shown() - STANDARD == set(DECLARED)


def test_each_metric_has_a_remedy() -> None:
    """A declaration has a meaning and, as a second sentence, a remedy."""
    assert [one.name for one in DECLARED.values() if not one.remedy.endswith(".")] == []


@pytest.mark.parametrize("module", [consumer_metrics, query_metrics], ids=["consumer", "query"])
def test_each_metric_is_set_somewhere(module: Any) -> None:
    """What is declared is also measured: some file of the same side uses its variable."""
    side = ROOT / module.__name__.split(".")[1]
    code = "".join(path.read_text(encoding="utf-8") for path in side.rglob("*.py"))
    of_metrics = [name for name, value in vars(module).items() if hasattr(value, "describe") and name[0].islower()]
    assert [
        name for name in of_metrics if not re.search(rf"\b(metrics\.)?{name}\.(labels|inc|set|info|time|observe)", code)
    ] == []


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_links_to_the_runbook(rule: dict[str, Any]) -> None:
    """It says how bad it is, what is the case, and which section of the runbook helps; the section is there."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_alert_fires_when_it_should(prometheus: Path) -> None:
    """alerts_test.yml lets each alert fire, and nothing else fires beside it."""
    tests = ALERTS.with_name("alerts_test.yml")
    result = promtool(prometheus, "test", "rules", tests)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [rule["alert"] for rule in rules() if f'alertname="{rule["alert"]}"' not in tests.read_text()] == []


def test_prometheus_takes_its_configuration(prometheus: Path) -> None:
    """What compose mounts is understood, the rules it names too."""
    config = ALERTS.with_name("prometheus.yml")
    result = promtool(prometheus, "check", "config", config)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_examples_for_an_organization_are_taken_and_fire(prometheus: Path) -> None:
    """Its scrape configuration and both of its alerts; nothing of orgstats' own loads them."""
    config, tests = ALERTS.with_name("organization_scrape.yml"), ALERTS.with_name("organization_alerts_test.yml")
    for words in (("check", "config", "--syntax-only", config), ("test", "rules", tests)):
        result = promtool(prometheus, *words)
        assert result.returncode == 0, result.stdout + result.stderr
    assert yaml.safe_load(ALERTS.with_name("prometheus.yml").read_text())["rule_files"] == [ALERTS.name]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: str(path.name))
def test_every_series_of_a_panel_is_chosen_by_the_variables(dashboard: Path) -> None:
    """A panel that left out a variable would show another environment's consumers."""
    board = json.loads(dashboard.read_text(encoding="utf-8"))
    variables = [one["name"] for one in board["templating"]["list"] if one["type"] == "query"]
    assert variables[:2] == ["environment", "namespace"]
    for panel in board["panels"]:
        for target in panel["targets"]:
            for chosen in re.findall(r"\b(?:orgstats|process)_\w+(\{[^}]*\})?", target["expr"]):
                assert [name for name in variables if f'{name}=~"${name}"' not in chosen] == [], panel["title"]


@pytest.mark.parametrize("dashboard", EVERY_DASHBOARD, ids=lambda path: str(path.name))
def test_no_panel_hides_another(dashboard: Path) -> None:
    """Ids are unique, and each place of the grid is taken once."""
    panels = json.loads(dashboard.read_text(encoding="utf-8"))["panels"]
    places = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
