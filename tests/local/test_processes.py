"""Child processes: they get ready, end in order, and never outlive their parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orgstats.deploy.local import processes
from orgstats.errors import Unavailable
from tests.support.wait import wait_for

READY = "import json, time; print(json.dumps({'port': 7}), flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}"
TREE = f"""
import json, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {READY!r}], stdout=2)
print(json.dumps({{"port": child.pid}}), flush=True)
time.sleep(600)
"""


def python(tmp_path: Path, code: str) -> processes.Child:
    """A child that runs the code."""
    return processes.start("child", [sys.executable, "-c", code], log=tmp_path / "logs" / "child.log")


def gone(pid: int) -> bool:
    """Whether no process has this id, not counting one that only waits to be reaped."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_ready_is_the_first_json_line(tmp_path: Path) -> None:
    """What the child prints first as JSON is the answer, and it is still running."""
    child = python(tmp_path, "print('starting')\n" + READY)
    assert processes.wait_ready(child, child.first_json_line, seconds=20) == {"port": 7}
    assert child.running
    assert child.stop() == -signal.SIGTERM


def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """Its name, its status and the end of its log are in the error."""
    child = python(tmp_path, "import sys; sys.exit('no disk')")
    with pytest.raises(Unavailable, match=r"child ended with 1;[\s\S]*no disk"):
        processes.wait_ready(child, child.first_json_line, seconds=20)


def test_a_child_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    """After the time is over it is gone."""
    child = python(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(Unavailable, match=r"was not ready after 0\.2 s"):
        processes.wait_ready(child, child.first_json_line, seconds=0.2)
    assert not child.running


def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    """There is a child that has ended and says why."""
    child = processes.start("child", ["/no/such/program"], log=tmp_path / "child.log")
    with pytest.raises(Unavailable, match="No such file"):
        processes.wait_ready(child, child.first_json_line, seconds=20)


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    """stop() returns in any case."""
    child = python(tmp_path, STUBBORN)
    processes.wait_ready(child, child.first_json_line, seconds=20)
    assert child.stop(grace_seconds=0.1) == -signal.SIGKILL


def test_grandchildren_end_too(tmp_path: Path) -> None:
    """stop() reaches the whole process group."""
    child = python(tmp_path, TREE)
    grandchild = processes.wait_ready(child, child.first_json_line, seconds=20)["port"]
    child.stop()
    wait_for(lambda: gone(grandchild), 20)


def test_signals_that_the_parent_blocks_reach_the_child(tmp_path: Path) -> None:
    """A parent that waits for SIGTERM with sigwait blocks it; the child must not inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = python(tmp_path, READY)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    processes.wait_ready(child, child.first_json_line, seconds=20)
    assert child.stop(grace_seconds=20) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """Also when the parent is killed and can do nothing any more."""
    code = (
        "import sys, time; from pathlib import Path; from orgstats.deploy.local import processes; "
        f"c = processes.start('child', [sys.executable, '-c', {READY!r}], log=Path({str(tmp_path / 'log')!r})); "
        "processes.wait_ready(c, c.first_json_line, seconds=20); print(c.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        os.kill(child_pid, 0)
        parent.kill()
    wait_for(lambda: gone(child_pid), 20)
