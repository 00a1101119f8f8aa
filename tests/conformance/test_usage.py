"""What clients ask for beside the documented series, over HTTP: usage, summary, lists, metrics."""

import csv
import io

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.conformance.conftest import (
    COMPLETE_UNTIL,
    FOREIGN,
    ORG_ID,
    OTHER_ID,
    PRIME,
    PUMP,
    SLUG,
    Ask,
    Target,
)
from tests.conformance.test_tenants import SECRET
from tests.query.seeding import EXAMPLE

USAGE = f"/api/0/organizations/{SLUG}/stats_v2/"
SUMMARY = f"/api/0/organizations/{SLUG}/stats-summary/"
EXAMPLE_DAY = "start=2020-03-21T21:00:00&end=2020-03-22T21:00:00"
QUANTITY = "field=sum(quantity)"


def test_usage_without_groups_is_one_series(ask: Ask, own: Target) -> None:
    """The published example by the hour, with an empty `by`; the two error categories that are empty add nothing."""
    answer = ask(f"{QUANTITY}&{EXAMPLE_DAY}&category=error", path=USAGE)
    assert answer.status_code == 200
    body = answer.json()
    assert body["start"] == body["intervals"][0] == "2020-03-21T21:00:00Z"
    assert (body["end"], len(body["intervals"])) == ("2020-03-22T21:00:00Z", 24)
    assert body["groups"] == [
        {"by": {}, "totals": {"sum(quantity)": sum(EXAMPLE)}, "series": {"sum(quantity)": EXAMPLE}}
    ]


def test_usage_by_outcome_and_category(ask: Ask, own: Target) -> None:
    """Names of outcomes and categories; what has none is shown by its number, the error categories are one."""
    query = (
        f"{QUANTITY}&groupBy=category&groupBy=outcome&start=2020-03-22T18:00:00&end=2020-03-22T18:10:00&interval=10m"
    )
    answer = ask(query, path=USAGE.replace(SLUG, "matrix"), token=own.every_token)
    groups = {
        (one["by"]["outcome"], one["by"]["category"]): one["totals"]["sum(quantity)"] for one in answer.json()["groups"]
    }
    assert groups["filtered", "error"] == 2**7 + 2**8 + 2**10
    assert groups["accepted", "transaction"] == 4
    assert groups["outcome 7", "category 255"] == 2 ** (7 * 7 + 6)
    assert len(groups) == 8 * 5


def test_usage_by_project_has_totals_alone(ask: Ask, own: Target) -> None:
    """As in the original: neither intervals nor series."""
    answer = ask(f"{QUANTITY}&field=sum(times_seen)&{EXAMPLE_DAY}&category=error&groupBy=project", path=USAGE).json()
    totals = dict.fromkeys(("sum(quantity)", "sum(times_seen)"), sum(EXAMPLE))
    assert answer["groups"] == [{"by": {"project": PUMP}, "totals": totals}]
    assert "intervals" not in answer


def test_usage_of_an_organization_without_events(ask: Ask, own: Target) -> None:
    """Intervals, and no groups."""
    path = USAGE.replace(SLUG, "empty-org")
    answer = ask(f"{QUANTITY}&groupBy=category&statsPeriod=1d&interval=1d", path=path, token=own.every_token)
    assert (answer.status_code, answer.json()["groups"]) == (200, [])
    assert len(answer.json()["intervals"]) in (1, 2)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", 'At least one "field" is required.'),
        ("field=x", 'Invalid field: "x"'),
        (f"{QUANTITY}&groupBy=x", 'Invalid groupBy: "x"'),
        (f"{QUANTITY}&groupBy=category&category=x", 'Invalid category: "x"'),
        (f"{QUANTITY}&groupBy=category&outcome=x", 'Invalid outcome: "x"'),
        (f"{QUANTITY}&groupBy=category&key_id=x", 'Invalid key: "x"'),
        (
            f"{QUANTITY}&category=attachment&category=error",
            "if filtering by attachment no other category may be present",
        ),
        (f"{QUANTITY}&groupBy=category&start=2021-03-14T00:00:00", "start and end are both required"),
        (f"{QUANTITY}&groupBy=outcome", "Query must have category as groupby or filter"),
    ],
)
def test_usage_errors(query: str, detail: str, ask: Ask) -> None:
    """The texts that clients know."""
    answer = ask(query, path=USAGE)
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


@pytest.mark.parametrize("route", ["stats_v2", "stats-summary", "projects", "metrics", ""])
def test_access_is_as_strict_as_for_the_series(route: str, ask: Ask, own: Target) -> None:
    """Nobody without a token, nobody for another organization, POST for nobody."""
    query = f"{QUANTITY}&groupBy=category"
    mine, other = (f"/api/0/organizations/{slug}/{route}".rstrip("/") + "/" for slug in (SLUG, "other-org"))
    assert ask(query, path=mine).status_code == 200
    assert ask(query, path=mine + "/").status_code == ask(query, path=mine.rstrip("/")).status_code == 200
    assert ask(query, path=mine, token=None).status_code == 401
    assert ask(query, path=mine, token=own.revoked_token).status_code == 401
    assert ask(query, path=other).status_code == 403
    assert ask(query, path=mine, method="POST").status_code == 405
    headers = ask(query, path=mine).headers
    assert ask(query, path=mine, headers={"If-None-Match": headers["ETag"]}).status_code in (200, 304)
    assert headers["X-Stats-Complete-Until"] == str(COMPLETE_UNTIL)
    assert headers["Access-Control-Allow-Origin"] == "*"


def test_no_filter_of_usage_reaches_another_tenant(ask: Ask, own: Target) -> None:
    """Foreign projects give nothing of theirs, alone or beside one's own."""
    everything = f"{QUANTITY}&{EXAMPLE_DAY}&groupBy=project&groupBy=category"
    for path in (USAGE, SUMMARY):
        expected = ask(everything, path=path).content
        for extra in (f"project=-1&project={FOREIGN}", f"organization={OTHER_ID}", "organization_slug=other-org"):
            assert ask(f"{everything}&{extra}", path=path).content == expected
        assert ask(f"{everything}&project={FOREIGN}&project={PUMP}", path=path).content == expected
        alone = ask(f"{everything}&project={FOREIGN}", path=path)
        assert (alone.status_code, SECRET in alone.text, str(FOREIGN) in alone.text) == (200, False, False)


def test_summary(ask: Ask, own: Target) -> None:
    """Each project by category and outcome."""
    body = ask(f"{QUANTITY}&{EXAMPLE_DAY}", path=SUMMARY).json()
    total = sum(EXAMPLE)
    stats = [{"category": "error", "outcomes": {"accepted": total}, "totals": {"sum(quantity)": total}}]
    assert body["projects"] == [{"id": str(PUMP), "slug": "pump-station", "stats": stats}]


def test_summary_as_csv(ask: Ask, own: Target) -> None:
    """One row a project, as a file."""
    answer = ask(f"{QUANTITY}&{EXAMPLE_DAY}&download=true", path=SUMMARY)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{SLUG}-stats-summary.csv"'
    total = str(sum(EXAMPLE))
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["project_id", "project_slug", "error accepted", "error sum(quantity)"],
        [str(PUMP), "pump-station", total, total],
    ]


def test_lists_have_what_the_token_may_see(ask: Ask, own: Target) -> None:
    """Ids are strings, as in the original."""
    organization = {"id": str(ORG_ID), "slug": SLUG, "name": SLUG, "dateCreated": "1970-01-01T00:00:01.000000Z"}
    assert ask(path="/api/0/organizations/").json() == [organization]
    assert ask(path=f"/api/0/organizations/{SLUG}/").json() == organization
    assert ask(path=f"/api/0/organizations/{ORG_ID}/").json() == organization
    every = ask(path="/api/0/organizations/", token=own.every_token).json()
    assert [one["slug"] for one in every] == ["empty-org", "filtered", "matrix", "other-org", SLUG]
    projects = ask(path=f"/api/0/organizations/{SLUG}/projects/").json()
    assert [(one["id"], one["slug"]) for one in projects] == [(str(PUMP), "pump-station"), (str(PRIME), "prime-mover")]


def test_only_a_token_for_all_learns_of_organizations_without_a_slug(ask: Ask, own: Target) -> None:
    """A token of one organization never sees another's numbers; all that have events here have a slug."""
    path = "/api/0/organizations-without-slug/"
    assert ask(EXAMPLE_DAY, path=path).status_code == 403
    answer = ask(EXAMPLE_DAY, path=path, token=own.every_token)
    assert (answer.status_code, set(answer.json())) == (200, {"start", "end", "organizations"})
    assert ask("interval=7m", path=path, token=own.every_token).status_code == 400


def test_metrics_are_those_of_the_last_complete_minute(ask: Ask, own: Target) -> None:
    """Read by Prometheus' own parser; the samples have the time at which the minute ended."""
    answer = ask(path="/api/0/organizations/filtered/metrics", token=own.every_token)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
    (until,) = families["orgstats_complete_until_timestamp_seconds"]
    assert (until.value, until.labels) == (COMPLETE_UNTIL, {"organization": "filtered"})
    labels = {"organization": "filtered", "project": "sieve", "category": "transaction"}
    assert [(one.labels, one.value, float(one.timestamp)) for one in families["orgstats_events"]] == [
        ({**labels, "outcome": "accepted"}, 3, COMPLETE_UNTIL // 60 * 60),
        ({**labels, "outcome": "outcome 7"}, 4, COMPLETE_UNTIL // 60 * 60),
    ]
