"""The organizations of a token that may see several, as the API has them."""

from playwright.sync_api import expect

from tests.browser.looking import END, FIRST, Look


def _rows(look: Look) -> list[list[str]]:
    look.page.locator("#who tbody tr").first.wait_for()
    rows: list[list[str]] = look.page.evaluate(
        "[...document.querySelectorAll('#who tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


def _received(look: Look, org: str, since: int, until: int) -> int:
    return sum(count for _, count in look.site.points("received", org, since, until))


def test_organizations_by_size_and_by_change(look: Look) -> None:
    """Each with what it received in the window and before, the largest or what changed most first; a click opens it."""
    look.open(org="mixed", resolution="1h")
    look.page.get_by_text("Who: all organizations").click()
    counts = {
        org: (_received(look, org, FIRST, END - 1), _received(look, org, 2 * FIRST - END, FIRST - 1))
        for org in ("mixed", "quiet", "random", "vast")
    }
    assert counts["mixed"][1] > 0
    by_size = sorted(counts, key=lambda org: -counts[org][0])
    expected = [[org, *(f"{count:,}" for count in counts[org])] for org in by_size]
    named = [row for row in _rows(look) if "no slug" not in row[0]]
    assert [row[:3] for row in named] == expected
    assert dict(zip(by_size, [row[3] for row in named], strict=True))["vast"] == "▲ before there were none"
    look.page.locator("#who").get_by_role("button", name="Change").click()
    expect(look.page.locator("#who tbody tr").first).to_contain_text("vast")
    expect(look.page.locator("#who tbody tr").nth(2)).to_contain_text("mixed")
    look.page.locator("[data-list=reason] button").first.click()
    look.settle()
    look.page.locator("#who").get_by_role("button", name="random").click()
    look.settle()
    assert look.totals()["received"] == f"{counts['random'][0]:,}"


def test_ids_without_a_slug_stand_among_them(look: Look) -> None:
    """With the command that gives them one; there is nothing to click, since nobody can ask for them."""
    look.open(org="mixed", resolution="1h")
    look.page.get_by_text("Who: all organizations").click()
    unnamed = [row for row in _rows(look) if "no slug" in row[0]]
    assert [[row[0].split()[0], *row[1:3]] for row in unnamed] == [["77", "5,000", "1,000"], ["78", "0", "12"]]
    assert unnamed[0][0].endswith("orgstats orgs add SLUG --id 77")
    assert look.page.locator("#who tr", has_text="no slug").get_by_role("button").count() == 0


def test_a_token_of_one_organization_has_no_list(look: Look) -> None:
    """There is nobody else to look at."""
    look.open(token="random")
    look.charted()
    expect(look.page.locator("#who")).to_be_hidden()
