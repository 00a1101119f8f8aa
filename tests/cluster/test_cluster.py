"""The guarantee on a cluster: whatever part of it is killed while consumers count, every cell is right in the end.

`make test-cluster` runs it on deploy/cluster, which needs Docker. Everywhere else it runs on two chDB shards, which
have no replicas and no Keeper: so there it proves itself, and that a shard may go and come back.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orgstats.clickhouse.cluster import Cluster, look_up
from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import apache_kafka, chdb_server
from tests.cluster import clusters
from tests.faults.ledger import Ledger
from tests.faults.traffic import Traffic
from tests.support import stored
from tests.support.daemon import Daemon
from tests.support.servers import Kafka, docker_answers
from tests.support.wait import wait_for

IN_CONTAINERS = os.environ.get("ORGSTATS_TEST_CLUSTER") == "docker"
TRIED_AGAIN = "not stored, trying again"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[clusters.Cluster]:
    """The cluster of this run."""
    if IN_CONTAINERS:
        assert docker_answers(), "make test-cluster needs a Docker engine"
        with clusters.containers() as running:
            yield running
    else:
        with clusters.chdb_shards(tmp_path) as running_shards:
            yield running_shards


@pytest.fixture
def broker(cluster: clusters.Cluster, request: pytest.FixtureRequest) -> Kafka:
    """That of the cluster, or the run's."""
    if cluster.bootstrap_servers:
        return Kafka("docker", cluster.bootstrap_servers)
    kafka: Kafka = request.getfixturevalue("real_kafka")
    return kafka


class Counting:
    """Two consumers of a topic that is being filled."""

    def __init__(self, cluster: clusters.Cluster, kafka: Kafka, directory: Path) -> None:
        self.cluster = cluster
        self.topic = kafka.create_topic(4)
        self.ledger = Ledger(kafka.bootstrap_servers, self.topic, 4)
        self.traffic = Traffic(kafka.bootstrap_servers, self.topic, 4, seed=1)
        self.consumers = [
            Daemon(f"consumer-{at}", directory, kafka.bootstrap_servers, self.topic, url, **cluster.env)
            for at, url in enumerate(cluster.urls)
        ]

    @property
    def counted(self) -> int:
        """Offsets so far, as the first server that answers has it."""
        for url in self.cluster.urls:
            try:
                return sum(stored.progress(url).values())
            except Exception:  # noqa: BLE001 - it is down, as it may be: the other one knows
                continue
        return 0

    @property
    def tries(self) -> int:
        """How often a flush did not get through."""
        return sum(one.child.log.read_text().count(TRIED_AGAIN) for one in self.consumers)

    def goes_on(self) -> None:
        """Wait until more is counted than now."""
        before = self.counted
        wait_for(lambda: self.counted > before, 180, poll_seconds=0.2)

    def suffer(self, fault: clusters.Fault) -> None:
        """Kill what the fault names, see what that does, and bring it back."""
        tries = self.tries
        for server in fault.servers:
            self.cluster.kill(server)
        if fault.goes_on:
            self.goes_on()
        else:
            wait_for(lambda: self.tries > tries, 180, poll_seconds=0.2)
        for server in fault.servers:
            self.cluster.start(server)
        self.goes_on()

    def finish(self) -> None:
        """Until all that is in the log is counted; each consumer leaves in order."""
        self.traffic.stop()
        self.ledger.catch_up()
        wait_for(lambda: self.counted == sum(self.ledger.ends.values()), 300, poll_seconds=0.5)
        for one in self.consumers:
            assert one.child.stop(grace_seconds=30) == 0


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_every_cell_is_right_whatever_is_killed(cluster: clusters.Cluster, broker: Kafka, tmp_path: Path) -> None:
    """Replicas, Keepers, a majority, a whole shard, the server that a consumer is connected to."""
    counting = Counting(cluster, broker, tmp_path)
    try:
        counting.traffic.start(500)
        counting.goes_on()
        for fault in cluster.faults:
            counting.suffer(fault)
        counting.finish()
        truth = counting.ledger.truth()
        assert len(truth.events) > 100
        assert cluster.differences(truth) == {}
    finally:
        counting.traffic.stop()
        for one in counting.consumers:
            one.child.kill()


def test_the_compose_file_has_what_the_test_kills() -> None:
    """Servers, Keepers and ports are those that the test names, and the configurations name the same."""
    compose = yaml.safe_load(clusters.COMPOSE.read_text(encoding="utf-8"))
    services = compose["services"]
    assert {name for name in services if name.startswith("clickhouse")} == set(clusters.SERVERS)
    assert {server for fault in clusters.Containers.faults for server in fault.servers} <= set(services)
    published = {port.rpartition(":")[0] for one in services.values() for port in one.get("ports", ())}
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert {url.partition("@")[2].partition("/")[0] for url in clusters.Containers.urls} <= published
    assert clusters.Containers.bootstrap_servers in published
    clickhouse = (clusters.COMPOSE.parent / "clickhouse.xml").read_text(encoding="utf-8")
    assert all(f"<host>{name}</host>" in clickhouse for name in (*clusters.SERVERS, "keeper-1", "keeper-2", "keeper-3"))
    for name in clusters.SERVERS:
        _, shard, replica = name.split("-")
        environment = services[name]["environment"]
        assert (environment["SHARD"], environment["REPLICA"]) == (int(shard), int(replica))
    assert services["kafka"]["image"] == f"apache/kafka:{apache_kafka.VERSION}"


def test_the_engine_reads_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster and its macros are as `orgstats migrate` wants them."""
    (tmp_path / "config.xml").write_bytes((clusters.COMPOSE.parent / "clickhouse.xml").read_bytes())
    environment = yaml.safe_load(clusters.COMPOSE.read_text(encoding="utf-8"))["services"]["clickhouse-2-3"][
        "environment"
    ]
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    server = chdb_server.start(tmp_path)
    try:
        with connect(server.url, client_name="tests") as client:
            assert look_up(client, "counters", "orgstats") == Cluster("counters", "orgstats", 2)
            replicas = client.execute("SELECT shard_num, replica_num, host_name FROM system.clusters ORDER BY ALL")
            assert [f"clickhouse-{shard}-{replica}" for shard, replica, _ in replicas] == clusters.SERVERS
            assert [host for *_, host in replicas] == clusters.SERVERS
            assert dict(client.execute("SELECT macro, substitution FROM system.macros")) == {
                "shard": "2",
                "replica": "3",
            }
    finally:
        server.kill()
