"""The `orgstats` command in this process, where what is tested is what it does and not that it is a process.

A process of its own imports for most of a second what is imported here already.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

import structlog
from clickhouse_driver import Client

from orgstats import cli


def run_here(words: tuple[str, ...], env: Mapping[str, str]) -> "CompletedProcess[str]":
    """What the command prints and how it ends; `env` goes over this process's own."""
    argv, out, err, code = ["orgstats", *words], StringIO(), StringIO(), 0
    with (
        patch.dict(os.environ, env),
        patch.object(sys, "argv", argv),
        redirect_stdout(out),
        redirect_stderr(err),
        _ended_like_a_process(),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return CompletedProcess(argv, code, out.getvalue(), err.getvalue())


@contextmanager
def _ended_like_a_process() -> Iterator[None]:
    """Connections are closed, and logs go where they went before."""
    logs, clients, opened = structlog.get_config(), list[Client](), Client.__init__

    def remember(client: Client, *values: Any, **named: Any) -> None:
        clients.append(client)
        opened(client, *values, **named)

    with patch.object(Client, "__init__", remember):
        try:
            yield
        finally:
            structlog.configure(**logs)
            for client in clients:
                client.disconnect()
