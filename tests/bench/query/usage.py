"""How fast `stats_v2` is: `python -m tests.bench.query.usage --data DIR`, which fills 100 million events at first.

The tables are those of `python -m tests.bench.query`, so either finds in DIR what the other has filled.
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import chdb_server
from orgstats.query.clickhouse import Database
from tests.bench import report
from tests.bench.query import PARTITIONS
from tests.bench.query.asking import DAY, HOUR, seconds_over_http
from tests.bench.query.measure import Times, prepare, serving
from tests.bench.query.traffic import BEGIN, RATE, partitions, shares
from tests.query.seeding import make_token

EVENTS: Final = 100_000_000
REQUESTS: Final = 200
WARMING: Final = 5
"""The first few, which find nothing in memory, do not count."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind, of windows that end up to an hour before `last`, and the p50 that is wanted in ms."""

    name: str
    org_id: int
    seconds: int
    asked: str
    last: int
    wanted: float

    def path(self) -> str:
        """As it is asked over HTTP, each time for another window."""
        end = self.last - random.randrange(HOUR)
        since, until = (
            datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S") for at in (end - self.seconds, end)
        )
        return (
            f"/api/0/organizations/{self.org_id}/stats_v2/?field=sum(quantity)&start={since}&end={until}&{self.asked}"
        )


def kinds(org_id: int, who: str, last: int) -> list[Kind]:
    """A day by all that an event has, and a quarter by project."""
    day = "interval=1h&groupBy=outcome&groupBy=category&groupBy=reason"
    quarter = "interval=1d&groupBy=project&category=error"
    return [
        Kind(f"24 h by outcome, category and reason at 1 h, {who}", org_id, DAY, day, last, 40),
        Kind(f"90 d by project, {who}", org_id, 90 * DAY, quarter, last, 150),
    ]


def measure(events: int, requests: int, data: Path) -> dict[Kind, Times]:
    """Milliseconds over HTTP on one connection; nobody counts beside, so no answer is kept and each request reads."""
    traffic = partitions(PARTITIONS, RATE)
    organizations, seconds = list(shares(traffic)), events // RATE
    named = (("busiest", organizations[0]), ("median", organizations[len(organizations) // 2]))
    asked = [kind for who, org_id in named for kind in kinds(org_id, who, BEGIN + seconds - 1)]
    engine = chdb_server.start(data, wait_seconds=300)
    try:
        url = prepare(engine.url, seconds, traffic, raw=False)
        with connect(url, client_name="bench") as client:
            client.execute("TRUNCATE TABLE progress")  # of a run before
        with Database(url, size=1) as database, tempfile.TemporaryDirectory() as scratch:
            token = make_token(database, None)
            with serving(url, Path(scratch)) as api:
                return {
                    kind: Times.of(seconds_over_http(api.url, token, kind.path, count=requests + WARMING)[WARMING:])
                    for kind in asked
                }
    finally:
        engine.stop()


def section(events: int, times: dict[Kind, Times]) -> str:
    """The table of docs/performance.md."""
    names: Sequence[str] = [f"{events // 1_000_000:,} M events, ms over HTTP", "wanted, p50", "p50", "p99"]
    rows = [[kind.name, f"≤ {kind.wanted:g}", f"{found.p50:.1f}", f"{found.p99:.1f}"] for kind, found in times.items()]
    return f"{report.machine()}\n\n{report.table(names, rows)}"


def main() -> None:
    """Measure, print, and unless it was with fewer events write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="fewer than the usual leave the page alone")
    parser.add_argument("--data", type=Path, help="keep the engine's data here, for another run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = section(options.events, measure(options.events, REQUESTS, options.data or Path(scratch) / "engine"))
    print(found)
    if options.events >= EVENTS:
        report.write_section("query-usage", found)


if __name__ == "__main__":
    main()
