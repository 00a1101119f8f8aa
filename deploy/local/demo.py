"""What the demo of `orgstats up` is about: who is in it, their tokens, its rules, and a mistake to practise on."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Final

from orgstats.clickhouse.connect import INSERT_SETTINGS, connect
from orgstats.deploy.traffic import DOCUMENTED_SLUG
from orgstats.query.access import READ_SCOPE, digest_of, is_valid
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.tables import RulesRow, insert

NAMES: Final = {
    1: "The Interstellar Jurisdiction",
    2: "Harbor Lights",
    3: "Paper Planes",
    4: "Quiet Orchard",
    5: "Ferrous Works",
    6: "Lantern Post",
}
"""Organizations with a name, by id; the traffic has more, which nobody has named."""
PROJECTS: Final = ("web", "api", "mobile", "worker", "desktop", "checkout", "search")
"""Projects of an organization, in the order of their ids (org_id * 100 and on; see deploy/traffic.py)."""
MISTAKE: Final = """
# Meant for http://localhost, and much too wide.
[[rule]]
outcome = "filtered"
reason = "localhost"
url = ["http*"]
"""
MISTAKEN_HOURS_AGO: Final = 8
"""The mistake came into force on the hour, so long ago, and was corrected an hour later.

So far back that each partition has closed the chunks of that hour, by night too, at the ten events a second of
`orgstats up`: what is counted again at once when the rule is voided is no part of the replay, and stays when that is
undone."""


def slug_of(org_id: int) -> str:
    """The slug of an organization of the demo."""
    return DOCUMENTED_SLUG if org_id == 1 else NAMES[org_id].lower().replace(" ", "-")


def name_everybody(people: Directory, now: float) -> None:
    """Organizations and their projects; those that are there stay as they are."""
    for org_id, name in NAMES.items():
        people.add_organization(Wanted(slug_of(org_id), name, org_id, rename=True), now)
        for number in range(1 + org_id % len(PROJECTS)):
            people.add_project(org_id, Wanted(PROJECTS[number], key=org_id * 100 + number, rename=True), now)


def token(people: Directory, path: Path, org_id: int | None, now: float, scope: str = READ_SCOPE) -> str:
    """A token for one organization, or for all of them: the one that is kept in a file while it is valid."""
    if path.exists():
        kept = path.read_text().strip()
        if any(one.digest == digest_of(kept) and is_valid(one, now) for one in people.tokens()):
            return kept
        path.unlink()
    return secret(path, lambda: people.create_token(org_id=org_id, name="up", expires_at=None, now=now, scope=scope)[0])


def secret(path: Path, make: Callable[[], str]) -> str:
    """The text kept in a file that only its owner may read, made when missing."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
    return path.read_text().strip()


def publish_rules(clickhouse_url: str, since: float) -> None:
    """A history of rules from `since` on, with the mistake in it; nothing where there are any.

    They are in force at once, which `orgstats rules publish` never does: nothing is counted yet.
    """
    rules = (Path(__file__).parent / "rules.toml").read_text(encoding="utf-8")
    hour = datetime.fromtimestamp(time.time() // 3600 * 3600, UTC) - timedelta(hours=MISTAKEN_HOURS_AGO)
    never = datetime.fromtimestamp(0, UTC)
    history = (
        (datetime.fromtimestamp(since, UTC), rules, "web crawlers and localhost"),
        (hour, rules + MISTAKE, "more of localhost"),
        (hour + timedelta(hours=1), rules, "back to what it was"),
    )
    with connect(clickhouse_url, client_name="orgstats-up") as client:
        if client.execute("SELECT count() FROM rules")[0][0]:
            return
        rows = [
            RulesRow(token_hex(8), version, at, toml, "up", at, note, never)
            for version, (at, toml, note) in enumerate(history, 1)
        ]
        client.execute(insert("rules"), rows, settings=INSERT_SETTINGS)
