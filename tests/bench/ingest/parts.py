"""What each line of the hot path costs: a sampling profiler looks at the real daemon while it catches up."""

import linecache
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.bench.ingest.stage import ROOT, Stage
from tests.bench.report import table
from tests.support.wait import wait_for

SECONDS: Final = 6
PER_SECOND: Final = 200
LINES: Final = 30
_FRAME: Final = re.compile(r"(?P<function>\S+) \((?P<file>[^:]+):(?P<line>\d+)\)")

Line = tuple[str, int]
"""(file below the project's root, line)."""


def parts(stage: Stage, topic: str) -> str:
    """Lines of the daemon by the nanoseconds that they, and the libraries they call, take per record.

    The topic must take the daemon longer than the profiler looks.
    """
    daemon = stage.daemon(topic, stage.database(), "profiled")
    try:
        wait_for(lambda: daemon.counted() > 0, 60)
        wait_for(lambda: daemon.metric("orgstats_rows_written_total") > 0, 60)  # all that it ever imports is imported
        began, at = daemon.counted(), time.monotonic()
        stacks = _look(daemon.child.pid, stage.directory / "stacks.txt")
        records = (daemon.counted() - began) * SECONDS / (time.monotonic() - at)
    finally:
        daemon.child.stop(30)
    spent = _by_line(stacks)
    per_sample_ns = 1e9 / PER_SECOND / records
    rows = [
        (f"{samples * per_sample_ns:.0f}", f"{file}:{line}", f"`{_source(file, line)}`")
        for (file, line), samples in spent.most_common(LINES)
    ]
    whole = sum(spent.values()) * per_sample_ns
    return table(("ns per record", "line", ""), [*rows, (f"{whole:.0f}", "all lines", "")])


def _source(file: str, line: int) -> str:
    """The text of a line, without its comment."""
    return linecache.getline(str(ROOT / file), line).partition("  #")[0].strip()


def _look(pid: int, output: Path) -> list[str]:
    """Stacks as `frame;frame;… samples`; a thread that waits is not looked at."""
    spy = str(Path(sys.executable).with_name("py-spy"))
    command = [spy, "record", "--pid", str(pid), "--duration", str(SECONDS), "--rate", str(PER_SECOND), "--nonblocking"]
    subprocess.run([*command, "--format", "raw", "--output", str(output)], check=True, capture_output=True)
    return output.read_text(encoding="utf-8").splitlines()


def _by_line(stacks: Iterable[str]) -> Counter[Line]:
    """Samples by the innermost line of ours."""
    spent: Counter[Line] = Counter()
    for stack in stacks:
        frames, _, samples = stack.rpartition(" ")
        for frame in reversed(frames.split(";")):
            match = _FRAME.fullmatch(frame.strip())
            if match and (match["file"].startswith("consumer/") or f"{ROOT}/consumer/" in match["file"]):
                spent[match["file"].removeprefix(f"{ROOT}/"), int(match["line"])] += int(samples)
                break
    return spent
