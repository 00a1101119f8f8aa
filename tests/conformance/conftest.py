"""What the contract is tested against: a server of its own with known data, or the one that is named."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from orgstats.clickhouse.connect import connect
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.migrate import migrate
from orgstats.schemas.outcomes import Outcome
from tests.query.seeding import (
    EXAMPLE,
    EXAMPLE_FIRST,
    Cell,
    Counted,
    insert_counts,
    insert_sources,
    make_token,
)
from tests.query.serving import running_api

SLUG = "the-interstellar-jurisdiction"
ORG_ID, OTHER_ID, MATRIX_ID, FILTERED_ID = 7, 8, 9, 6
PUMP, PRIME, FOREIGN, SIEVE = 11, 12, 13, 14
MATRIX_BUCKET = 1_584_900_000
COMPLETE_UNTIL = 1_584_950_000


@dataclass(frozen=True)
class Target:
    """The server under test; None is what is not known of a foreign one."""

    url: str
    token: str
    slug: str
    org_id: int | None
    other_org: str | None
    every_token: str | None
    expired_token: str | None = None
    revoked_token: str | None = None
    own: bool = False

    @property
    def path(self) -> str:
        """The endpoint for the organization that the token may read."""
        return f"/api/0/organizations/{self.slug}/stats/"


Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The server of ORGSTATS_CONFORMANCE_URL, or one that is started for this run."""
    url = os.environ.get("ORGSTATS_CONFORMANCE_URL")
    if url:
        yield _named(url, os.environ)
        return
    clickhouse = request.getfixturevalue("clickhouse_server")
    name = f"conformance_{uuid.uuid4().hex[:8]}"
    with connect(clickhouse, client_name="tests") as client:
        client.execute(f"CREATE DATABASE {name}")
        own = urlsplit(clickhouse)._replace(path=f"/{name}").geturl()
        migrate(own, retention_days=0)
        directory = request.getfixturevalue("tmp_path_factory").mktemp("conformance")
        with Database(own, size=1) as database:
            seeded = _seeded(database)  # before the server starts, which looks at the progress at once
        with running_api(own, directory, RETENTION_DAYS="90") as api:
            yield replace(seeded, url=api.url)
        client.execute(f"DROP DATABASE {name} SYNC")


@pytest.fixture(scope="session")
def http(target: Target) -> Iterator[httpx.Client]:
    """A connection to the server, without credentials."""
    with httpx.Client(base_url=target.url, timeout=30) as client:
        yield client


@pytest.fixture
def ask(target: Target, http: httpx.Client) -> Ask:
    """Asks the endpoint: `ask({"stat": "rejected"}, path=…, token=…, method=…, headers=…)`."""

    def ask(
        params: Mapping[str, Any] | list[tuple[str, str]] | str = "",
        *,
        path: str = target.path,
        token: str | None = target.token,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        credentials = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"{path}?{params}" if isinstance(params, str) and params else path
        given = None if isinstance(params, str) else params
        return http.request(method, url, params=given, headers={**credentials, **(headers or {})})  # type: ignore[arg-type]

    return ask


@pytest.fixture
def own(target: Target) -> Target:
    """The server with known data; a foreign one skips the test."""
    if not target.own:
        pytest.skip("needs data of its own: run it without ORGSTATS_CONFORMANCE_URL")
    return target


def _named(url: str, env: Mapping[str, str]) -> Target:
    prefix = "ORGSTATS_CONFORMANCE_"
    org_id = env.get(prefix + "ORG_ID")
    return Target(
        url=url,
        token=env[prefix + "TOKEN"],
        slug=env.get(prefix + "ORG", SLUG),
        org_id=int(org_id) if org_id else None,
        other_org=env.get(prefix + "OTHER_ORG"),
        every_token=env.get(prefix + "EVERY_TOKEN"),
    )


def _seeded(database: Database) -> Target:
    """Known organizations, projects, tokens and counts in an empty database; the url is still to come."""
    directory = Directory(database)
    for slug, org_id in (
        (SLUG, ORG_ID),
        ("other-org", OTHER_ID),
        ("matrix", MATRIX_ID),
        ("empty-org", 10),
        ("filtered", FILTERED_ID),
    ):
        directory.add_organization(Wanted(slug, key=org_id), 1.0)
    for slug, org_id, project_id in (
        ("pump-station", ORG_ID, PUMP),
        ("prime-mover", ORG_ID, PRIME),
        ("foreign", OTHER_ID, FOREIGN),
        ("sieve", FILTERED_ID, SIEVE),
    ):
        directory.add_project(org_id, Wanted(slug, key=project_id), 1.0)
    example = [Cell(ORG_ID, EXAMPLE_FIRST + 3600 * hour, n, project_id=PUMP) for hour, n in enumerate(EXAMPLE)]
    foreign = [Cell(OTHER_ID, EXAMPLE_FIRST + 3600 * hour, 999_999_999, project_id=FOREIGN) for hour in range(24)]
    insert_counts(database, [*example, *foreign, *matrix(), *filtered()])
    insert_sources(database, [Counted(complete_until=COMPLETE_UNTIL + 0.9)])
    token, every, revoked, expired = (make_token(database, org, end) for org, end in _TOKENS)
    revoked_id = directory.tokens()[2].token_id
    directory.revoke(revoked_id, now=2e9)
    return Target("", token, SLUG, ORG_ID, "other-org", every, expired, revoked, own=True)


_TOKENS: list[tuple[int | None, float | None]] = [(ORG_ID, None), (None, None), (ORG_ID, 4e9), (ORG_ID, 1.0)]


def matrix() -> list[Cell]:
    """One cell for every outcome, of which the last has no name, and category, each a power of two of its own."""
    return [
        Cell(MATRIX_ID, MATRIX_BUCKET, 2 ** (outcome * 7 + place), outcome, category)
        for outcome in (*Outcome, len(Outcome))
        for place, category in enumerate((0, 1, 2, 3, 4, 9, 255))
    ]


def filtered() -> list[Cell]:
    """What one project's filters took out for two reasons, and cells that none of them may show."""
    cell = Cell(FILTERED_ID, MATRIX_BUCKET, 1, Outcome.filtered, 1, "localhost", project_id=SIEVE)
    return [
        cell,
        cell._replace(quantity=2, category=0),
        cell._replace(quantity=4, reason="of our own"),
        cell._replace(quantity=100, category=2),
        cell._replace(quantity=200, outcome=Outcome.rate_limited, reason="quota"),
        cell._replace(quantity=400, project_id=SIEVE + 1, reason="of another"),
        # The last complete minute: its first and last bucket, and those beside it.
        *(
            cell._replace(bucket=COMPLETE_UNTIL // 60 * 60 + seconds, quantity=quantity, category=2, outcome=outcome)
            for seconds, quantity, outcome in ((-70, 1000, 0), (-60, 1, 0), (-10, 2, 0), (-10, 4, 7), (0, 1000, 0))
        ),
    ]
