"""Grafana's official Sentry data source and go-sentry-api: their requests, decoded as Go decodes them.

Neither is to be had as a package, so `stats/main.go` has what they ask and the types that they read it into.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import ORG_ID, PRIME, PUMP, SLUG, Target
from tests.query.seeding import EXAMPLE, EXAMPLE_FIRST

TOTAL = sum(EXAMPLE)
SERIES = [[EXAMPLE_FIRST + 3600 * hour, count] for hour, count in enumerate(EXAMPLE)]


@pytest.fixture(scope="module")
def answers(target: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the Go program understood, by request."""
    if not target.own or not (go := shutil.which("go")):
        pytest.skip("needs Go" if target.own else "needs data of its own")
    env = {**os.environ, "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    asked = [go, "run", ".", target.url, target.token, SLUG, str(PUMP)]
    folder = Path(__file__).parent / "stats"
    run = subprocess.run(asked, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    decoded: dict[str, Any] = json.loads(run.stdout)
    return decoded


def test_data_source_lists_organizations_and_projects(answers: dict[str, Any]) -> None:
    """For its settings and its choices; ids are strings, dates have a zone."""
    (organization,) = answers["organizations"]
    assert (organization["id"], organization["slug"]) == (str(ORG_ID), SLUG)
    assert organization["dateCreated"] == "1970-01-01T00:00:01Z"
    assert [(one["id"], one["slug"], one["teams"]) for one in answers["projects"]] == [
        (str(PUMP), "pump-station", None),
        (str(PRIME), "prime-mover", None),
    ]


def test_data_source_reads_usage(answers: dict[str, Any]) -> None:
    """Whole numbers, times with a zone, one interval an hour unless another is asked for."""
    body = answers["usage"]
    assert (body["start"], body["end"]) == ("2020-03-21T21:00:00Z", "2020-03-22T21:00:00Z")
    assert len(body["intervals"]) == 24
    (group,) = body["groups"]
    assert (group["series"]["sum(quantity)"], group["totals"]["sum(quantity)"]) == (EXAMPLE, TOTAL)


def test_data_source_reads_groups(answers: dict[str, Any]) -> None:
    """Names of a group's outcome, reason and category; a day by six hours, of which five touch it."""
    body = answers["usage by all"]
    (group,) = body["groups"]
    assert group["by"] == {"outcome": "accepted", "reason": "none", "category": "error"}
    assert (len(body["intervals"]), sum(group["series"]["sum(quantity)"])) == (5, TOTAL)


def test_data_source_reads_totals_of_projects(answers: dict[str, Any]) -> None:
    """Neither intervals nor series are there, and it does without."""
    body = answers["usage by project"]
    assert body["intervals"] is None
    (group,) = body["groups"]
    assert (group["totals"]["sum(quantity)"], group["series"]["sum(quantity)"]) == (TOTAL, None)


def test_data_source_filters(answers: dict[str, Any]) -> None:
    """By project, outcomes and reason."""
    (group,) = answers["usage of filters"]["groups"]
    assert group["series"]["sum(quantity)"] == EXAMPLE


def test_data_source_shows_why_it_was_refused(answers: dict[str, Any]) -> None:
    """The sentence of the answer is what a user sees on the panel."""
    assert answers["refused"].startswith('400 Bad Request: Invalid interval: "7h"')


def test_library_reads_an_organization_and_series(answers: dict[str, Any]) -> None:
    """The published example as pairs of floats, of the organization and of its project."""
    assert answers["organization"]["slug"] == SLUG
    assert answers["series"] == answers["project"] == answers["no resolution"] == SERIES
    assert answers["invalid"] == "400 Bad Request: Invalid resolution"
