"""The dashboard shows what the API answers, to everybody."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.looking import COMPLETE_UNTIL, END, FIRST, SERIES, Look, field, looking, merged
from tests.support.wait import wait_for


@pytest.mark.parametrize("resolution", ["1h", "1d"])
def test_the_chart_shows_the_numbers_of_the_api(look: Look, resolution: str) -> None:
    """Each series in the chart and each total is what the API answers; the stack's top is what was received."""
    look.open(resolution=resolution)
    series = look.site.all_series(resolution=resolution)
    assert look.charted() == series
    assert look.totals() == {name: f"{sum(count for _, count in series[name]):,}" for name in SERIES}


@pytest.mark.parametrize("resolution", ["10s", "auto"])
def test_many_buckets_are_merged_for_the_chart(look: Look, resolution: str) -> None:
    """Of 1,800 buckets of 10 s the chart has 600 of 30 s, none thinner than can be seen; the totals are of all."""
    look.open(resolution=resolution)
    expect(look.page.locator("#window")).to_contain_text("600 buckets of 30 seconds")
    series = look.site.all_series(resolution="10s")
    assert look.charted() == {name: merged(points, 30) for name, points in series.items()}
    assert look.totals() == {name: f"{sum(count for _, count in series[name]):,}" for name in SERIES}
    assert len(look.table()) == (1_800 if resolution == "10s" else 600)
    assert look.page.evaluate("document.querySelector('#chart').data[0].line.width") == 0


@pytest.mark.parametrize(
    ("range_", "buckets", "asked"),
    [
        ("1h", "360 buckets of 10 seconds", "10s"),
        ("24h", "720 buckets of 2 minutes", "10s"),
        ("7d", "168 buckets of 1 hour", "1h"),
        ("30d", "720 buckets of 1 hour", "1h"),
        ("90d", "720 buckets of 3 hours", "1h"),
    ],
)
def test_auto_resolution_has_some_hundred_points(look: Look, range_: str, buckets: str, asked: str) -> None:
    """Whatever the range; what is read is the finest that there is for it."""
    look.open(range=range_, resolution="auto")
    expect(look.page.locator("#window")).to_contain_text(f", {buckets}.")
    assert {parse_qs(urlsplit(url).query)["resolution"] == [asked] for url in look.asked if "/stats/" in url} == {True}


def test_the_table_is_the_chart_in_words(look: Look) -> None:
    """Every bucket is a row with the same numbers and how far they can be trusted."""
    look.open()
    series = look.site.all_series()
    rows = look.table()
    assert [row[1:5] for row in rows] == [[f"{series[name][i][1]:,}" for name in SERIES] for i in range(len(rows))]
    assert [row[5] for row in rows] == ["complete"] * 4 + ["still counting"]


def test_counts_above_two_to_the_53_keep_all_digits(look: Look) -> None:
    """Three times 2^63 - 1 is written with all its digits."""
    look.open(org="vast")
    assert look.totals()["received"] == "27,670,116,110,564,327,421"
    assert look.table()[0][1] == "27,670,116,110,564,327,421"


def test_chart_marks_complete_until(look: Look) -> None:
    """A line stands where counting has arrived, the page says so, and rates leave out what is not whole."""
    look.open()
    look.charted()
    assert look.page.evaluate(
        "document.querySelector('#chart').layout.shapes.map(s => Date.parse(s.x0 + 'Z') / 1000)"
    ) == [COMPLETE_UNTIL]
    expect(look.page.locator("#complete")).to_contain_text("Counted up to 2020-09-13 16:39:26 UTC")
    whole = sum(count for start, count in look.site.series("received") if start + 3_600 <= COMPLETE_UNTIL)
    expect(look.page.locator("[data-series=received] dd").nth(1)).to_have_text(f"{whole / (4 * 3_600):,.0f}/s")


def test_dragging_zooms_and_all_resets(look: Look) -> None:
    """Dragging over the chart zooms in, and stays so when the numbers are read again; All goes back."""
    look.open()
    look.charted()
    _drag(look.page)
    expect(look.page.get_by_role("button", name="All")).to_have_attribute("aria-disabled", "false")
    left, right = look.seen()
    assert FIRST < left < right < END
    look.page.get_by_role("button", name="Show", exact=True).click()
    look.settle()
    assert look.seen() == (left, right)
    look.page.get_by_role("button", name="All").click()
    expect(look.page.get_by_role("button", name="All")).to_have_attribute("aria-disabled", "true")
    assert look.seen() == (FIRST, END)


def test_zooming_in_loads_finer_buckets_by_itself(look: Look) -> None:
    """Of a month by the hour an hour is zoomed into: it comes by 10 s; cards, table and text are of that part."""
    look.open(range="custom", resolution="auto", since=field(FIRST - 29 * 86_400), until=field(FIRST + 86_400))
    look.charted()
    expect(look.page.locator("#window")).to_contain_text("720 buckets of 1 hour")
    edges = [datetime.fromtimestamp(at, UTC).isoformat()[:19] for at in (FIRST + 3_600, FIRST + 7_200)]
    look.page.evaluate("edges => Plotly.relayout('chart', {'xaxis.range': edges})", edges)
    expect(look.page.locator("#window")).to_contain_text("360 buckets of 10 seconds")
    series = look.site.all_series(resolution="10s")
    part = {name: points[360:720] for name, points in series.items()}
    charted = look.charted()
    assert {name: charted[name][-360:] for name in SERIES} == part
    assert look.totals() == {name: f"{sum(count for _, count in part[name]):,}" for name in SERIES}
    assert [row[1] for row in look.table()] == [f"{count:,}" for _, count in part["received"]]
    look.page.get_by_role("button", name="All").click()
    expect(look.page.locator("#window")).to_contain_text("720 buckets of 1 hour")
    assert look.totals()["received"] == f"{sum(count for _, count in series['received']):,}"


def test_legend_checkbox_hides_series(look: Look) -> None:
    """A series whose box is cleared leaves the chart; the totals stay."""
    look.open()
    look.charted()
    totals = look.totals()
    look.page.get_by_role("checkbox", name="Accepted").uncheck()
    assert set(look.charted()) == {"rejected", "blacklisted"}
    assert look.totals() == totals


def test_hover_shows_the_four_counts(look: Look) -> None:
    """The pointer over a bucket brings up its four counts."""
    look.open()
    look.charted()
    box = look.page.locator("#chart").bounding_box()
    assert box
    look.page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.5)
    series = look.site.all_series()
    for name in SERIES:
        expect(look.page.locator("#chart .hoverlayer")).to_contain_text(f"{name} {series[name][2][1]:,}")


def test_curl_command_and_link_match_the_api(look: Look) -> None:
    """The command names the address and never the token; the link opens the very bytes of the answer."""
    look.open()
    look.page.get_by_label("Stat").select_option("rejected")
    command = look.page.locator("#curl").inner_text()
    assert command.startswith('curl -H "Authorization: Bearer $TOKEN" ')
    answer = httpx.get(command.split("'")[1], headers={"Authorization": f"Bearer {look.site.tokens['all']}"})
    with look.page.context.expect_page() as opened:
        look.page.get_by_role("link", name="Open the JSON").click()
    assert opened.value.locator("body").inner_text().strip() == answer.text


def test_copy_button_copies_the_command(look: Look) -> None:
    """The button puts the command on the clipboard."""
    look.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    look.open()
    look.page.get_by_role("button", name="Copy the command").click()
    expect(look.page.locator("#copy")).to_have_text("Copied")
    assert look.page.evaluate("navigator.clipboard.readText()") == look.page.locator("#curl").inner_text()


def test_token_is_kept_in_the_tab_only(look: Look) -> None:
    """The token is in no address and in nothing that outlives the tab; the organization is remembered."""
    look.open()
    token = look.site.tokens["all"]
    assert token not in look.page.url
    assert not [url for url in look.asked if token in url]
    kept = look.page.evaluate("[JSON.stringify({...localStorage}), document.cookie]")
    assert kept == ['{"orgs":"[\\"random\\"]"}', ""]
    assert look.page.evaluate("sessionStorage.getItem('token')") == token


def test_window_ending_now_refreshes(look: Look) -> None:
    """A window that ends now is read again; unticking the box stops that."""
    with looking(look.page.context.new_page(), look.site) as own:  # its clock stays in the test's hands
        own.page.clock.install()
        own.open(range="1h", resolution="10s")
        asked = len(own.asked)
        own.page.clock.run_for(6_000)  # counting is behind, so after five seconds
        own.settle()
        again = own.asked[asked:]
        assert {parse_qs(urlsplit(url).query)["stat"][0] for url in again if "/stats/" in url} == set(
            SERIES[::2] + SERIES[3:]
        )
        own.page.get_by_role("checkbox", name="Auto-refresh").uncheck()
        asked = len(own.asked)
        own.page.clock.run_for(60_000)
        own.settle()
        assert len(own.asked) == asked
    own.page.close()


def test_page_works_by_keyboard_alone(look: Look) -> None:
    """Somebody without a mouse signs in, changes the range, zooms, and reads the table."""
    page = look.page
    page.goto(look.site.url)
    page.get_by_label("Organization").focus()
    page.keyboard.type("random")
    page.keyboard.press("Tab")
    page.keyboard.type(look.site.tokens["random"])
    page.keyboard.press("Enter")
    look.settle()
    expect(page.locator("#status")).to_contain_text("Received 0")
    _tab_to(page, "24 h")
    page.keyboard.press("ArrowLeft")
    look.settle()
    expect(page.locator("#window")).to_contain_text("360 buckets of 10 seconds")
    look.open(token="random")
    look.charted()
    _tab_to(page, "Zoom in")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="All")).to_have_attribute("aria-disabled", "false")
    _tab_to(page, "All")
    page.keyboard.press("Space")
    assert look.seen() == (FIRST, END)
    _tab_to(page, "The numbers as a table")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row")).to_have_count(6)


def test_controls_have_accessible_names(look: Look) -> None:
    """Each control is named for those who do not see it, ids are unique, and changes are told."""
    look.open()
    look.table()
    unnamed = look.page.evaluate(
        "[...document.querySelectorAll('input, select, button, a, summary')].filter(control => !("
        "control.ariaLabel || control.labels?.[0]?.textContent.trim() || control.textContent.trim()"
        ")).map(control => control.outerHTML)"
    )
    assert unnamed == []
    ids = look.page.evaluate("[...document.querySelectorAll('#form [id], main > [id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    expect(look.page.get_by_role("table", name="Events by bucket; times in UTC")).to_be_visible()
    expect(look.page.get_by_role("radio", name="24 h")).to_be_attached()
    expect(look.page.get_by_role("img", name="Events over time")).to_be_visible()
    expect(look.page.get_by_role("status")).to_contain_text("Received")
    assert look.page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_light_and_dark_scheme(look: Look, scheme: str) -> None:
    """The page and the chart follow the system's scheme while open, and every text can be read."""
    other = "dark" if scheme == "light" else "light"
    look.page.emulate_media(color_scheme=other)  # type: ignore[arg-type]  # a literal
    look.open()
    look.charted()
    before = _colors(look.page)
    look.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    colors = _colors(look.page)
    assert colors != before
    wait_for(lambda: _filled(look.page) == [colors[f"--{name}"] for name in SERIES[1:]], 10)
    for text in ("--ink", "--muted", "--warning", "--accent"):
        assert _contrast(colors[text], colors["--panel"]) >= 4.5
        assert _contrast(colors[text], colors["--page"]) >= 4.5
    assert _contrast(colors["--on-accent"], colors["--accent"]) >= 4.5
    for name in SERIES[1:]:
        assert _contrast(colors[f"--{name}"], colors["--panel"]) >= 3


def test_narrow_screen_needs_no_sideways_scrolling(look: Look) -> None:
    """At 375 pixels nothing has to be scrolled sideways."""
    look.page.set_viewport_size({"width": 375, "height": 700})
    look.open()
    look.charted()
    look.table()
    assert look.page.evaluate("document.documentElement.scrollWidth") == 375


def test_reduced_motion_stops_animation(look: Look) -> None:
    """While numbers are read nothing moves for those who do not want that."""
    look.open()
    busy = "document.body.ariaBusy = 'true'; getComputedStyle(document.body, '::before').animationName"
    assert look.page.evaluate(busy) == "busy"
    look.page.emulate_media(reduced_motion="reduce")
    assert look.page.evaluate(busy) == "none"


def _drag(page: Page) -> None:
    box = page.locator("#chart").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=5)
    page.mouse.up()


def _tab_to(page: Page, name: str) -> None:
    """Press Tab until the control with that name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "(e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent)(document.activeElement)"
        )
        if focused.strip() == name:
            return
    raise AssertionError(f"Tab does not reach {name!r}")


def _colors(page: Page) -> dict[str, str]:
    names = ["page", "panel", "ink", "muted", "warning", "accent", "on-accent", *SERIES[1:]]
    colors: dict[str, str] = page.evaluate(
        "names => Object.fromEntries(names.map(name => "
        "[`--${name}`, getComputedStyle(document.body).getPropertyValue(`--${name}`).trim()]))",
        names,
    )
    return colors


def _filled(page: Page) -> list[str]:
    fills: list[str] = page.evaluate(
        "document.querySelector('#chart').data.filter(trace => trace.stackgroup).map(trace => trace.fillcolor)"
    )
    return fills


def _contrast(one: str, other: str) -> float:
    """The contrast ratio of two #rrggbb colours as WCAG 2 defines it."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
