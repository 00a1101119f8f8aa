"""Where there are no numbers, or not all, the dashboard says why and what to do."""

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from orgstats.query.clickhouse import Database
from tests.browser.looking import Look
from tests.query.seeding import Cell, insert_counts
from tests.query.serving import running_api


@pytest.fixture
def elsewhere(look: Look, store: str, tmp_path: Path) -> Iterator["Elsewhere"]:
    """Starts the API with other settings, and looks at that one."""
    elsewhere = Elsewhere(look, store, tmp_path)
    yield elsewhere
    elsewhere.stop()


class Elsewhere:
    """Another API for the same page."""

    def __init__(self, look: Look, store: str, directory: Path) -> None:
        self._look = look
        self._store = store
        self._directory = directory
        self._running: Iterator[None] = iter(())

    def start(self, store: str | None = None, **settings: str) -> None:
        """Start it and let the page look at it."""
        self._running = self._run(store or self._store, **settings)
        next(self._running)

    def stop(self) -> None:
        """End it."""
        next(self._running, None)

    def _run(self, store: str, **settings: str) -> Iterator[None]:
        with running_api(store, self._directory, **settings) as api:
            self._look.site = replace(self._look.site, url=api.url)
            yield


def test_first_visit_asks_for_token_and_organization(look: Look) -> None:
    """Who comes without anything is told what to type, and nothing is asked for."""
    look.page.goto(look.site.url)
    expect(look.page.get_by_role("heading", name="Look at an organization")).to_be_visible()
    expect(look.page.get_by_text("orgstats tokens create")).to_be_visible()
    assert look.asked == []


@pytest.mark.parametrize(
    ("token", "org", "title", "help_text", "field"),
    [
        ("expired", "random", "The token is not valid", "expired", "token"),
        ("", "random", "A token is needed", "orgstats tokens create", "token"),
        ("random", "vast", "This token may not read “vast”", "another organization", "token"),
        ("all", "nobody", "There is no organization “nobody”", "Check the slug", "org"),
    ],
)
def test_401_403_and_404_are_explained(
    look: Look, token: str, org: str, title: str, help_text: str, field: str
) -> None:
    """Each way of not being let in has words of its own, no numbers, and the focus where to mend it."""
    look.open(token=token, org=org)
    alert = look.page.get_by_role("alert")
    expect(alert.get_by_role("heading")).to_have_text(title)
    expect(alert).to_contain_text(help_text)
    expect(look.page.locator(f"#{field}")).to_be_focused()
    expect(look.page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
    expect(look.page.locator("#result")).to_be_hidden()


def test_right_token_after_wrong_one_shows_counts(look: Look) -> None:
    """After a wrong token the right one is typed, and the numbers are there."""
    look.open(token="expired")
    look.page.locator("#token").fill(look.site.tokens["random"])
    look.page.keyboard.press("Enter")
    look.settle()
    expect(look.page.get_by_role("alert")).to_be_hidden()
    assert look.charted() == look.site.all_series()


def test_token_in_slug_field_is_not_sent(look: Look) -> None:
    """A token typed into the wrong field is neither sent nor put into the address."""
    look.page.goto(look.site.url)
    look.page.get_by_label("Organization").fill(look.site.tokens["all"])
    look.page.keyboard.press("Enter")
    expect(look.page.get_by_role("alert")).to_contain_text("This is a token")
    assert look.asked == []
    assert look.site.tokens["all"] not in look.page.url


def test_organization_without_events_shows_zeros(look: Look) -> None:
    """Zeros are shown as zeros, with what could be the reason."""
    look.open(org="quiet")
    assert set(look.totals().values()) == {"0"}
    expect(look.page.get_by_text("No events in this range.")).to_be_visible()
    expect(look.page.locator("#chart")).to_be_hidden()


def test_too_many_buckets_are_not_offered(look: Look) -> None:
    """The form does not offer what has no answer, and says what the API says when it is asked all the same."""
    look.open(since="2020-09-01T00:00:00", until="2020-09-13T00:00:00", resolution="10s", range="custom")
    expect(look.page.get_by_role("alert")).to_contain_text("the finest resolution that would fit is 1h")
    look.page.get_by_text("7 d", exact=True).click()
    look.settle()
    expect(look.page.get_by_role("radio", name="10 s")).to_be_disabled()
    expect(look.page.get_by_role("radio", name="Auto")).to_be_checked()


def test_backward_range_is_not_requested(look: Look) -> None:
    """Such a range is not asked for."""
    look.open(since="2020-09-13T00:00:00", until="2020-09-01T00:00:00", range="custom")
    expect(look.page.get_by_role("alert")).to_contain_text("It must begin before it ends.")
    assert look.asked == []


def test_503_is_shown_with_next_try(look: Look, elsewhere: Elsewhere) -> None:
    """A 503 is told as what it is, with the time of the next try."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    elsewhere.start(f"clickhouse://default:x@127.0.0.1:{port}/default")
    look.open()
    alert = look.page.get_by_role("alert")
    expect(alert).to_contain_text("The counts cannot be read at the moment")
    expect(alert).to_contain_text("ClickHouse is away or too slow. The next try is in 5 s.")
    expect(alert.get_by_role("button", name="Try again now")).to_be_visible()


def test_503_is_retried(look: Look) -> None:
    """After a 503 the numbers come without anybody's doing."""
    refused: list[str] = []

    def refuse_first(route: Route) -> None:
        refused.append(route.request.url)
        if len(refused) > 2:
            route.fallback()
        else:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "away"})

    look.page.route("**/api/**", refuse_first)
    look.open()
    expect(look.page.get_by_role("alert")).to_contain_text("The next try is in 1 s.")
    expect(look.page.locator("#result")).to_be_visible()
    expect(look.page.get_by_role("alert")).to_be_hidden()


def test_429_is_shown_with_next_try(look: Look, elsewhere: Elsewhere) -> None:
    """A 429 says when the next try is."""
    elsewhere.start(RATE_LIMIT="1", RATE_WINDOW_SECONDS="3600")
    look.open()
    expect(look.page.get_by_role("alert")).to_contain_text("Too many requests")
    expect(look.page.get_by_role("alert")).to_contain_text("The next try is in")


def test_network_failure_keeps_last_counts(look: Look, context: BrowserContext) -> None:
    """The last numbers stay, marked with their time, until the server can be reached again."""
    look.open()
    totals = look.totals()
    context.set_offline(True)
    try:
        look.page.get_by_role("button", name="Show", exact=True).click()
        expect(look.page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        expect(look.page.get_by_role("alert")).to_contain_text("The numbers below are from")
        assert look.totals() == totals
    finally:
        context.set_offline(False)
    look.page.get_by_role("button", name="Try again now").click()
    expect(look.page.get_by_role("alert")).to_be_hidden()


def test_table_works_without_plotly(look: Look) -> None:
    """When the chart's program does not come, the numbers are still there."""
    look.page.route("**/plotly.min.js", lambda route: route.abort())
    look.open()
    expect(look.page.get_by_text("The chart cannot be drawn")).to_be_visible()
    assert len(look.table()) == 5


def test_buckets_before_retention_are_marked_deleted(look: Look, elsewhere: Elsewhere, store: str) -> None:
    """Buckets from before the retention are marked as deleted, in the chart and in the table."""
    database = Database(store, size=1)
    insert_counts(database, [Cell(2, int(time.time()) // 10 * 10 - 600, 5)])
    database.close()
    elsewhere.start(RETENTION_DAYS="1")
    look.open(org="2", range="7d", resolution="1d")
    look.charted()
    marks = look.page.evaluate("document.querySelector('#chart').layout.annotations.map(a => a.text)")
    assert "deleted" in marks
    assert look.table()[0][5] == "deleted"


def test_unknown_completeness_is_not_shown(look: Look) -> None:
    """When the API does not say how far it has counted, neither does the page."""

    def forget(route: Route) -> None:
        answer = route.fetch()
        headers = {name: value for name, value in answer.headers.items() if name != "x-stats-complete-until"}
        route.fulfill(response=answer, headers=headers)

    look.page.route("**/api/**", forget)
    look.open()
    expect(look.page.get_by_text("It is not known how far these counts are complete")).to_be_visible()
    assert {row[5] for row in look.table()} == {"not known"}
