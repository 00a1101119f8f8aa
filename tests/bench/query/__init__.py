"""How fast questions are answered, at 10 million, 100 million and a billion events, beside raw rows."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from orgstats.deploy.local import chdb_server
from tests.bench.query import page
from tests.bench.query.measure import Size, busy, measure, prepare
from tests.bench.query.traffic import RATE, partitions

PARTITIONS = 4
SIZES = {10_000_000: True, 100_000_000: True, 1_000_000_000: False}
"""Events, and whether raw rows of them are measured too: a billion of them would take twenty gigabytes."""
QUICK_SIZES = {1_000_000: False, 30_000_000: True}

LENGTHS = {"1 h at 10 s": "query_10s_p50_ms", "24 h": "query_24h_p50_ms"}


def run(*, quick: bool, data: Path | None = None) -> dict[str, float]:
    """The ratios, and unless `quick` the page; `data` is a directory to keep filled tables in, for another run."""
    traffic = partitions(PARTITIONS, RATE)
    sizes: dict[int, Size] = {}
    with tempfile.TemporaryDirectory() as scratch:
        engine = chdb_server.start(data or Path(scratch) / "engine", wait_seconds=300)
        try:
            asked = QUICK_SIZES if quick else SIZES
            urls = {size: prepare(engine.url, size // RATE, traffic, raw=raw) for size, raw in asked.items()}
            for size, raw in asked.items():
                times = 40 if quick else 200
                sizes[size] = measure(urls[size], size // RATE, traffic, Path(scratch), times=times, raw=raw)
            if not quick:
                largest = max(asked)
                answered = busy(urls[largest], largest // RATE, traffic, Path(scratch), for_seconds=20)
                page.write(sizes, answered)
        finally:
            engine.stop()
    return ratios(sizes)


def ratios(sizes: Mapping[int, Size]) -> dict[str, float]:
    """Of the largest size the worst organization's middle request; growth of the middle request from the smallest size;
    and the gain over raw rows: of the busiest organization's day at 1 h, where most of them are.
    """
    smallest, largest = sizes[min(sizes)], sizes[max(sizes)]
    beside_raw = sizes[max(size for size, found in sizes.items() if found.raw)]
    p50s = {
        length: [times.p50 for kind, times in largest.http.items() if kind.startswith(length)] for length in LENGTHS
    }
    return {
        **{name: max(p50s[length]) for length, name in LENGTHS.items()},
        "query_growth": median(largest.http[kind].p50 / smallest.http[kind].p50 for kind in smallest.http),
        "query_times_raw": list(page.gains_over_raw(sizes).values())[-1],
        "disk_raw_per_ours": beside_raw.weights["raw"].bytes / beside_raw.ours,
    }
