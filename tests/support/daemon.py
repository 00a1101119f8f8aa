"""The real daemon as a child process, to be stopped, killed and started again by tests."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from orgstats.deploy.local import processes


class Daemon:
    """`orgstats consume` with its settings; each start is a process of its own, with a log of its own."""

    def __init__(
        self, name: str, directory: Path, bootstrap_servers: str, topic: str, clickhouse_url: str, **env: str
    ) -> None:
        self.name = name
        self._directory = directory
        self._starts = 0
        self._env: Mapping[str, str] = {
            "ORGSTATS_BOOTSTRAP_SERVERS": bootstrap_servers,
            "ORGSTATS_TOPIC": topic,
            "ORGSTATS_GROUP": f"group-{topic}",
            "ORGSTATS_CLICKHOUSE_URL": clickhouse_url,
            "ORGSTATS_HOURLY_SECONDS": "2",
            **({} if "ORGSTATS_KAFKA__GROUP_PROTOCOL" in env else {"ORGSTATS_KAFKA__SESSION_TIMEOUT_MS": "6000"}),
            **env,
        }
        self.child = self.start()

    def start(self, **env: str) -> processes.Child:
        """Start it, again; what ran before must have ended."""
        self._starts += 1
        self.child = processes.start(
            self.name,
            [str(Path(sys.executable).with_name("orgstats")), "consume"],
            log=self._directory / f"{self.name}-{self._starts}.log",
            env={**os.environ, **self._env, **env},
        )
        return self.child
