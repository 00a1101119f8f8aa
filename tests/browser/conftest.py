"""A real Chromium, and a real API with organizations to look at."""

import os
import random
import shutil
import time
import uuid
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from orgstats.clickhouse.connect import connect
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.migrate import migrate
from orgstats.schemas.outcomes import Outcome
from tests.browser.looking import COMPLETE_UNTIL, FIRST, HOURS, Look, Site, looking
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources, make_token
from tests.query.serving import running_api

FLAGS: Final = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
ORGANIZATIONS: Final = {1: "random", 2: "quiet", 3: "vast", 4: "mixed"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as Debian packages it; without one the test is skipped, in CI it fails."""
    path = shutil.which("chromium")
    if path is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs Chromium: apt-get install chromium")
    # Not for the whole session: its event loop would be in the way of tests that start their own.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store(clickhouse_server: str) -> Iterator[str]:
    """The URL of a database with the organizations `random`, `quiet` (no events), `vast` (over 2^64) and `mixed`."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    client = connect(clickhouse_server, client_name="tests")
    client.execute(f"CREATE DATABASE {name}")
    url = urlsplit(clickhouse_server)._replace(path=f"/{name}").geturl()
    migrate(url, retention_days=0)
    database = Database(url, size=1)
    for org_id, slug in ORGANIZATIONS.items():
        Directory(database).add_organization(Wanted(slug, key=org_id), 1.0)
    Directory(database).add_project(4, Wanted("pump-station", key=1), 1.0)
    unnamed = [Cell(77, FIRST + 3_600, 5_000), Cell(77, FIRST - 3_600, 1_000), Cell(78, FIRST - 10, 12)]
    insert_counts(
        database, [*_mixed_cells(), *unnamed, *_random_cells(), *(Cell(3, FIRST, 2**63 - 1, chunk=n) for n in range(3))]
    )
    insert_sources(database, [Counted(complete_until=COMPLETE_UNTIL)])
    yield url
    database.close()
    client.execute(f"DROP DATABASE {name} SYNC")
    client.disconnect()


def _random_cells() -> Iterator[Cell]:
    """Counts of every outcome in about two of three buckets."""
    rng = random.Random(20200913)
    for bucket in range(FIRST, FIRST + HOURS * 3_600, 10):
        for outcome in Outcome:
            if rng.random() < 0.67:
                yield Cell(1, bucket, rng.randrange(1, 10 ** rng.randrange(1, 6)), outcome)


def _mixed_cells() -> Iterator[Cell]:
    """Reasons, projects and categories, in the seeded window and in the one before."""
    rng = random.Random(4)
    for bucket in range(FIRST - HOURS * 3_600, FIRST + HOURS * 3_600, 600):
        for project in range(9):
            size = 100 * (9 - project)
            yield Cell(4, bucket, rng.randrange(size), project_id=project)
            yield Cell(4, bucket, rng.randrange(size), Outcome.rate_limited, 1, "quota", project_id=project)
            yield Cell(4, bucket, rng.randrange(size), Outcome.filtered, 1, "web-crawlers", project_id=project)
            yield Cell(4, bucket, rng.randrange(size), category=2, project_id=project)
        yield Cell(4, bucket, rng.randrange(50), Outcome.filtered, 3, "a <b>strange</b> reason, 12345678901234567890")


@pytest.fixture(scope="module")
def site(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API over that store, which keeps counts for ever, and tokens for it."""
    database = Database(store, size=1)
    tokens = {
        "all": make_token(database, None),
        "random": make_token(database, 1),
        "expired": make_token(database, 1, expires_at=time.time() - 1),
    }
    database.close()
    with running_api(store, tmp_path_factory.mktemp("serve"), RETENTION_DAYS="0") as api:
        yield Site(api.url, tokens)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile for all tests of a file."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture(scope="module")
def page(context: BrowserContext) -> Page:
    """One tab for all tests of a file: in each new one Chromium would take a second or two to compile plotly."""
    return context.new_page()


@pytest.fixture
def look(page: Page, site: Site) -> Iterator[Look]:
    """The dashboard in that tab, as if new. Afterwards nothing may have gone wrong, or elsewhere, unnoticed."""
    page.set_viewport_size({"width": 1280, "height": 860})
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    with looking(page, site) as look:
        yield look
    assert look.faults == []
    assert look.elsewhere == []
    page.unroute_all()
    page.goto(f"{site.url}/docs")
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
