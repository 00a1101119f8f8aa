"""The operators' page shows what the API says and the store holds, what needs action on top, each with its command."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from orgstats.query.clickhouse import Database
from orgstats.query.sql import Statement
from tests.browser.looking import Site
from tests.browser.operating import PAYLOAD, RULES, TOPIC, insert_operating, insert_watched, operators_token
from tests.browser.test_axe import serious_faults


@pytest.fixture(scope="module")
def token(store: str) -> str:
    """One that sees the page, of a store in which something is amiss."""
    with Database(store, size=1) as database:
        insert_operating(database)
        return operators_token(database)


@pytest.fixture
def ops(context: BrowserContext, site: Site) -> Iterator[Page]:
    """A page of its own, on which nothing may go wrong unnoticed."""
    faults: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda said: faults.append(said.text) if said.type in ("error", "warning") and "403" not in said.text else None,
    )
    yield page
    page.close()
    assert faults == []


def _answer(site: Site, token: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(
        f"{site.url}/api/0/ops/", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ).json()
    return found


def _open(page: Page, site: Site, token: str) -> None:
    page.goto(f"{site.url}/ops#token={token}")
    page.locator("#partitions tbody tr").first.wait_for()


def _rows(page: Page, table: str) -> list[list[str]]:
    rows: list[list[str]] = page.evaluate(
        "id => [...document.querySelectorAll(`#${id} tbody tr`)].map(row => [...row.cells].map(c => c.textContent))",
        table,
    )
    return rows


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def test_partitions_are_those_of_the_api_and_of_the_store(ops: Page, site: Site, token: str, store: str) -> None:
    """Position, lag, times, consumer; the numbers of an independent question."""
    _open(ops, site, token)
    with Database(store, size=1) as database:
        asked = (
            "SELECT s.topic, s.partition, p.next_offset, w.log_end, w.consumer FROM sources AS s FINAL"
            " JOIN progress AS p FINAL USING (source_id) JOIN watched AS w FINAL USING (topic, partition)"
            " ORDER BY s.topic, s.partition"
        )
        stored = {row[:2]: row[2:] for row in database.read(Statement(asked))}
    shown = {row[0]: row for row in _rows(ops, "partitions")}
    assert len(shown) == 4  # the dashboard's is one, of which nobody has told
    for one in _answer(site, token)["partitions"]:
        row = shown[f"{one['topic']}/{one['partition']}"]
        assert row[3] == _time(one["complete_until"])
        if one["topic"] != TOPIC:
            assert (row[2], row[5], row[6]) == ("not known", "no consumer tells of it", "")
            continue
        position, end, consumer = stored[one["topic"], one["partition"]]
        assert row[1:3] == [f"{position:,}", f"{end - position:,}"]
        assert row[4:7] == [
            _time(one["retention_deadline"]),
            "paused: not stored" if one["lag"] > 99 else "counting",
            consumer,
        ]
    assert token not in ops.url


def test_what_needs_action_is_on_top_with_its_command(ops: Page, site: Site, token: str) -> None:
    """As the API has it, what is only good to know below."""
    _open(ops, site, token)
    found = _answer(site, token)["findings"]
    levels = [one["level"] for one in found]
    assert levels == sorted(levels)
    assert {"act", "note"} == set(levels)
    items = ops.locator("#findings li")
    assert items.locator("b").all_inner_texts() == [f"{'Act' if level == 'act' else 'Note'}: " for level in levels]
    commands = items.locator("button").evaluate_all("buttons => buttons.map(button => button.dataset.command)")
    assert commands == items.locator("code").all_inner_texts() == [one["command"] for one in found]
    texts = [text for text in items.locator("span").all_inner_texts() if " behind" not in text and " for " not in text]
    assert set(texts) <= {one["what"] for one in found}


def test_a_dead_letter_is_shown_in_full_as_text(ops: Page, site: Site, token: str) -> None:
    """By topic and reason, the largest first; whatever the payload holds is no markup."""
    _open(ops, site, token)
    letters = _answer(site, token)["dead_letters"]
    assert ops.locator("#letters summary").all_inner_texts() == [
        f"{one['records']} of {one['topic']}: {one['reason']}" for one in letters
    ]
    ops.get_by_text(f"5 of {TOPIC}: not_json").click()
    expect(ops.get_by_label("Payload").first).to_have_text(PAYLOAD)
    assert ops.locator("#letters b").count() == 0
    expect(ops.locator("#letters details[open] code")).to_have_text(f"orgstats dead-letters show {TOPIC}/0/4800004")
    expect(ops.locator("#letters details[open]")).to_contain_text("trace: b7ad6b71")


def test_gaps_replays_audits_and_rules_are_those_of_the_api(ops: Page, site: Site, token: str) -> None:
    """Each row with the command that acts on it."""
    _open(ops, site, token)
    found = _answer(site, token)
    expect(ops.locator("#gaps-total")).to_have_text("5,472 offsets are lost, in 1 gap. The last to be seen:")
    (gap,) = found["gaps"]["last"]
    assert _rows(ops, "gaps") == [[f"{TOPIC}/1", "1,204,410", "1,209,882", "retention", _time(gap["seen_at"]), "Copy"]]
    assert [row[:4] for row in _rows(ops, "replays")] == [["75dbf191", "repair", "done", "1"]]
    assert [row[1:6] for row in _rows(ops, "audits")] == [
        [", ".join(one["places"]), str(one["chunks"]), str(one["compared"]), "none", one["by"]]
        for one in found["audits"]
    ]
    assert [row[:2] for row in _rows(ops, "rules")] == [["2", "in force"], ["1", "before"]]
    ops.get_by_text("The rules in force").click()
    expect(ops.get_by_label("The rules in force")).to_have_text(RULES)
    for name in ("partitions", "replays", "audits", "rules"):
        buttons = ops.locator(f"#{name} button").evaluate_all("all => all.map(button => button.dataset.command)")
        assert buttons == [one["command"] for one in found[name]]


def test_it_is_kept_up_to_date_and_nobody_loses_their_place(ops: Page, site: Site, token: str, store: str) -> None:
    """A number changes by itself, while focus, an open letter and what was scrolled to stay."""
    _open(ops, site, token)
    ops.get_by_text(f"5 of {TOPIC}: not_json").click()
    row = ops.locator("#partitions tbody tr").nth(2)
    row.get_by_role("button").focus()
    with Database(store, size=1) as database:
        insert_watched(database, late=190_001)
    expect(row.locator("td").nth(1)).to_have_text("190,001", timeout=60_000)
    expect(row.get_by_role("button")).to_be_focused()
    expect(ops.get_by_label("Payload").first).to_be_visible()
    with Database(store, size=1) as database:
        insert_watched(database, late=184_203)
    expect(row.locator("td").nth(1)).to_have_text("184,203", timeout=60_000)  # the next test asks for that


def test_it_works_by_keyboard_and_says_what_it_shows(ops: Page, site: Site, token: str) -> None:
    """The token is typed; each command can be reached and copied; a reader hears how much there is to do."""
    ops.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ops.goto(f"{site.url}/ops")
    ops.get_by_label("Token").focus()
    ops.keyboard.type(token)
    ops.keyboard.press("Enter")
    first = ops.locator("#findings button").first
    first.wait_for()
    acts = sum(one["level"] == "act" for one in _answer(site, token)["findings"])
    expect(ops.get_by_role("status")).to_have_text(f"4 partitions; {acts} to act on.")
    for _ in range(20):
        ops.keyboard.press("Tab")
        if first.evaluate("button => button === document.activeElement"):
            break
    expect(first).to_be_focused()
    ops.keyboard.press("Enter")
    expect(first).to_have_text("Copied")
    command = first.get_attribute("data-command")
    assert ops.evaluate("navigator.clipboard.readText()") == command
    expect(ops.get_by_role("button", name=f"Copy: {command}").first).to_be_visible()
    expect(ops.get_by_role("rowheader", name=f"{TOPIC}/0")).to_be_visible()


def test_a_token_of_organizations_is_refused(ops: Page, site: Site, token: str) -> None:
    """It is told what is missing, and sees nothing, also where something was shown before."""
    _open(ops, site, token)
    ops.goto(f"{site.url}/ops#token={site.tokens['all']}")
    expect(ops.get_by_role("alert")).to_contain_text("orgstats tokens create --ops")
    expect(ops.locator("#result")).to_be_hidden()
    expect(ops.get_by_label("Token")).to_be_focused()
    assert "token" not in ops.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(ops: Page, site: Site, token: str, scheme: str) -> None:
    """Only tables and commands scroll, each by itself."""
    ops.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal
    ops.set_viewport_size({"width": 360, "height": 800})
    _open(ops, site, token)
    ops.get_by_text(f"5 of {TOPIC}: not_json").click()
    assert ops.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.campaign  # the package is fetched
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_nothing_serious(ops: Page, site: Site, token: str, scheme: str, width: int) -> None:
    """With all parts shown and a dead letter open."""
    ops.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal
    ops.set_viewport_size({"width": width, "height": 800})
    _open(ops, site, token)
    ops.get_by_text(f"5 of {TOPIC}: not_json").click()
    ops.get_by_text("The rules in force").click()
    assert serious_faults(ops) == []
