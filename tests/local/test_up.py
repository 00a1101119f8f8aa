"""`orgstats up`: everything starts, answers, and ends without a trace."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local.test_processes import gone
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


class Demo:
    """A running `up` and what it printed."""

    def __init__(self, directory: Path, *arguments: str):
        self.out = directory / "out.txt"
        self.err = directory / "err.txt"
        environment = {**os.environ, "ORGSTATS_CACHE": str(directory), "ORGSTATS_LISTEN": "127.0.0.1:0"}
        argv = [sys.executable, "-m", "orgstats.cli", "up", "--rate", "1", *arguments]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(argv, env=environment, stdout=out, stderr=err, process_group=0)

    def wait(self) -> int:
        """Until it has ended by itself; its exit status."""
        return self.process.wait(60)

    def ready(self) -> "Demo":
        """The same once it has said how to use it."""
        wait_for(lambda: "curl" in self.out.read_text() or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.err.read_text()
        return self

    @property
    def token(self) -> str:
        """The token it printed."""
        return str(re.findall(r"token +(\S+)", self.out.read_text())[0])

    def received(self) -> int:
        """The organization's events of the last day, asked for as the printed curl line does."""
        url = re.findall(r"'(http[^']*)'", self.out.read_text())[0]
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=20) as response:
            points: list[Any] = json.load(response)
        return sum(count for _, count in points)

    def children(self) -> dict[str, int]:
        """Process ids by what stands in the command line."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    found[(directory / "cmdline").read_text().replace("\0", " ")] = int(directory.name)
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Starts demos on one directory; what still runs at the end is killed."""
    started: list[Demo] = []

    def make(*arguments: str) -> Demo:
        started.append(Demo(tmp_path, *arguments))
        return started[-1]

    yield make
    for demo in started:
        demo.process.kill()
        demo.process.wait()


def test_up_answers_and_leaves_no_process(start: Callable[..., Demo], tmp_path: Path) -> None:
    """The printed curl line gives events; Ctrl-C ends with 0 and nothing runs on; a second start keeps the token."""
    demo = start().ready()
    assert demo.received() > 0
    children = demo.children()
    assert len(children) >= 5
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait() == 0
    assert all(gone(pid) for pid in children.values())
    for secret in ("token", "password"):
        assert stat.S_IMODE((tmp_path / "up" / secret).stat().st_mode) == 0o600
    again = start().ready()
    assert again.token == demo.token
    assert again.received() > 0


def test_a_part_that_dies_ends_all_and_is_named(start: Callable[..., Demo]) -> None:
    """The consumer is killed: the others end too, and the message says which and shows its log."""
    demo = start().ready()
    children = demo.children()
    (consumer,) = [pid for command, pid in children.items() if "consume" in command]
    os.kill(consumer, signal.SIGKILL)
    assert demo.wait() == 70
    assert "consumer has ended with -9" in demo.err.read_text()
    assert all(gone(pid) for pid in children.values())


def test_second_up_in_one_directory_is_refused(start: Callable[..., Demo]) -> None:
    """The second one is told that another is running; killing the first kills all of it."""
    demo = start().ready()
    out = demo.out.read_text()
    second = start()
    assert second.wait() == 78
    assert "another `orgstats up` is running" in second.err.read_text()
    assert "curl" in out
    children = demo.children()
    demo.process.kill()
    wait_for(lambda: all(gone(pid) for pid in children.values()), 20)


def test_an_address_that_is_taken_is_refused(tmp_path: Path) -> None:
    """An address that was asked for is not exchanged for another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {**os.environ, "ORGSTATS_CACHE": str(tmp_path), "ORGSTATS_LISTEN": address}
        argv = [sys.executable, "-m", "orgstats.cli", "up"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 78
    assert f"cannot listen on {address}" in done.stderr
