"""The dashboard's files as they travel: whole, cached, compressed, guarded, from nowhere else."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import orgstats.query.dashboard
from tests.query.serving import running_api

FOLDER = Path(orgstats.query.dashboard.__file__).parent
FILES = ["", "ops", *(f"dashboard/{path.name}" for path in FOLDER.iterdir() if path.suffix in (".js", ".css", ".svg"))]
PLOTLY = "dashboard/plotly.min.js"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Asks a server whose ClickHouse is away: the files do not need it."""
    nowhere = "clickhouse://nobody@127.0.0.1:1/default"
    with running_api(nowhere, tmp_path_factory.mktemp("serve")) as api, httpx.Client(base_url=api.url) as client:
        yield client


@pytest.mark.parametrize("path", [*FILES, PLOTLY])
def test_etag_match_returns_304(client: httpx.Client, path: str) -> None:
    """Each file has an ETag, and a 304 for who has it already."""
    first = client.get(f"/{path}")
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/{path}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("path", [*FILES, PLOTLY])
def test_file_is_gzipped_if_accepted(client: httpx.Client, path: str) -> None:
    """The two encodings hold the same bytes and have ETags of their own."""
    plain = client.get(f"/{path}", headers={"Accept-Encoding": "identity"})
    packed = client.get(f"/{path}", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content))


@pytest.mark.parametrize("path", [*FILES, PLOTLY])
def test_every_file_has_security_headers(client: httpx.Client, path: str) -> None:
    """Nothing inline, nothing evaluated, nothing from elsewhere, in no frame."""
    headers = client.head(f"/{path}").headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", FILES)
def test_files_load_nothing_external(client: httpx.Client, path: str) -> None:
    """No file of ours names another host, so the page works without a network."""
    assert re.findall(r"(?:https?:)?//\w[^\s\"']*\.[a-z]{2,}", client.get(f"/{path}").text) in (
        [],
        ["http://www.w3.org"],  # the name of SVG, which nobody fetches
    )


@pytest.mark.parametrize("name", ["__init__.py", "..%2Fapp.py", "nothing.js", "index.html%00"])
def test_other_files_are_not_served(client: httpx.Client, name: str) -> None:
    """Only the page's own files are to be had."""
    assert client.get(f"/dashboard/{name}").status_code == 404


def test_the_page_cannot_be_posted_to(client: httpx.Client) -> None:
    """The page is read only."""
    assert client.post("/").status_code == 405
