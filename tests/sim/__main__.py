"""`python -m tests.sim --seed N --histories M`: plays random histories; `--replay FILE` one that was written down."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing import Pool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.sim.coverage import table
from tests.sim.plan import Plan, draw, from_lines
from tests.sim.play import Outcome, Tally, play
from tests.sim.quiet_logs import be_quiet
from tests.sim.shrink import kind_of, shrink

COVERED: Final = (
    *("assignment", "checkpoint", "checkpoint_turns", "cutback", "loop", "opening", "partitions", "source_facts"),
    *("counting/chunk", "counting/partition", "counting/resume", "ops/audit", "ops/audit_rules", "ops/compare"),
    *("ops/recount", "ops/redrive", "ops/replay", "ops/sending", "ops/settling", "ops/stored"),
)
"""Modules whose branches histories are to take."""


def main() -> int:
    """Exit 1 when a history fails; the shortest script of the first one is printed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--replay", type=Path, help="a script to be played instead, with the product's log lines")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--branch-coverage", action="store_true", help="print which branches of the product were taken")
    parser.add_argument("--shrink", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    if options.replay:
        outcome = play(from_lines(options.replay.read_text()))
        print(outcome.detail or "holds")
        return int(bool(outcome.invariant))
    be_quiet()
    if options.branch_coverage:
        return _branch_coverage(range(options.seed, options.seed + options.histories))
    seeds = range(options.seed, options.seed + options.histories)
    began = time.monotonic()
    tally, failed = Tally(), list[tuple[int, Outcome]]()
    for seed, outcome in _play_all(seeds, options.jobs):
        tally.add(outcome)
        if outcome.invariant:
            failed.append((seed, outcome))
            print(f"seed {seed}: {outcome.detail}", flush=True)
    print(table(tally.met))
    print(f"{tally} in {time.monotonic() - began:.1f} s")
    if failed and options.shrink:
        _print_shortest(*failed[0])
    return int(bool(failed))


def _branch_coverage(seeds: Iterable[int]) -> int:
    """Play in a process that measures from the first import on; the table says what was never done."""
    code = (
        "from tests.sim.plan import draw; from tests.sim.play import play; from tests.sim.quiet_logs import be_quiet;"
        "from tests.sim.scripts import every; be_quiet(); [play(one) for one in every().values()];"
        f"[play(draw(seed)) for seed in {seeds!r}]"
    )
    with TemporaryDirectory() as folder:
        data = f"--data-file={folder}/branches"
        run = [sys.executable, "-m", "coverage"]
        script = Path(folder, "play.py")
        script.write_text(code)
        include = "--include=" + ",".join(f"*/consumer/{module}.py" for module in COVERED)
        subprocess.run(
            [*run, "run", "--branch", data, include, script], check=True, env=os.environ | {"PYTHONPATH": "."}
        )
        return subprocess.run([*run, "report", "--show-missing", data], check=False).returncode


def _play_all(seeds: Iterable[int], jobs: int) -> Iterator[tuple[int, Outcome]]:
    if jobs == 1:
        yield from map(_play, seeds)
        return
    with Pool(jobs, be_quiet) as pool:
        yield from pool.imap(_play, seeds, chunksize=20)


def _play(seed: int) -> tuple[int, Outcome]:
    return seed, play(draw(seed))


def _print_shortest(seed: int, outcome: Outcome) -> None:
    def fails(plan: Plan) -> bool:
        again = play(plan)
        return again.invariant == outcome.invariant and kind_of(again.detail) == kind_of(outcome.detail)

    short = shrink(draw(seed), fails)
    print(f"\nseed {seed}, {len(short.steps)} steps: {play(short).detail}\n\n{short.to_lines()}")


if __name__ == "__main__":
    sys.exit(main())
