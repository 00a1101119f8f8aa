"""Two shards and a server in front of them, each chDB: all of a cluster but its replicas.

chDB can neither replicate nor run ON CLUSTER, so each server gets the tables of the cluster form by itself, made
without the replication. What is split, how it is inserted and how it is read is as it is on a cluster.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from orgstats.clickhouse.cluster import Cluster, spread
from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import chdb_server
from orgstats.schemas.migrate import load, render

NAME: Final = "counters"
PASSWORD: Final = "test"


class Shards:
    """The shards, each of which can be stopped and started again, and the URL of the server in front."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers = [chdb_server.start(directory / f"shard{n}", password=PASSWORD) for n in range(2)]
        self.ports = [server.port for server in self.servers]
        self.front = front(directory / "front", self.ports)
        self.url = self.front.url
        for number, server in enumerate([*self.servers, self.front]):
            _make_tables(server.url, len(self.servers), shown=number == len(self.servers))

    def restart(self, shard: int) -> None:
        """Start a shard again that was killed."""
        self.servers[shard] = chdb_server.start(
            self.directory / f"shard{shard}", password=PASSWORD, port=self.ports[shard]
        )


def front(directory: Path, ports: Sequence[int]) -> chdb_server.Running:
    """A server that knows servers on these ports as the shards of the cluster."""
    directory.mkdir(parents=True, exist_ok=True)
    shards = "".join(
        f"<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>{port}</port>"
        f"<user>default</user><password>{escape(PASSWORD)}</password></replica></shard>"
        for port in ports
    )
    (directory / "config.xml").write_text(
        f"<clickhouse><remote_servers><{NAME}>{shards}</{NAME}></remote_servers>"
        "<macros><shard>0</shard><replica>a</replica></macros></clickhouse>"
    )
    return chdb_server.start(directory, password=PASSWORD)


@contextmanager
def running(directory: Path) -> Iterator[Shards]:
    """The shards and the server in front of them until the block ends."""
    shards = Shards(directory)
    try:
        yield shards
    finally:
        for server in (*shards.servers, shards.front):
            server.kill()


def _make_tables(url: str, shards: int, *, shown: bool) -> None:
    with connect(url, client_name="tests") as client:
        for migration in load():
            for statement in migration.statements:
                for one in spread(render(statement), Cluster(NAME, "default", shards)):
                    if shown or "ENGINE = Distributed" not in one:
                        client.execute(_unreplicated(one))


def _unreplicated(statement: str) -> str:
    alone = re.sub(r" ON CLUSTER '\w+'| SYNC$", "", statement)
    return re.sub(r"ReplicatedReplacingMergeTree\('[^']*', '[^']*'(?:, )?", "ReplacingMergeTree(", alone)
