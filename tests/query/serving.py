"""The real server as a child process, over any ClickHouse."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orgstats.deploy.local import processes


@dataclass(frozen=True)
class Api:
    """A running `orgstats serve`."""

    url: str
    child: processes.Child


@contextmanager
def running_api(clickhouse_url: str, directory: Path, **env: str) -> Iterator[Api]:
    """`orgstats serve` on a free port until the block ends; `env` are settings without their prefix."""
    settings = {
        "CLICKHOUSE_URL": clickhouse_url,
        "LISTEN": "127.0.0.1:0",
        "DRAIN_SECONDS": "0",
        "RATE_LIMIT": "0",
        **env,
    }
    child = processes.start(
        "serve",
        [str(Path(sys.executable).with_name("orgstats")), "serve"],
        log=directory / "serve.log",
        env={**os.environ, **{f"ORGSTATS_{name}": value for name, value in settings.items()}},
    )
    try:
        line = processes.wait_ready(child, child.first_json_line, seconds=30)
        yield Api(f"http://{line['listen']}", child)
    finally:
        child.kill()
