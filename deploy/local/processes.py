"""Child processes of the local tools: in a group of their own, logged to a file, ended with their parent."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orgstats.errors import Unavailable

T = TypeVar("T")

# Runs in the child before the program: asks the kernel to kill it when the thread that started it ends, and
# leaves if that has already happened. Signals that the parent blocks to wait for them must reach the child.
# A preexec_fn instead would run Python in a fork of a process with threads, which can deadlock.
_TRAMPOLINE = """
import ctypes, os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, [])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent process has ended")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Child:
    """A started process; `log` holds its stdout and stderr."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def terminate(self) -> None:
        """Send SIGTERM to it and its group, without waiting."""
        self._signal(signal.SIGTERM)

    def stop(self, grace_seconds: float = 10.0) -> int:
        """End it and its group by SIGTERM, after the grace by SIGKILL; the exit status (negative: by signal)."""
        self.terminate()
        try:
            return self.popen.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it and its group by SIGKILL; the exit status."""
        self._signal(signal.SIGKILL)
        return self.popen.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def first_json_line(self) -> dict[str, Any] | None:
        """The first line of the log that is a JSON object: how the tools here say that they are ready."""
        for line in self.log.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("}\n"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        return None

    def _signal(self, number: signal.Signals) -> None:
        if self.running:  # once reaped, the id may belong to somebody else
            os.killpg(self.pid, number)


def start(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Child:
    """Start `argv` with the environment `env` (None: this process's own); the log file is made anew.

    The child is killed when the calling *thread* ends, so call it from one that lives as long as the child may.
    A program that does not exist shows as a child that has ended, with the reason in its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        popen = subprocess.Popen(  # noqa: S603 - the tools here start what they name themselves
            [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            process_group=0,  # a terminal's Ctrl-C reaches the parent alone, which stops children in order
        )
    return Child(name, log, popen)


def wait_ready(child: Child, ready: Callable[[], T | None], *, seconds: float, poll_seconds: float = 0.02) -> T:
    """The first true answer of `ready`, asked again and again.

    Raises Unavailable, with the end of the log, when the child ends first or the time is over; the child is
    killed then.
    """
    deadline = time.monotonic() + seconds
    while child.running and time.monotonic() < deadline:
        if answer := ready():
            return answer
        time.sleep(poll_seconds)
    problem = f"was not ready after {seconds:g} s" if child.running else f"ended with {child.popen.returncode}"
    child.kill()
    raise Unavailable(f"{child.name} {problem}; the end of {child.log}:\n{child.tail()}")
