"""axe, which looks for what keeps people from using a page, finds nothing serious."""

import shutil
from typing import Any, Final

import pytest
from playwright.sync_api import Page

from tests.browser.looking import Look
from tests.support.npm import packages

pytestmark = pytest.mark.campaign  # the package is fetched
VERSION: Final = "4.10.2"


def serious_faults(page: Page) -> list[tuple[str, list[str]]]:
    """Each serious fault that axe finds on a page as it is now, with the elements that have it; skips without npm."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("needs npm")
    axe = (packages(npm, {"axe-core": VERSION}) / "node_modules" / "axe-core" / "axe.min.js").read_text()
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(found => found.violations)")
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(look: Look, scheme: str) -> None:
    """With numbers, reasons and the table shown, one of them chosen, and a mistake told."""
    look.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal
    look.open(org="mixed", resolution="1h")
    look.charted()
    look.table()
    look.page.locator("[data-list=reason] button").first.click()
    look.settle()
    look.page.get_by_label("From (UTC)").fill("yesterday")
    look.page.get_by_role("button", name="Show", exact=True).click()
    look.page.get_by_role("alert").wait_for()
    assert serious_faults(look.page) == []
