"""A real engine whose user is readonly once told so, as by a profile of its server's configuration."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orgstats.deploy.local import processes
from orgstats.schemas.migrate import migrate

LEVEL_NAME = "readonly"
"""A file of this name in the engine's directory holds 1 or 2, for connections from then on."""

_SERVER = f"""
import sys
from orgstats.deploy.local.chdb_server import __main__, engine

opened = engine.EngineConnection._open

def open_readonly(self):
    opened(self)
    level = self._engine.path / {LEVEL_NAME!r}
    if level.exists():
        self._run("SET readonly = " + level.read_text())

engine.EngineConnection._open = open_readonly
sys.exit(__main__.main())
"""


@contextmanager
def readonly_clickhouse(directory: Path, level: int) -> Iterator[str]:
    """The URL of a migrated database whose user is readonly=`level`, until the block ends."""
    command = [sys.executable, "-c", _SERVER, "--path", str(directory)]
    child = processes.start("chdb_server", command, log=directory.with_suffix(".log"))
    try:
        port = processes.wait_ready(child, child.first_json_line, seconds=30)["port"]
        url = f"clickhouse://default:@127.0.0.1:{port}/default"
        migrate(url, retention_days=0)
        (directory / LEVEL_NAME).write_text(str(level))
        yield url
    finally:
        child.kill()
