"""What was measured of queries, as tables of docs/performance.md."""

from collections.abc import Mapping
from typing import Final

from tests.bench import report
from tests.bench.query.fill import COUNTS
from tests.bench.query.measure import CONNECTIONS, LAST_WINDOWS, OWN_WINDOWS, Size, Times

_MAIN: Final = "24 h at 1 h, busiest"
"""What the endpoint answers when only an organization is named."""


def write(sizes: Mapping[int, Size], answered: Mapping[str, tuple[float, Times]]) -> None:
    """Put the tables in their places on the page."""
    report.write_section("query-times", _times(sizes))
    report.write_section("query-goals", _goals(sizes, answered))
    report.write_section("query-others", _others(sizes))
    report.write_section("query-disk", _disk(sizes))
    report.write_section("query-load", _load(answered))


def _events(count: int) -> str:
    return f"{count // 1_000_000:,} M events"


def _of(times: Times) -> str:
    return f"{times.p50:.1f} / {times.p99:.1f}"


def _times(sizes: Mapping[int, Size]) -> str:
    smallest, largest = sizes[min(sizes)], sizes[max(sizes)]
    rows = []
    for kind in smallest.http:
        growth = largest.http[kind].p50 / smallest.http[kind].p50
        over_http = [_of(size.http[kind]) for size in sizes.values()]
        rows.append([kind, *over_http, f"{growth:.2f}", _of(largest.engine[kind])])
    names = ["p50 / p99, ms over HTTP", *map(_events, sizes), "growth of p50", "largest, in the engine"]
    return f"{report.machine()}\n\n{report.table(names, rows)}"


def _goals(sizes: Mapping[int, Size], answered: Mapping[str, tuple[float, Times]]) -> str:
    """What was wanted, and of all sizes and organizations the worst."""
    smallest, largest = sizes[min(sizes)], sizes[max(sizes)]
    gains = gains_over_raw(sizes)

    def worst(length: str) -> Times:
        found = [times for size in sizes.values() for kind, times in size.http.items() if kind.startswith(length)]
        return Times(max(times.p50 for times in found), max(times.p99 for times in found))

    day, hour, quarter = map(worst, ("24 h", "1 h", "90 d"))
    growth = max(largest.http[kind].p50 / smallest.http[kind].p50 for kind in smallest.http)
    rows = [
        ["24 h at 1 h over HTTP, p50 / p99", "≤ 10 / 40 ms", f"{_of(day)} ms"],
        ["1 h at 10 s over HTTP, p50 / p99", "≤ 12 / 40 ms", f"{_of(hour)} ms"],
        ["90 d at 1 d over HTTP, p50 / p99", "≤ 12 / 40 ms", f"{_of(quarter)} ms"],
        [f"growth of p50, {_events(min(sizes))} to {_events(max(sizes))}", "≤ 1.3", f"{growth:.2f}"],
        *([f"times raw rows, {name}", "≥ 20", f"{gain:.1f}"] for name, gain in gains.items()),
        *([f"requests a second, {name}", "≥ 500", f"{answered[name][0]:,.0f}"] for name in (LAST_WINDOWS, OWN_WINDOWS)),
    ]
    return report.table(["goal; of all sizes and organizations the worst", "wanted", "measured"], rows)


def gains_over_raw(sizes: Mapping[int, Size]) -> dict[str, float]:
    """How many times faster than raw rows the busiest organization's day at 1 h is, by the size's name."""
    return {
        f"24 h at 1 h, busiest, {_events(events)}": size.raw[_MAIN].p50 / size.engine[_MAIN].p50
        for events, size in sizes.items()
        if _MAIN in size.raw
    }


def _others(sizes: Mapping[int, Size]) -> str:
    rows = []
    for events, size in sizes.items():
        for kind, raw in size.raw.items():
            ours, hourly = size.engine[kind], size.hourly.get(kind)
            gain = f"{raw.p50 / ours.p50:.1f}"
            rows.append([f"{kind}; {_events(events)}", _of(ours), _of(raw), gain, _of(hourly) if hourly else "none"])
    return report.table(["p50 / p99, ms in the engine", "orgstats", "raw rows", "times", "sums by hour"], rows)


def _disk(sizes: Mapping[int, Size]) -> str:
    rows = []
    for events, size in sizes.items():
        for name in (*COUNTS, "raw_by_hour", "raw"):
            if name in size.weights:
                weight = size.weights[name]
                per_event = f"{weight.bytes / events:.2f}"
                rows.append([f"{name}; {_events(events)}", per_event, f"{weight.rows:,}", str(weight.parts)])
    return report.table(["table", "bytes per event", "rows", "parts"], rows)


def _load(answered: Mapping[str, tuple[float, Times]]) -> str:
    rows = [
        [f"{CONNECTIONS} connections, {name}", f"{rate:,.0f}", f"{times.p50:.1f}", f"{times.p99:.1f}"]
        for name, (rate, times) in answered.items()
    ]
    return report.table(["requests", "a second", "p50, ms", "p99, ms"], rows)
