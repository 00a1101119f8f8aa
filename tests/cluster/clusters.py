"""The clusters that the same test runs on: the containers of deploy/cluster, or two chDB shards on this machine."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from orgstats.clickhouse.connect import connect
from orgstats.schemas.migrate import Servers, migrate
from tests.faults.ledger import differences
from tests.support import shards, stored
from tests.support.oracle import Truth
from tests.support.servers import answers
from tests.support.wait import wait_for

COMPOSE: Final = Path(__file__).parents[2] / "deploy" / "cluster" / "compose.yaml"
SERVERS: Final = [f"clickhouse-{shard}-{replica}" for shard in (1, 2) for replica in (1, 2, 3)]
_NO_REPLICAS: Final = """
import orgstats.clickhouse.cluster as cluster

cluster.waits = lambda tables: []
"""


class Fault(NamedTuple):
    """Servers that are killed together; `goes_on` when counting must not even pause for good."""

    servers: Sequence[str]
    goes_on: bool


class Cluster(Protocol):
    """A cluster with the tables of this version, and the URLs that consumers are given in turn.

    `bootstrap_servers` are of a Kafka of its own, if it has one.
    """

    @property
    def bootstrap_servers(self) -> str: ...
    @property
    def urls(self) -> Sequence[str]: ...
    @property
    def env(self) -> dict[str, str]: ...
    @property
    def faults(self) -> Sequence[Fault]: ...

    def kill(self, server: str) -> None: ...
    def start(self, server: str) -> None: ...
    def differences(self, truth: Truth) -> object: ...


class Containers:
    """deploy/cluster: two shards of three replicas, three Keepers. The first server of each shard takes consumers."""

    env: Final[dict[str, str]] = {}
    bootstrap_servers: Final = "127.0.0.1:19092"
    urls: Final = tuple(f"clickhouse://default:@127.0.0.1:19{shard}10/orgstats" for shard in (1, 2))
    faults: Final = (
        Fault(["clickhouse-1-2"], goes_on=True),
        Fault(["clickhouse-2-3", "keeper-2"], goes_on=True),
        Fault(["keeper-1"], goes_on=True),
        Fault(["clickhouse-2-2", "clickhouse-2-3"], goes_on=False),
        Fault(["keeper-1", "keeper-3"], goes_on=False),
        Fault(["clickhouse-2-1", "clickhouse-2-2", "clickhouse-2-3"], goes_on=False),
        Fault(["clickhouse-1-1"], goes_on=False),
    )

    def __init__(self) -> None:
        self._compose("up", "--wait", "--detach")
        for url in self.urls:
            wait_for(lambda url=url: answers(url.replace("/orgstats", "/default")), 120, poll_seconds=0.5)  # type: ignore[misc]
        migrate(self.urls[0], retention_days=0, servers=Servers("counters"))

    def kill(self, server: str) -> None:
        """As a machine that is gone."""
        self._compose("kill", "--signal", "SIGKILL", server)

    def start(self, server: str) -> None:
        """With the disk it had."""
        self._compose("start", server)

    def differences(self, truth: Truth) -> object:
        """What either of the servers shows; replicas that are behind are waited for."""
        for url in self.urls:
            wait_for(lambda url=url: not differences(url, [truth]), 120, poll_seconds=1)  # type: ignore[misc]
        return {url: wrong for url in self.urls if (wrong := differences(url, [truth]))}

    def close(self) -> None:
        """All of it goes, with its data."""
        self._compose("down", "--volumes")

    @staticmethod
    def _compose(*words: str) -> None:
        subprocess.run(["docker", "compose", "-f", str(COMPOSE), *words], check=True, timeout=600)


class Shards:
    """Two chDB shards behind a third server. There are no replicas to wait for, and no part of an aggregation is
    answered for others: so each shard is asked for its own cells, of which no organization's are on both.
    """

    bootstrap_servers: Final = ""
    faults: Final = (Fault(["0"], goes_on=False), Fault(["1"], goes_on=False), Fault(["0", "1"], goes_on=False))

    def __init__(self, running: shards.Shards, directory: Path) -> None:
        self._running = running
        self.urls = (running.url, running.url)
        (directory / "sitecustomize.py").write_text(_NO_REPLICAS)
        self.env = {"PYTHONPATH": str(directory)}

    def kill(self, server: str) -> None:
        """By SIGKILL."""
        self._running.servers[int(server)].kill()

    def start(self, server: str) -> None:
        """On the same port and disk."""
        self._running.restart(int(server))

    def differences(self, truth: Truth) -> object:
        """Of all cells that the shards have together, and the dead letters."""
        urls = [self._whole(server.url) for server in self._running.servers]
        found = {}
        for name, read, wanted in (
            ("counts", stored.counts, truth.counts()),
            ("hourly", stored.hourly, truth.hourly()),
            ("totals", stored.totals, truth.totals()),
        ):
            parts = [read(url) for url in urls]
            assert not set(parts[0]) & set(parts[1]), f"{name}: a cell is on both shards"
            if wrong := stored.differing({**parts[0], **parts[1]}, wanted):
                found[name] = wrong
        dead = sorted(letter for url in urls for letter in stored.dead_letters(url))
        return found if dead == sorted(truth.dead_letters) else {**found, "dead_letters": dead}

    @staticmethod
    def _whole(url: str) -> str:
        """A database of a shard that shows its own part of each split table under the table's name."""
        with connect(url, client_name="tests") as client:
            client.execute("CREATE DATABASE IF NOT EXISTS own")
            for table in ("counts", "hourly", "totals", "dead_letters"):
                shown = f"AS {table}_local ENGINE = Merge('default', '^{table}_local$')"
                client.execute(f"CREATE TABLE IF NOT EXISTS own.{table} {shown}")
        return urlsplit(url)._replace(path="/own").geturl()


@contextmanager
def containers() -> Iterator[Containers]:
    """The containers until the block ends."""
    running = Containers()
    try:
        yield running
    finally:
        running.close()


@contextmanager
def chdb_shards(directory: Path) -> Iterator[Shards]:
    """The shards until the block ends."""
    with shards.running(directory / "shards") as running:
        yield Shards(running, directory)
