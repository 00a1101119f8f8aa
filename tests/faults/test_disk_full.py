"""ClickHouse's disk is full while consumers count: nothing is lost, and with room again everything is counted."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orgstats.deploy.local import chdb_server
from orgstats.schemas.migrate import migrate
from tests.faults.ledger import Ledger, differences
from tests.faults.traffic import Traffic
from tests.support import stored
from tests.support.daemon import Daemon
from tests.support.servers import Kafka
from tests.support.wait import wait_for

PARTITIONS = 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a small file system: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """The file that takes what is left."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return path


def test_a_full_disk_is_waited_out(real_kafka: Kafka, small_disk: Path, tmp_path: Path) -> None:
    """Inserts fail halfway or at once; the consumer tells so, keeps what it has and stores it with room again."""
    topic = real_kafka.create_topic(PARTITIONS)
    ledger = Ledger(real_kafka.bootstrap_servers, topic, PARTITIONS)
    traffic = Traffic(real_kafka.bootstrap_servers, topic, PARTITIONS, seed=1)
    directory = small_disk / "clickhouse"
    directory.mkdir()
    (directory / chdb_server.LOG_NAME).symlink_to(tmp_path / "server.log")  # or it is the log that cannot be written
    server = chdb_server.start(directory, password="test")
    migrate(server.url, retention_days=0)
    daemon = Daemon("consumer", tmp_path, real_kafka.bootstrap_servers, topic, server.url)

    def is_counted() -> bool:
        ledger.catch_up()
        return not differences(server.url, [ledger.truth(stored.gaps(server.url))])

    try:
        traffic.produce(20_000)
        wait_for(is_counted, 60, poll_seconds=0.5)
        before = stored.progress(server.url)
        filler = fill(small_disk)
        traffic.produce(20_000)
        wait_for(lambda: "not stored, trying again" in daemon.child.log.read_text(), 60)
        assert stored.progress(server.url) == before
        traffic.produce(5_000)
        filler.unlink()
        wait_for(is_counted, 120, poll_seconds=0.5)
        assert daemon.child.stop(grace_seconds=30) == 0
    finally:
        daemon.child.kill()
        server.kill()
