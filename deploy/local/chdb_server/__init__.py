"""ClickHouse without a server to install: chDB behind the native protocol, for laptops and tests only.

`start` runs it as a child process. It is not for production: one user, no TLS, no quotas, one machine.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Final
from urllib.parse import quote

from orgstats.errors import Unavailable

LOG_NAME: Final = "chdb_server.log"
READY_NAME: Final = "chdb_server.ready"


class Running:
    """A server in a child process, which ends when this process does."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, password: str) -> None:
        self._process = process
        self.port = port
        self.pid = process.pid
        self.url = f"clickhouse://default:{quote(password, safe='')}@127.0.0.1:{port}/default"

    def stop(self, wait_seconds: float = 60.0) -> int:
        """Lets running statements finish, ends the server, kills it after `wait_seconds`; its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(wait_seconds)
        except subprocess.TimeoutExpired:
            return self.kill()
        finally:
            self._close()

    def kill(self) -> int:
        """Ends the server at once; every insert it has acknowledged is on disk. Its exit code."""
        self._process.kill()
        self._close()
        return self._process.wait()

    def _close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()


def start(path: Path, *, password: str = "", port: int = 0, wait_seconds: float = 30) -> Running:
    """Starts a server on the directory `path` (made when missing) and waits until it answers.

    Port 0 picks a free one. Raises Unavailable with the end of the server's log when it does not come up.
    """
    path.mkdir(parents=True, exist_ok=True)
    ready = path / READY_NAME
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", __name__, "--path", str(path), "--port", str(port)]
    with (path / LOG_NAME).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # our own module
            [*command, "--ready-file", str(ready), "--stop-with-stdin"],
            stdin=subprocess.PIPE,  # its end, however this process dies, ends the server
            stdout=log,
            stderr=log,
            env={**os.environ, "ORGSTATS_CHDB_PASSWORD": password},
        )
    deadline = monotonic() + wait_seconds
    while not ready.exists():
        if process.poll() is not None or monotonic() > deadline:
            Running(process, port, password).kill()
            raise Unavailable(f"chDB did not start on {path}: {_last_line(path / LOG_NAME)}")
        sleep(0.02)
    return Running(process, json.loads(ready.read_text())["port"], password)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "its log is empty")
