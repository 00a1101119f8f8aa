"""What a process has used so far, and how far a benchmark is, for who waits."""

import os
import sys
from pathlib import Path


def say(what: str) -> None:
    """Tell on stderr; stdout is for figures."""
    print(what, file=sys.stderr, flush=True)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """The most resident memory that a process had."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines() if "VmHWM" in one]
    return int(line.split()[1]) / 1024
