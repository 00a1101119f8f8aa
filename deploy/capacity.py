"""What a rate of events needs, in proportion to measured figures: python -m orgstats.deploy.capacity.

An estimate for planning, not a model: it multiplies the figures of `capacity.toml`. Rows for each event fall with the
rate, so between two measured rates the lower one counts, and an estimate is rather too high than too low.
"""

import argparse
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("capacity.toml")
DAY: Final = 86_400
LADDER: Final = (1_000, 10_000, 100_000, 1_000_000)
"""Events a second of the table's rows."""


class Need(NamedTuple):
    """What it takes; `disk_gb` is one copy of the counts for the whole retention."""

    events_per_second: int
    consumers: int
    kafka_mb_per_second: float
    rows_per_second: float
    server_cores: float
    disk_gb: float


def load(file: Path = FILE) -> dict[str, Any]:
    """The measured figures: a value by name, and `rows`, the measured rates."""
    return tomllib.loads(file.read_text(encoding="utf-8"))


def need(events_per_second: int, figures: dict[str, Any], *, keyed: bool = True, retention_days: int = 90) -> Need:
    """What so many events a second need; `keyed` when records are partitioned by organization."""
    measured = [row for row in figures["rows"] if row["keyed"] is keyed]
    at = max((r for r in measured if r["events_per_second"] <= events_per_second), key=_rate, default=measured[0])
    rows = events_per_second * at["written"]
    value = {name: entry["value"] for name, entry in figures.items() if name != "rows"}
    busy = events_per_second * value["count_us_per_record"] / 1e6 + rows * value["store_us_per_row"] / 1e6
    consumers = max(1, math.ceil(busy * value["spare"]))
    storing = rows * value["server_us_per_row"] / 1e6 + consumers * 3 * value["server_ms_per_insert"] / 1e3
    kept = events_per_second * at["kept"] * retention_days * DAY
    return Need(
        events_per_second,
        consumers,
        events_per_second * value["record_bytes"] / 1e6,
        rows,
        storing * value["spare"],
        kept * value["bytes_per_row"] / 1e9,
    )


def table(needs: Sequence[Need]) -> str:
    """Markdown, a row for each rate."""
    lines = [
        "| events a second | consumers | Kafka | rows a second | ClickHouse cores | disk, one copy |",
        "|" + "---|" * 6,
    ]
    lines += [
        f"| {n.events_per_second:,} | {n.consumers} | {n.kafka_mb_per_second:,.1f} MB/s | {n.rows_per_second:,.0f} |"
        f" {n.server_cores:,.1f} | {n.disk_gb:,.0f} GB |"
        for n in needs
    ]
    return "\n".join(lines) + "\n"


def _rate(row: dict[str, Any]) -> int:
    return int(row["events_per_second"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table for one rate, or for a ladder of them."""
    parser = argparse.ArgumentParser(prog="python -m orgstats.deploy.capacity", description=__doc__)
    parser.add_argument("--events-per-second", type=int, help="one rate [default: a ladder of them]")
    parser.add_argument("--unkeyed", action="store_true", help="records are not partitioned by organization")
    parser.add_argument("--retention-days", type=int, default=90)
    asked = parser.parse_args(arguments)
    rates = [asked.events_per_second] if asked.events_per_second else LADDER
    figures = load()
    found = [need(rate, figures, keyed=not asked.unkeyed, retention_days=asked.retention_days) for rate in rates]
    print(table(found), end="")


if __name__ == "__main__":
    main()
