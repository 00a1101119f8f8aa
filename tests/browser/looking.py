"""What tests do with the dashboard: open it, ask the API for the same, read the chart."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
from playwright.sync_api import ConsoleMessage, Error, Page, Request

FIRST: Final = 1_600_000_200 // 3_600 * 3_600
HOURS: Final = 5
END: Final = FIRST + HOURS * 3_600
COMPLETE_UNTIL: Final = END - 1_234
SHOWN: Final = ["accepted", "filtered", "rate_limited"]
SERIES: Final = ("received", "accepted", "rejected", "blacklisted")


@dataclass(frozen=True)
class Site:
    """A running API and tokens for it by name."""

    url: str
    tokens: dict[str, str]

    def series(self, stat: str, org: str = "random", *, resolution: str = "1h") -> list[tuple[int, int]]:
        """The points that the API answers for the seeded window."""
        return self.points(stat, org, FIRST, END - 1, resolution)

    def points(self, stat: str, org: str, since: int, until: int, resolution: str = "1h") -> list[tuple[int, int]]:
        """The points that the API answers for any window."""
        answer = httpx.get(
            f"{self.url}/api/0/organizations/{org}/stats/",
            params={"stat": stat, "since": since, "until": until, "resolution": resolution},
            headers={"Authorization": f"Bearer {self.tokens['all']}"},
        )
        assert answer.status_code == 200, answer.text
        return [(int(start), count) for start, count in answer.json()]

    def all_series(self, org: str = "random", *, resolution: str = "1h") -> dict[str, list[tuple[int, int]]]:
        """The three stats, and what is neither rejected nor blacklisted as `accepted`."""
        series = {stat: self.series(stat, org, resolution=resolution) for stat in SERIES if stat != "accepted"}
        zipped = zip(series["received"], series["rejected"], series["blacklisted"], strict=True)
        return {**series, "accepted": [(a[0], a[1] - b[1] - c[1]) for a, b, c in zipped]}

    def usage(self, org: str, *groups: str, **asked: str) -> list[dict[str, Any]]:
        """The groups that `stats_v2` answers for the seeded window, the largest first; of errors unless asked else."""
        asked = {"field": "sum(quantity)", "category": "error", "interval": "5m", **asked}
        answer = httpx.get(
            f"{self.url}/api/0/organizations/{org}/stats_v2/",
            params={**asked, "groupBy": groups, "start": field(FIRST), "end": field(END), "outcome": SHOWN},
            headers={"Authorization": f"Bearer {self.tokens['all']}"},
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["groups"]
        return sorted(found, key=lambda group: -group["totals"][asked["field"]])


class Look:
    """A page with the dashboard; `faults` are what its console and scripts complained about."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.faults: list[str] = []
        self.elsewhere: list[str] = []
        self.asked: list[str] = []

    def on_error(self, error: Error) -> None:
        """A script of the page has failed."""
        self.faults.append(str(error))

    def on_console(self, message: ConsoleMessage) -> None:
        """The page, or Chromium about it, has said something."""
        refused = "Failed to load resource" in message.text  # Chromium says so of every answer above 399
        if message.type in ("error", "warning") and not refused:
            self.faults.append(message.text)

    def on_request(self, request: Request) -> None:
        """The page asks for something."""
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" != self.site.url:
            self.elsewhere.append(request.url)
        if "/api/" in parts.path:
            self.asked.append(request.url)

    def open(self, *, token: str = "all", **view: str) -> None:
        """Open the page as somebody does who gave the token before; without a range: the seeded window."""
        if "range" not in view:
            view |= {"range": "custom", "since": field(FIRST), "until": field(END)}
        view = {"org": "random", "resolution": "1h", **view}
        if self.page.url != (blank := self.site.url + "/docs"):
            self.page.goto(blank)
        self.page.evaluate("token => sessionStorage.setItem('token', token)", self.site.tokens.get(token, token))
        self.page.goto(f"{self.site.url}/#{urlencode(view)}")
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is being read."""
        self.page.locator("body[aria-busy=false]").wait_for()

    def charted(self, *, before: bool = False) -> dict[str, list[tuple[int, int]]]:
        """The points of each visible series in the chart, as plotly has them; the period before only if wanted."""
        self.page.locator("#chart .main-svg").first.wait_for()
        traces: list[dict[str, Any]] = self.page.evaluate(
            "before => document.querySelector('#chart').data.filter(t => t.stackgroup || t.name === 'received' "
            "|| before && t.name === 'before').filter(t => t.visible !== false).map(({name, x, y}) => ({name, x, y}))",
            before,
        )
        # The first and last point only give their neighbours the right width; they are out of sight.
        return {t["name"]: [(round(_seconds(x)), y) for x, y in zip(t["x"], t["y"], strict=True)][1:-1] for t in traces}

    def seen(self) -> tuple[float, float]:
        """Epoch seconds at the left and right edge of the chart."""
        left, right = self.page.evaluate("document.querySelector('#chart')._fullLayout.xaxis.range.map(at => at)")
        return _seconds(left), _seconds(right)

    def totals(self) -> dict[str, str]:
        """What the page says in large letters."""
        return {name: self.page.locator(f"[data-series={name}] dd").first.inner_text() for name in SERIES}

    def why(self, list_: str) -> list[list[str]]:
        """Name, count and share of each row of one of the lists that say why."""
        self.page.locator(f"[data-list={list_}] li").first.wait_for()
        rows: list[list[str]] = self.page.evaluate(
            "list => [...document.querySelectorAll(`[data-list=${list}] li`)]"
            ".map(row => [...row.querySelectorAll('span')].map(part => part.textContent))",
            list_,
        )
        return rows

    def table(self) -> list[list[str]]:
        """The cells of the table, opened if need be."""
        if not self.page.locator("#numbers[open]").count():
            self.page.get_by_text("The numbers as a table").click()
        self.page.locator("tbody tr").first.wait_for()
        rows: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return rows


@contextmanager
def looking(page: Page, site: Site) -> Iterator[Look]:
    """A page to look with until the block ends."""
    look = Look(page, site)
    handlers = {"console": look.on_console, "pageerror": look.on_error, "request": look.on_request}
    for event, handler in handlers.items():
        page.on(event, handler)  # type: ignore[call-overload]  # declared one event at a time
    yield look
    for event, handler in handlers.items():
        page.remove_listener(event, handler)


def merged(points: list[tuple[int, int]], width: int) -> list[tuple[int, int]]:
    """The counts in wider buckets."""
    sums: dict[int, int] = {}
    for start, count in points:
        sums[start // width * width] = sums.get(start // width * width, 0) + count
    return sorted(sums.items())


def field(seconds: int) -> str:
    """A time as the form and the page's address take it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _seconds(at: float | str) -> float:
    """plotly's idea of a time: milliseconds, or text in UTC that does not say so."""
    if isinstance(at, str):
        return datetime.fromisoformat(at[:26]).replace(tzinfo=UTC).timestamp()
    return at / 1000
