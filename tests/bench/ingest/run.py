"""How fast events become counts, beside what else does that job: ratios of one run, on one broker and one engine.

Every program reads the same topics in a group of its own, in turn, several times. Others get a smaller topic, since
they take minutes for what takes seconds here, and their rates do not depend on its length.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.ingest import freshness, native, rules
from tests.bench.ingest.stage import RAW, Run, Stage, running
from tests.bench.report import DOCS, Spread, bar_chart, machine, table, write_section
from tests.bench.usage import say

COMMAND: Final = "python -m tests.bench ingest"
RECORDS: Final = 10_000_000
"""Of what those read that take seconds: what begins and ends a run is little of it."""
PLAIN: Final = "plain script"
OTHERS: Final = {
    "sentry-arroyo": "arroyo_rows",
    "quixstreams": "quix_rows",
    "bytewax": "bytewax_rows",
    "aiokafka": "aiokafka_rows",
    PLAIN: "plain",
}
BASELINE, DECODING, BARE, OURS, TWO = (
    "consume() alone",
    "and decoding",
    "without the guarantee",
    "orgstats",
    "orgstats, two",
)
NO_RULES: Final = "events to classify, no rules"
RULES: Final = f"events to classify, {rules.COUNT} rules"
RATIOS: Final = {
    "ingest_share_of_librdkafka": native.LIBRDKAFKA,
    "ingest_times_rust": native.RUST,
    "ingest_times_rust_arroyo": native.RUST_ARROYO,
    "ingest_times_go": native.GO,
    "ingest_times_plain_script": PLAIN,
}
Runs = dict[str, list[Run]]


class Rest(NamedTuple):
    """What is measured once: many cells, and freshness."""

    memory: Run
    fresh: freshness.Fresh


def run(*, quick: bool) -> dict[str, float]:
    """Measure, print to stderr as it goes, and write docs/performance.md unless `quick`; the main ratios by name."""
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as stage:
        say("filling the topics")
        large = stage.topic(RECORDS)
        small = stage.topic(300_000 if quick else 500_000)
        raw_topic = stage.topic(RECORDS, RAW)
        found = _in_turn(_own(stage, large, quick=quick), rounds=2 if quick else 3)
        others = _in_turn(_others(stage, small, quick=quick), rounds=1 if quick else 3)
        raw = _in_turn(_raw(stage, raw_topic, quick=quick), rounds=1 if quick else 3)
        if not quick:
            rest = Rest(
                _consume_with_many_cells(stage),
                freshness.measure(stage),
            )
            _write(found, others, raw, rest)
    return _ratios(found | others | raw)


def _ratios(found: Runs) -> dict[str, float]:
    """How many times faster ours is than each that could be run; and the speed of classifying, as a share of ours."""
    ours = _rate(found[OURS])
    beside = {name: ours / _rate(found[program]) for name, program in RATIOS.items() if program in found}
    return beside | {f"classify_{rules.COUNT}_rules_share": _rate(found[RULES]) / ours}


def _own(stage: Stage, topic: str, *, quick: bool) -> dict[str, Callable[[], Run]]:
    compiled = {name: partial(stage.execute, command, topic) for name, command in native.build().items()}
    programs: dict[str, Callable[[], Run]] = {**compiled, OURS: partial(stage.consume, topic)}
    if not quick:
        programs |= {
            BASELINE: partial(stage.run, "baseline", topic, insert=False),
            DECODING: partial(stage.run, "baseline", topic, "--decode", insert=False),
            BARE: partial(stage.run, "bare", topic),
            TWO: partial(stage.consume, topic, consumers=2),
        }
    return programs


def _others(stage: Stage, topic: str, *, quick: bool) -> dict[str, Callable[[], Run]]:
    programs: dict[str, Callable[[], Run]] = {}
    for name, program in OTHERS.items():
        if not quick or name == PLAIN:
            programs[name] = partial(stage.run, program, topic)
        if not quick:
            programs[f"{name}, no inserts"] = partial(stage.run, program, topic, insert=False)
    return programs


def _raw(stage: Stage, topic: str, *, quick: bool) -> dict[str, Callable[[], Run]]:
    without = {} if quick else {NO_RULES: partial(stage.consume, topic)}
    return {**without, RULES: partial(stage.consume, topic, prepare=rules.put_in_force)}


def _consume_with_many_cells(stage: Stage) -> Run:
    """64 partitions whose open chunks hold over 100,000 cells together: what that takes of memory."""
    return stage.consume(stage.topic(4_000_000, partitions=64))


def _in_turn(programs: dict[str, Callable[[], Run]], rounds: int) -> Runs:
    found: Runs = defaultdict(list)
    for _ in range(rounds):
        for name, program in programs.items():
            one = program()
            found[name].append(one)
            say(f"{name}: {one.per_second:,.0f} records/s, {one.cpu_us:.2f} µs, {one.all_cpu_us:.2f} µs with the rest")
    return found


def _rate(runs: list[Run]) -> float:
    return Spread.of(one.per_second for one in runs).middle


def _write(found: Runs, others: Runs, raw: Runs, rest: Rest) -> None:
    groups = {**found, **raw, **others}
    rates = [(name, Spread.of(one.per_second for one in runs)) for name, runs in groups.items()]
    bar_chart(DOCS / "images" / "ingest.svg", "Records a second, one topic, one machine", "records a second", rates)
    ours = _rate(found[OURS])
    rows = [
        (
            name,
            Spread.of(one.per_second for one in runs).text(),
            Spread.of(one.cpu_us for one in runs).text(2),
            Spread.of(one.all_cpu_us for one in runs).text(2),
            f"{ours / _rate(runs):.2f}",
        )
        for name, runs in groups.items()
    ]
    memory, fresh = rest
    steadiness = Spread.of(one.steadiness for one in found[OURS]).middle
    rows_written = Spread.of(one.rows / one.records for one in found[OURS]).middle
    goals = table(
        ("goal", "wanted", "measured"),
        (
            *_ratio_goals(groups),
            ("times Python's sentry-arroyo", "≥ 12", f"{ours / _rate(others['sentry-arroyo']):.1f}"),
            (
                "processor time per record, the process",
                "≤ 1.6 µs",
                f"{Spread.of(o.cpu_us for o in found[OURS]).middle:.2f} µs",
            ),
            ("two processes over one", "≥ 1.3", f"{_rate(found[TWO]) / ours:.2f}"),
            ("the guarantee's machinery, processor time", "≤ 5 %", f"{_more(found):.1f} %"),
            (f"a backlog of {RECORDS // 10**6} million, over the best second", "≥ 85 %", f"{100 * steadiness:.0f} %"),
            ("rows written per record, catching up", "≤ 0.1", f"{rows_written:.3f}"),
            (f"memory, 64 partitions, {memory.cells:,.0f} cells", "≤ 300 MB", f"{memory.memory_mib * 1.048576:.0f} MB"),
            (f"produced to visible at {fresh.rate:,.0f} records/s, p99", "≤ 1.5 s", f"{fresh.visible_p99:.2f} s"),
            ("SIGKILL to fresh counts, 64 partitions", "≤ session timeout + 20 s", fresh.recovered_text()),
        ),
    )
    names = ("", "records/s", "µs per record, the process", "with broker and engine", "orgstats is faster by")
    text = (
        f"```\n{COMMAND}\n```\n\n{machine()} Middle value, and in brackets the smallest and largest.\n\n"
        f"{table(names, rows)}\n\n![Records a second]({'images/ingest.svg'})\n\n{goals}\n"
    )
    write_section("ingest", text)


def _ratio_goals(groups: Runs) -> Iterable[tuple[str, str, str]]:
    """What is to be reached beside programs that are compiled, of those that could be built, and classifying."""
    found = {**_ratios(groups), "classify_no_rules_share": _rate(groups[NO_RULES]) / _rate(groups[OURS])}
    for name, wanted in (
        ("ingest_share_of_librdkafka", 0.5),
        ("ingest_times_rust", 1.3),
        ("ingest_times_rust_arroyo", 2.2),
        ("ingest_times_go", 2),
        (f"classify_{rules.COUNT}_rules_share", 0.6),
        ("classify_no_rules_share", 0.8),
    ):
        if name in found:
            yield name.replace("_", " "), f"≥ {wanted}", f"{found[name]:.2f}"


def _more(found: Runs) -> float:
    """Per cent of processor time that the whole daemon takes more than the same loop without the guarantee."""
    whole, bare = (Spread.of(one.cpu_us for one in found[name]).middle for name in (OURS, BARE))
    return 100 * (whole / bare - 1)
