"""What the events are made of, how they compare with before, and what can be taken along, as the API has it."""

from playwright.sync_api import expect

from tests.browser.looking import COMPLETE_UNTIL, END, FIRST, SERIES, Look, field

HOURS = END - FIRST
QUANTITY = "sum(quantity)"


def _share(part: int, whole: int) -> str:
    hundredths = part * 10_000 // whole
    return f"{hundredths // 100} %" if hundredths % 100 == 0 else f"{hundredths / 100:.2f} %"


def test_reasons_projects_and_categories_are_those_of_the_api(look: Look) -> None:
    """The largest of each with count and share, the others summed up; reasons are text, whatever they hold."""
    look.open(org="mixed", resolution="auto")
    reasons = look.site.usage("mixed", "outcome", "reason")
    whole = sum(group["totals"][QUANTITY] for group in reasons)
    rejected = [(one["by"]["reason"], one["totals"][QUANTITY]) for one in reasons if one["by"]["outcome"] != "accepted"]
    assert look.why("reason") == [[name, f"{count:,}", _share(count, whole)] for name, count in rejected]
    assert len(rejected) == 3

    counts = [(one["by"]["project"], one["totals"][QUANTITY]) for one in look.site.usage("mixed", "project")]
    names = {1: "pump-station"}
    shown = [[names.get(one, f"project {one}"), f"{count:,}", _share(count, whole)] for one, count in counts[:6]]
    left = sum(count for _, count in counts[6:])
    assert look.why("project") == [*shown, ["3 more", f"{left:,}", _share(left, whole)]]

    groups = look.site.usage("mixed", "category", field="sum(times_seen)", category="")
    records = {one["by"]["category"]: one["totals"]["sum(times_seen)"] for one in groups}
    assert set(records) == {"error", "transaction"}
    assert look.why("category") == [
        [name, f"{count:,}", _share(count, sum(records.values()))] for name, count in records.items()
    ]


def test_a_click_filters_the_chart(look: Look) -> None:
    """Chart, totals and the other lists are of the reason clicked; a second click, or Show all, takes it away."""
    look.open(org="mixed", resolution="auto")
    everything = look.totals()
    look.page.locator("[data-list=reason] button", has_text="quota").click()
    look.settle()
    expect(look.page.locator("#filter")).to_contain_text("Only reason quota")
    (group,) = look.site.usage("mixed", reason="quota")
    assert look.totals()["received"] == look.totals()["rejected"] == f"{group['totals'][QUANTITY]:,}"
    assert sum(count for _, count in look.charted()["rejected"]) == group["totals"][QUANTITY]
    expect(look.page.locator("[data-list=reason] button[aria-pressed=true]")).to_have_count(1)
    projects = look.site.usage("mixed", "project", reason="quota")
    assert [row[1] for row in look.why("project")][:6] == [f"{one['totals'][QUANTITY]:,}" for one in projects[:6]]
    assert look.page.url.endswith("&reason=quota")
    look.page.get_by_role("button", name="Show all").click()
    look.settle()
    assert look.totals() == everything


def test_a_project_or_category_filters_too(look: Look) -> None:
    """Each by what it is stored as; both can be asked for by the address."""
    look.open(org="mixed", resolution="auto", project="1")
    assert look.totals()["received"] == f"{look.site.usage('mixed', project='1')[0]['totals'][QUANTITY]:,}"
    look.open(org="mixed", resolution="auto", category="transaction")
    (group,) = look.site.usage("mixed", category="transaction")
    assert look.totals()["accepted"] == f"{group['totals'][QUANTITY]:,}"


def test_the_period_before_is_a_line_and_a_difference(look: Look) -> None:
    """As long as the window; compared are the buckets that are whole, with the same of the period before."""
    look.open(org="mixed", resolution="1h")
    before = [
        (int(start) + HOURS, count) for start, count in look.site.points("received", "mixed", FIRST - HOURS, FIRST - 1)
    ]
    assert look.charted(before=True)["before"] == before
    whole = [start for start, _ in before if start + 3_600 <= COMPLETE_UNTIL]
    earlier = sum(count for start, count in before if start in whole)
    present = sum(count for start, count in look.site.series("received", "mixed") if start in whole)
    card = look.page.locator("[data-series=received] dd").last
    percent = abs(present - earlier) / earlier * 100
    arrow, word = ("▲", "more") if present > earlier else ("▼", "less")
    digits = f"{percent:.1f}".removesuffix(".0") if percent < 10 else f"{percent:.0f}"
    expect(card).to_have_text(f"{arrow} {digits} % {word} than before")
    look.page.get_by_role("checkbox", name="Before").uncheck()
    expect(card).to_have_text("")
    assert "before" not in look.charted(before=True)


def test_copied_link_opens_the_same_part(look: Look) -> None:
    """Of what is zoomed into, without the token."""
    look.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    look.open(resolution="auto")
    look.charted()
    look.page.get_by_role("button", name="Zoom in").click()
    expect(look.page.locator("#window")).to_contain_text("300 buckets of 30 seconds")
    totals = look.totals()
    look.page.get_by_role("button", name="Copy link").click()
    link = look.page.evaluate("navigator.clipboard.readText()")
    assert "token" not in link
    assert look.site.tokens["all"] not in link
    look.page.goto(look.site.url + "/docs")
    look.page.goto(link)
    look.settle()
    assert look.totals() == totals


def test_csv_has_the_table(look: Look) -> None:
    """One line a bucket, times in ISO and UTC, every digit."""
    look.open(org="vast")
    with look.page.expect_download() as download:
        look.page.get_by_role("link", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert download.value.suggested_filename == "vast-202009131200.csv"
    assert lines[0] == "start,received,accepted,rejected,blacklisted,state"
    assert lines[1] == "2020-09-13T12:00:00Z,27670116110564327421,27670116110564327421,0,0,complete"
    assert [line.split(",")[0] for line in lines[1:]] == [f"{field(FIRST + 3_600 * i)}Z" for i in range(5)]


def test_token_in_the_address_signs_in_and_vanishes(look: Look) -> None:
    """The printed link signs in; the token is taken out of the address before anything is asked."""
    look.page.goto(f"{look.site.url}/docs")
    look.page.goto(f"{look.site.url}/#token={look.site.tokens['random']}")
    expect(look.page.get_by_role("heading", name="Look at an organization")).to_be_visible()
    assert "token" not in look.page.url
    look.page.goto(f"{look.site.url}/docs")
    look.page.goto(f"{look.site.url}/#org=random&token={look.site.tokens['random']}")
    look.settle()
    expect(look.page.locator("#result")).to_be_visible()
    assert "token" not in look.page.url
    assert look.site.tokens["random"] not in look.page.evaluate("JSON.stringify([history.state, location.href])")
    expect(look.page.get_by_text("Signed in")).to_be_visible()
    expect(look.page.get_by_label("Token, kept in this tab only")).to_be_hidden()


def test_mistakes_leave_the_chart_where_it_is(look: Look) -> None:
    """A token that is not valid and a range that is none are told, beside the numbers of before."""
    look.open()
    charted, totals = look.charted(), look.totals()
    look.page.get_by_role("button", name="Change").click()
    look.page.get_by_label("Token, kept in this tab only").fill("ost_mistyped")
    look.page.get_by_role("button", name="Show", exact=True).click()
    expect(look.page.get_by_role("alert")).to_contain_text("The token is not valid")
    assert (look.charted(), look.totals()) == (charted, totals)
    look.page.get_by_label("Token, kept in this tab only").fill(look.site.tokens["all"])
    for mistake in ("yesterday", field(END + 1)):
        look.page.get_by_label("From (UTC)").fill(mistake)
        look.page.get_by_role("button", name="Show", exact=True).click()
        expect(look.page.get_by_role("alert")).to_contain_text("Which range?")
        assert (look.charted(), look.totals()) == (charted, totals)


def test_rates_read_well_and_stats_are_explained(look: Look) -> None:
    """Below one a second it is one a minute; what a stat means is there on hover; long slugs fit."""
    look.open(org="mixed", resolution="1h")
    expect(look.page.locator("[data-series=rejected]")).to_have_attribute(
        "title", "Rate limited: over a quota or a limit"
    )
    look.open(org="mixed", resolution="1h", reason="a <b>strange</b> reason, 12345678901234567890")
    whole = COMPLETE_UNTIL // 3_600 * 3_600
    (group,) = look.site.usage("mixed", reason="a <b>strange</b> reason, 12345678901234567890")
    counted = sum(group["series"][QUANTITY][: (whole - FIRST) // 300])
    expect(look.page.locator("[data-series=received] dd").nth(1)).to_have_text(
        f"{counted / (whole - FIRST) * 60:#.3g}".rstrip("0").rstrip(".") + "/min"
    )
    org = look.page.get_by_label("Organization")
    org.fill("a-slug-of-thirty-two-characters-x")
    assert org.evaluate("field => field.scrollWidth <= field.clientWidth")


def test_every_number_of_a_series_keeps_its_digits_when_filtered(look: Look) -> None:
    """A sum of three times 2^63 - 1 in one interval."""
    look.open(org="vast", project="0")
    assert look.totals() == {**dict.fromkeys(SERIES, "0"), **dict.fromkeys(SERIES[:2], "27,670,116,110,564,327,421")}
