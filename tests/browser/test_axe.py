"""axe, which looks for what keeps people from using a page, finds nothing serious."""

import shutil
from typing import Any, Final

import pytest

from tests.browser.looking import Look
from tests.support.npm import packages

pytestmark = pytest.mark.campaign  # the package is fetched
VERSION: Final = "4.10.2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(look: Look, scheme: str) -> None:
    """With numbers, reasons and the table shown, one of them chosen, and a mistake told."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("needs npm")
    axe = (packages(npm, {"axe-core": VERSION}) / "node_modules" / "axe-core" / "axe.min.js").read_text()
    look.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal
    look.open(org="mixed", resolution="1h")
    look.charted()
    look.table()
    look.page.locator("[data-list=reason] button").first.click()
    look.settle()
    look.page.get_by_label("From (UTC)").fill("yesterday")
    look.page.get_by_role("button", name="Show", exact=True).click()
    look.page.get_by_role("alert").wait_for()
    look.page.evaluate(axe)
    found: list[dict[str, Any]] = look.page.evaluate("axe.run().then(found => found.violations)")
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []
