"""What stands beside the endpoint: health, metrics, documents. None of it needs a token."""

import httpx
import pytest


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready"])
def test_health_endpoints_return_200(path: str, http: httpx.Client) -> None:
    """A running server over a running ClickHouse is alive and ready."""
    assert http.get(path).status_code == 200


def test_metrics_count_requests_by_route_and_status(http: httpx.Client) -> None:
    """Prometheus text that counts the requests of the endpoint."""
    http.get("/api/0/organizations/x/stats/")
    answer = http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'orgstats_requests_total{route="organization",status="401"}' in answer.text


def test_openapi_describes_the_endpoints(http: httpx.Client) -> None:
    """Both stats endpoints with all parameters and every status of the contract."""
    paths = http.get("/openapi.json").json()["paths"]
    operation = paths["/api/0/organizations/{organization_slug}/stats/"]["get"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {
        "organization_slug",
        "stat",
        "since",
        "until",
        "resolution",
        "statsPeriod",
        "group",
        "projectID",
        "id",
    }
    assert set(operation["responses"]) == {"200", "304", "400", "401", "403", "404", "405", "429", "503"}
    assert "/api/0/projects/{organization_slug}/{project_slug}/stats/" in paths


def test_docs_page_loads_nothing_external(http: httpx.Client) -> None:
    """A page that shows the same, and loads neither scripts nor styles nor fonts."""
    answer = http.get("/docs")
    assert answer.status_code == 200
    assert "/api/0/organizations/{organization_slug}/stats/" in answer.text
    for loading in ("<script", "<link", "src=", "http://", "https://", "@import"):
        assert loading not in answer.text


def test_unknown_path_returns_404(http: httpx.Client) -> None:
    """Any other path, without a trace of the inside."""
    for path in ("/api/0/projects/", "/api/0/organizations/a/b/stats/", "/nothing", "/healthz", "/.env"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "The requested resource does not exist"})


def test_post_to_health_returns_405(http: httpx.Client) -> None:
    """405 in the form of every error, with the methods that would do."""
    answer = http.post("/healthz/live")
    assert (answer.status_code, answer.json()) == (405, {"detail": 'Method "POST" not allowed.'})
    assert "GET" in answer.headers["Allow"]
