"""A log that was cut back and has grown again is noticed, and its counts are made good, by the daemon itself."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from orgstats.deploy.local import apache_kafka
from tests.ops.conftest import orgstats_runner
from tests.support import oracle, stored
from tests.support.daemon import Daemon
from tests.support.oracle import CHUNK
from tests.support.servers import Kafka
from tests.support.wait import wait_for

pytestmark = pytest.mark.campaign  # each stops a broker of its own twice

LOST_ORG = 77
"""Only in records that vanish."""


class CutLog:
    """A topic of one partition whose directory can be put back to what it was."""

    def __init__(self, broker: apache_kafka.Running, directory: Path) -> None:
        self._broker = broker
        self._copy = directory / "copy"
        self.bootstrap_servers = broker.bootstrap_servers
        self.topic = Kafka("apache", broker.bootstrap_servers).create_topic(1)
        self._data = broker._directory / "data" / f"{self.topic}-0"

    def produce(self, records: int, org_id: int) -> None:
        """Events of one organization, and every hundredth record broken."""
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "linger.ms": 20, "log_level": 0})
        event = b'{"timestamp":"2020-03-22T00:0%d:00Z","org_id":%d,"project_id":1,"outcome":%d,"quantity":1}'
        for at in range(records):
            value = b"broken" if at % 100 == 7 else event % (at % 6, org_id, at % 3)
            producer.produce(self.topic, value, partition=0)
            if at % 10_000 == 0:
                producer.poll(0)
        assert producer.flush(60) == 0

    def keep(self) -> None:
        """Remember the log as it is."""
        self._broker.stop()
        shutil.copytree(self._data, self._copy)
        self._broker.restart()

    def cut_back(self) -> None:
        """What a broker does that is restored from an older disk."""
        self._broker.stop()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        self._broker.restart()


@pytest.fixture
def log(own_kafka: Callable[..., apache_kafka.Running], tmp_path: Path) -> CutLog:
    """On a broker of its own, to be stopped."""
    return CutLog(own_kafka(), tmp_path)


def counted(url: str, end: int) -> None:
    """Until everything below is counted."""
    wait_for(lambda: stored.progress(url) == {0: end}, 120, poll_seconds=0.2)


def made_good(log: CutLog, url: str, consumer: Daemon, vanished: tuple[int, int], end: int) -> None:
    """Every cell is as one pass over the log gives it, what vanished is listed, and it was told."""
    wait_for(lambda: stored.gaps(url) == [(0, *vanished)], 120, poll_seconds=0.2)
    counted(url, end)
    truth = oracle.count(oracle.read(log.bootstrap_servers, log.topic))
    wait_for(lambda: stored.differences(url, truth) == {}, 30, poll_seconds=0.5)
    assert LOST_ORG not in {cell.org_id for cell in stored.counts(url)}
    assert "the log was cut back" in consumer.child.log.read_text()
    assert consumer.child.stop(grace_seconds=60) == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("others", [160, 30])
def test_what_a_torn_flush_stored_of_vanished_records_is_taken_back(
    log: CutLog, tmp_path: Path, clickhouse_url: str, others: int
) -> None:
    """The log is cut back to where the last whole flush ended, so that all that progress tells of is still there."""
    kept, tail = 940, 60
    log.produce(kept, org_id=1)
    consumer = Daemon("consumer", tmp_path, log.bootstrap_servers, log.topic, clickhouse_url)
    try:
        counted(clickhouse_url, kept)
        assert consumer.child.stop(grace_seconds=60) == 0
        log.keep()
        log.produce(tail, org_id=LOST_ORG)
        while LOST_ORG not in {cell.org_id for cell in stored.counts(clickhouse_url)}:
            killed = consumer.start(
                ORGSTATS_FAILPOINTS="answer_lost=kill@4"
            )  # flushes, chunk_days, dead_letters, counts
            wait_for(lambda child=killed: not child.running, 120)  # type: ignore[misc]
        assert stored.progress(clickhouse_url) == {0: kept}
        log.cut_back()
        log.produce(others, org_id=2)
        consumer.start()
        counted(clickhouse_url, kept + others)
        truth = oracle.count(oracle.read(log.bootstrap_servers, log.topic))
        wait_for(lambda: stored.differences(clickhouse_url, truth) == {}, 30, poll_seconds=0.5)
        assert LOST_ORG not in {cell.org_id for cell in stored.counts(clickhouse_url)}
        assert consumer.child.stop(grace_seconds=60) == 0
    finally:
        consumer.child.kill()


def of_equal_counts(log: CutLog, records: int, second: int, spaces: int = 0) -> None:
    """Events of one second that count alike, whatever the number of spaces in each."""
    producer = Producer({"bootstrap.servers": log.bootstrap_servers, "linger.ms": 20, "log_level": 0})
    event = b'{"timestamp":%d,%s"org_id":1,"outcome":0}' % (second, b" " * spaces)
    for at in range(records):
        producer.produce(log.topic, event, partition=0, timestamp=second * 1000)
        if at % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


@pytest.mark.timeout(600)
def test_other_records_that_count_alike_are_told_and_taken_up(log: CutLog, tmp_path: Path, clickhouse_url: str) -> None:
    """A recount tells chunks of another log though no cell differs; a repair or the consumers take up the new one."""
    kept, end, second = CHUNK * 3 // 4, CHUNK + 2_000, int(time.time())
    of_equal_counts(log, kept, second)
    log.keep()
    of_equal_counts(log, end - kept, second)
    consumer = Daemon("consumer", tmp_path, log.bootstrap_servers, log.topic, clickhouse_url)
    run = orgstats_runner(log.bootstrap_servers, log.topic, f"group-{log.topic}", clickhouse_url)

    def told() -> list[tuple[int, str]]:
        found = json.loads(run("audit", "--recount", "--json").stdout)
        return [(one["chunk"], d["table"]) for one in found for d in one["differences"]]

    try:
        counted(clickhouse_url, end)
        assert consumer.child.stop(grace_seconds=60) == 0
        assert told() == []
        log.cut_back()
        of_equal_counts(log, end - kept, second, spaces=1)
        assert told() == [(0, "chunks"), (CHUNK, "progress")]
        assert "Restart the consumers" in run("audit", "--recount").stderr
        done = run("replay", "apply")
        assert (done.returncode, "other records than those that were counted" in done.stderr) == (1, True)
        assert run("replay", "apply", "--repair").returncode == 0
        assert told() == [(CHUNK, "progress")]
        consumer.start()
        wait_for(lambda: stored.gaps(clickhouse_url) == [(0, CHUNK, end)], 120, poll_seconds=0.2)
        counted(clickhouse_url, end)
        assert told() == []
        assert consumer.child.stop(grace_seconds=60) == 0
    finally:
        consumer.child.kill()
    assert stored.differences(clickhouse_url, oracle.count(oracle.read(log.bootstrap_servers, log.topic))) == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kept", "tail", "others", "frozen"),
    [
        (940, 60, 160, False),
        (940, 60, 160, True),
        (940, 60, 0, False),
        (CHUNK - 3_000, CHUNK - 3_000, CHUNK, False),
        (CHUNK - 3_000, CHUNK - 3_000, 1_000, False),  # the last chunk is gone for good
        (CHUNK - 3_000, 3_000, 6_000, False),  # nothing is read again that could tell: the broker is asked
    ],
)
def test_a_log_cut_back_and_grown_again_is_made_good(
    log: CutLog, tmp_path: Path, clickhouse_url: str, kept: int, tail: int, others: int, frozen: bool
) -> None:
    """Started anew or frozen meanwhile, and whether the log is longer or shorter than it was."""
    log.produce(kept, org_id=1)
    log.keep()
    log.produce(tail, org_id=LOST_ORG)
    consumer = Daemon("consumer", tmp_path, log.bootstrap_servers, log.topic, clickhouse_url)
    try:
        counted(clickhouse_url, kept + tail)
        if frozen:
            consumer.child._signal(signal.SIGSTOP)
        else:
            assert consumer.child.stop(grace_seconds=60) == 0
        log.cut_back()
        log.produce(others, org_id=2)
        if frozen:
            consumer.child._signal(signal.SIGCONT)
        else:
            consumer.start()
        made_good(log, clickhouse_url, consumer, (kept, kept + tail), kept + others)
    finally:
        consumer.child.kill()
