"""`python -m orgstats.deploy.capacity`: what so many events a second need, from one machine to ten million."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from orgstats.consumer.counting.source import CHUNK_LENGTH
from orgstats.deploy.capacity.figures import Figures, load, sources
from orgstats.deploy.capacity.model import TABLES, Load, Need, need
from orgstats.deploy.local.traffic import Mix
from orgstats.errors import OrgstatsError

LADDER = ((1_000, 100), (10_000, 1_000), (100_000, 1_000), (1_000_000, 10_000), (10_000_000, 100_000))
"""(events a second, organizations) of the table's rows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is needed; returns the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        figures = load(asked.figures)
    except OrgstatsError as error:
        print(f"capacity: {error}", file=sys.stderr)
        return error.exit_code
    if asked.sources:
        for name, source in sources().items():
            print(f"{name} = {getattr(figures, name):g}: {source}")
        return 0
    if asked.table:
        _print_table(figures, asked)
        return 0
    if asked.events_per_second is None:
        _parser().error("--events-per-second is needed")
    found = need(_load(asked, asked.events_per_second, asked.orgs), figures)
    if asked.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        _print(found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orgstats.deploy.capacity", description=__doc__)
    parser.add_argument("--events-per-second", type=_positive)
    parser.add_argument("--orgs", type=_positive, default=1_000, help="organizations, few of them large")
    parser.add_argument("--partitions", type=_positive, default=0, help="of the topic [default: what fits]")
    parser.add_argument("--retention-days", type=_positive, default=90)
    keyed = parser.add_mutually_exclusive_group()
    keyed.add_argument("--keyed", action="store_true", help="records are partitioned by organization")
    keyed.add_argument("--unkeyed", action="store_false", dest="keyed", help="each partition has all [default]")
    parser.add_argument("--flush-seconds", type=_positive, default=0, help="between inserts [default: what fits]")
    parser.add_argument("--replicas", type=_positive, default=0, help="of each shard [default: what fits]")
    parser.add_argument("--late", type=_share, default=Mix().late, help="share of events that are half an hour late")
    parser.add_argument("--chunk-length", type=_positive, default=CHUNK_LENGTH, help="another grid, to compare")
    parser.add_argument("--figures", type=Path, help="a TOML file with figures measured elsewhere")
    parser.add_argument("--sources", action="store_true", help="print the figures and where they come from")
    parser.add_argument("--table", action="store_true", help="print one line each for 1,000 to 10,000,000 a second")
    parser.add_argument("--json", action="store_true")
    return parser


def _positive(text: str) -> int:
    number = int(text.replace("_", "").replace(",", ""))
    if not 0 < number < 10**12:
        raise ValueError
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise ValueError
    return share


def _load(asked: argparse.Namespace, events_per_second: float, organizations: int) -> Load:
    return Load(
        events_per_second=events_per_second,
        organizations=organizations,
        partitions=asked.partitions,
        retention_days=asked.retention_days,
        keyed=asked.keyed,
        flush_seconds=asked.flush_seconds,
        replicas=asked.replicas,
        chunk_length=asked.chunk_length,
        late=asked.late,
    )


def _print(found: Need) -> None:
    hot = " MORE THAN ONE PROCESS CAN COUNT: see docs/scaling.md" if found.hottest_cores > 1 else ""
    for name, text in (
        ("partitions", f"{found.partitions}; the fullest gets {found.hottest_partition:.1%} of all events{hot}"),
        ("Kafka", f"{found.kafka_mb_per_second:,.1f} MB/s, {found.kafka_tb_per_day:.2f} TB a day, not compressed"),
        ("consumers", f"{found.consumers} processes, {found.consumer_cores:.1f} cores busy of them"),
        ("memory", f"{found.consumer_mib:,.0f} MiB each"),
        ("flushes", f"every {found.flush_seconds} s; {found.parts_per_second:.1f} inserts/s on each table of a shard"),
        ("rows written", f"{found.rows_per_second:,.0f} a second, {found.rows_per_event:.3f} an event"),
        ("rows kept", ", ".join(f"{_short(getattr(found, f'{table}_kept'))} {table}" for table in TABLES)),
        ("disk", f"{found.disk_gb:,.1f} GB on all replicas"),
        ("ClickHouse", f"{found.shards} shards of {found.replicas} replicas, {found.server_cores:.1f} cores"),
        ("24 h, largest", f"{_short(found.largest_rows)} rows, {found.largest_ms:.0f} ms of processor time"),
        ("24 h, middling", f"{_short(found.middling_rows)} rows, {found.middling_ms:.0f} ms of processor time"),
    ):
        print(f"{name:<15} {text}")


def _print_table(figures: Figures, asked: argparse.Namespace) -> None:
    print(
        "| events a second | organizations | partitions | consumers | memory each | Kafka | flush | rows a second |"
        " rows kept | disk, all replicas | ClickHouse | cores | 24 h of the largest |"
    )
    print("|" + "---|" * 13)
    for events, organizations in LADDER:
        n = need(_load(asked, events, organizations), figures)
        cells = [
            f"{events:,}",
            f"{organizations:,}",
            f"{n.partitions}{' (1)' if n.hottest_cores > 1 else ''}",
            f"{n.consumers}",
            f"{n.consumer_mib:,.0f} MiB",
            f"{n.kafka_mb_per_second:,.1f} MB/s",
            f"{n.flush_seconds} s",
            _short(n.rows_per_second),
            _short(n.counts_kept + n.project_counts_kept + n.hour_counts_kept),
            f"{n.disk_gb:,.0f} GB",
            f"{n.shards} of {n.replicas}",
            f"{n.server_cores:,.1f}",
            f"{_short(n.largest_rows)} rows, {n.largest_ms:,.0f} ms",
        ]
        print(f"| {' | '.join(cells)} |")


def _short(number: float) -> str:
    """Three digits and a word."""
    for size, word in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{word}"
    return f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(main())
