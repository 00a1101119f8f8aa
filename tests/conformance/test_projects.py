"""Series of projects: the endpoint of one, and `group=project` on the organization's."""

import httpx
import pytest

from tests.conformance.conftest import FOREIGN, MATRIX_BUCKET, ORG_ID, PRIME, PUMP, SLUG, Ask, Target
from tests.query.seeding import EXAMPLE, EXAMPLE_FIRST

UNTIL = {"until": "1584907200"}
PROJECT = f"/api/0/projects/{SLUG}/pump-station/stats/"


def counts(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [count for _, count in answer.json()]


def test_project_series(ask: Ask, own: Target) -> None:
    """By slugs or ids, with and without a slash, in the organization's form."""
    for path in (PROJECT, PROJECT[:-1], f"/api/0/projects/{ORG_ID}/{PUMP}/stats/"):
        answer = ask(UNTIL, path=path)
        assert answer.json() == [[float(EXAMPLE_FIRST + 3600 * hour), count] for hour, count in enumerate(EXAMPLE)]
    assert counts(ask(UNTIL, path=f"/api/0/projects/{SLUG}/prime-mover/stats/")) == [0] * 24


def test_missing_project_returns_404(ask: Ask, own: Target) -> None:
    """404 to who may read the organization; a foreign organization's project is not found in this one."""
    for name in ("nothing", "99", "foreign", str(FOREIGN), "x" * 3000, "%27"):
        answer = ask(path=f"/api/0/projects/{SLUG}/{name}/stats/")
        assert (answer.status_code, answer.json()) == (404, {"detail": "The requested resource does not exist"})


def test_foreign_project_returns_403(ask: Ask, own: Target) -> None:
    """Through its own organization it is another organization's."""
    assert ask(path="/api/0/projects/other-org/foreign/stats/").status_code == 403
    assert ask(path="/api/0/projects/other-org/nothing/stats/").status_code == 403


def test_project_has_same_errors_and_headers(ask: Ask, own: Target) -> None:
    """Errors, methods, conditions and headers are those of the organization's endpoint."""
    assert ask({"stat": "x"}, path=PROJECT).json() == {"detail": "Invalid stat: x"}
    assert ask(path=PROJECT, token=None).status_code == 401
    assert ask(path=PROJECT, method="POST").status_code == 405
    assert ask(path=PROJECT, method="OPTIONS", token=None).status_code == 200
    answer = ask(UNTIL, path=PROJECT)
    assert answer.headers["X-Frame-Options"] == "deny"
    again = ask(UNTIL, path=PROJECT, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert ask({**UNTIL, "group": "x", "id": "x"}, path=PROJECT).status_code == 200


@pytest.mark.parametrize("resolution", ["10s", "1h"])
@pytest.mark.parametrize(
    ("reason", "count"),
    [
        ("localhost", 3),
        ("of our own", 4),
        *((reason, 0) for reason in ("ip-address", "release-version", "invalid-csp")),
    ],
)
def test_filter_reason_as_stat_of_a_project(reason: str, count: int, resolution: str, ask: Ask, own: Target) -> None:
    """What was filtered for it, of the error categories; the published reasons, and any that is stored."""
    window = {"since": MATRIX_BUCKET, "until": MATRIX_BUCKET, "resolution": resolution, "stat": reason}
    answer = ask(window, path="/api/0/projects/filtered/sieve/stats/", token=own.every_token)
    assert answer.json() == [[float(MATRIX_BUCKET), count]]


@pytest.mark.parametrize("reason", ["quota", "of another", "nothing", "Localhost", "x" * 5000, "\0"])
def test_unknown_reason_is_an_invalid_stat(reason: str, ask: Ask, own: Target) -> None:
    """One that this project has for no filtered event; and of an organization every one."""
    answer = ask({"stat": reason, "since": "x"}, path="/api/0/projects/filtered/sieve/stats/", token=own.every_token)
    assert (answer.status_code, answer.json()) == (400, {"detail": f"Invalid stat: {reason}"})
    for query in ({"stat": "localhost"}, {"stat": "localhost", "group": "project"}):
        answer = ask(query, path="/api/0/organizations/filtered/stats/", token=own.every_token)
        assert (answer.status_code, answer.json()) == (400, {"detail": "Invalid stat: localhost"})


def test_group_project_gives_a_series_for_each(ask: Ask, own: Target) -> None:
    """An object with a series for each project of the organization, also for one without events."""
    series = ask({**UNTIL, "group": "project"}).json()
    assert {key: [count for _, count in points] for key, points in series.items()} == {
        str(PUMP): EXAMPLE,
        str(PRIME): [0] * 24,
    }


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        (f"projectID={PUMP}", {str(PUMP)}),
        (f"projectID={PUMP}&projectID={PRIME}", {str(PUMP), str(PRIME)}),
        (f"id={PRIME}", {str(PRIME)}),
        (f"id={PRIME}&id={PUMP}&projectID={PUMP}", {str(PUMP)}),
        (f"projectID={PUMP}&projectID={FOREIGN}", {str(PUMP)}),
        (f"projectID=&id=&projectID={PUMP}", {str(PUMP)}),
    ],
)
def test_project_id_and_id_filter_projects(query: str, keys: set[str], ask: Ask, own: Target) -> None:
    """projectID and id keep what both name, among the organization's own projects."""
    assert set(ask(f"group=project&until=1584907200&{query}").json()) == keys


@pytest.mark.parametrize(
    "query", [f"group=project&projectID={FOREIGN}", "group=project&id=99", f"id={ORG_ID + 1}", f"id={PUMP}"]
)
def test_filter_matching_nothing_gives_empty_answer(query: str, ask: Ask, own: Target) -> None:
    """When nothing is left there is an empty array, as the original answers."""
    answer = ask(query)
    assert (answer.status_code, answer.text) == (200, "[]")


def test_the_organization_may_be_named_by_id(ask: Ask, own: Target) -> None:
    """Without a group, `id` among others keeps the organization's own series."""
    assert counts(ask(f"id=1&id={ORG_ID}&until=1584907200")) == EXAMPLE
    assert counts(ask("group=organization&until=1584907200")) == EXAMPLE


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("group=key", "Invalid group: key; organization or project"),
        ("group=project&projectID=x", "projectID must be an integer"),
        ("id=1;2", "id must be an integer"),
        ("group=project&stat=x", "Invalid stat: x"),
    ],
)
def test_invalid_group_and_ids_return_400(query: str, detail: str, ask: Ask) -> None:
    """Refused with a text, where the original fails."""
    answer = ask(query)
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})
