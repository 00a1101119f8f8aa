"""Makes the pictures of the dashboard and the operators' page in docs/images: `python -m tests.browser.pictures`."""

import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

from orgstats.deploy.local import chdb_server
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.migrate import migrate
from orgstats.schemas.outcomes import Outcome
from orgstats.schemas.tables import RetiredTopicRow
from tests.browser.conftest import FLAGS
from tests.browser.operating import insert_operating, operators_token
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources, make_token, moment
from tests.query.serving import running_api

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
SLUG: Final = "the-interstellar-jurisdiction"
PROJECTS: Final = {1: "pump-station", 2: "prime-mover", 3: "spindizzy", 4: "gateway"}
DAY: Final = 86_400
PICTURES: Final = (("light", 1280, 1130), ("dark", 1280, 1130), ("narrow", 390, 1960))


def _cells(now: int) -> Iterator[Cell]:
    """Two days of a lively organization, up to now: a daily wave, an hour in which a quota was used up."""
    rng = random.Random(1)
    for bucket in range(now - 2 * DAY, now, 60):
        wave = 1.2 + math.sin(bucket / DAY * 2 * math.pi) * (0.5 if bucket > now - DAY else 0.35)
        over = 6 * DAY // 24 < now - bucket < 9 * DAY // 24
        for number, project in enumerate(PROJECTS):
            size = 400 * wave / (number + 1)
            for outcome, reason, part in (
                (Outcome.accepted, "", 0.45 if over else 0.8),
                (Outcome.rate_limited, "error_quota", 0.45 if over else 0.03),
                (Outcome.rate_limited, "project_abuse_limit", 0.02),
                (Outcome.filtered, "web-crawlers", 0.07),
                (Outcome.filtered, "browser-extensions", 0.03),
                (Outcome.filtered, "localhost", 0.01),
            ):
                count = int(rng.gauss(size * part, math.sqrt(size * part)))
                yield Cell(1, bucket, max(0, count), outcome, reason=reason, project_id=project)
            yield Cell(1, bucket, int(size * 2), category=2, project_id=project)


def _page(browser: Browser, name: str, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(120_000)
    page.emulate_media(color_scheme="dark" if name == "dark" else "light")
    return page


def main() -> None:
    """Look at a day of it, and at how it is counted: light, dark, and on a narrow screen."""
    now = int(time.time())
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        engine = chdb_server.start(Path(scratch) / "engine", wait_seconds=60)
        migrate(engine.url, retention_days=0)
        with Database(engine.url, size=1) as database:
            Directory(database).add_organization(Wanted(SLUG, "The Interstellar Jurisdiction", key=1), 1.0)
            for project, slug in PROJECTS.items():
                Directory(database).add_project(1, Wanted(slug, key=project), 1.0)
            insert_counts(database, _cells(now))
            insert_sources(database, [Counted(complete_until=now - 2)])
            token = make_token(database, 1)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        with running_api(engine.url, Path(scratch), RETENTION_DAYS="0") as api:
            for name, width, height in PICTURES:
                page = _page(browser, name, width, height)
                page.goto(f"{api.url}/#org={SLUG}&token={token}")
                page.locator("[data-list=project] li").first.wait_for()
                page.locator("body[aria-busy=false]").wait_for()
                page.locator("#chart .main-svg").first.wait_for()
                page.screenshot(path=IMAGES / f"dashboard-{name}.png")
            with Database(engine.url, size=1) as database:
                insert_operating(database)
                database.insert("retired_topics", [RetiredTopicRow("outcomes", True, moment(time.time()))])
                operators = operators_token(database)
            page = _page(browser, "light", 1280, 800)
            page.goto(f"{api.url}/ops#token={operators}")
            page.locator("#letters summary").first.click()
            page.screenshot(path=IMAGES / "ops-light.png", full_page=True)
        browser.close()
        engine.stop()


if __name__ == "__main__":
    main()
