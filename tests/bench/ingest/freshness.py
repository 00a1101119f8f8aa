"""How soon a produced record can be seen in the counts, and how soon again after a consumer was killed."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

from clickhouse_driver import Client

from orgstats.clickhouse.connect import connect
from orgstats.consumer.kafka.properties import READ_COMMITTED
from orgstats.consumer.kafka.topics import Topics
from orgstats.deploy.local import processes
from tests.bench.ingest.stage import Stage
from tests.support.wait import wait_for

RATE: Final = 50_000
SECONDS: Final = 30
KILLED_RATE: Final = 10_000
PARTITIONS: Final = 64
SESSION_SECONDS: Final = 30
FRESH_SECONDS: Final = 2.0

Ends = Mapping[int, int]
"""Next offset by partition."""


@dataclass(frozen=True)
class Fresh:
    """Seconds from produce to visible at `rate` records a second, and from SIGKILL until all was fresh again."""

    rate: float
    visible_p50: float
    visible_p99: float
    recovered: float

    def recovered_text(self) -> str:
        """With what it is held against."""
        return f"{self.recovered:.1f} s (session timeout {SESSION_SECONDS} s)"


def measure(stage: Stage) -> Fresh:
    """Both, one after the other, each on a topic of its own."""
    seen = _visible(stage)
    cuts = quantiles(seen, n=100)
    return Fresh(RATE, cuts[49], cuts[98], _recovered(stage))


def _visible(stage: Stage) -> list[float]:
    """For ends of the log looked at ten times a second, the seconds until progress had passed them."""
    topic = stage.topic(1_000)
    url = stage.database()
    daemon = stage.daemon(topic, url, "fresh")
    ends: list[tuple[float, Ends]] = []
    reached: list[tuple[float, Ends]] = []
    try:
        with _traffic(stage, topic, RATE), connect(url, client_name="bench") as client:
            wait_for(lambda: _stored(client, topic), 60)
            topics = Topics({"bootstrap.servers": stage.broker.bootstrap_servers})
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                asked = time.monotonic()
                ends.append((asked, _ends(topics, topic, 4)))
                for _ in range(4):
                    reached.append((time.monotonic(), _stored(client, topic)))
                    time.sleep(0.02)
    finally:
        daemon.child.stop(30)
    seen = []
    for asked, end in ends:
        at = next((at for at, stored in reached if at >= asked and _covers(stored, end)), None)
        if at is not None:
            seen.append(at - asked)
    return seen


def _recovered(stage: Stage) -> float:
    """Seconds from the SIGKILL of one of two consumers until no partition was more than two seconds behind."""
    topic = stage.topic(1_000, partitions=PARTITIONS)
    url = stage.database()
    session = {"ORGSTATS_KAFKA__SESSION_TIMEOUT_MS": str(SESSION_SECONDS * 1000)}
    daemons = [stage.daemon(topic, url, f"killed-{n}", session) for n in range(2)]
    topics = Topics({"bootstrap.servers": stage.broker.bootstrap_servers})
    try:
        with _traffic(stage, topic, KILLED_RATE), connect(url, client_name="bench") as client:
            wait_for(lambda: all(d.metric("orgstats_assigned_partitions") == PARTITIONS / 2 for d in daemons), 120)
            wait_for(lambda: _is_fresh(client, topics, topic), 60)
            daemons[0].child.kill()
            killed = time.monotonic()
            wait_for(lambda: not _is_fresh(client, topics, topic), SESSION_SECONDS)
            wait_for(lambda: _is_fresh(client, topics, topic), 4 * SESSION_SECONDS)
            return time.monotonic() - killed
    finally:
        for daemon in daemons:
            daemon.child.stop(30)


def _is_fresh(client: Client, topics: Topics, topic: str) -> bool:
    """Whether what was produced until now is stored within two seconds."""
    end, deadline = _ends(topics, topic, PARTITIONS), time.monotonic() + FRESH_SECONDS
    while not _covers(_stored(client, topic), end):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _covers(stored: Ends, ends: Ends) -> bool:
    return all(stored.get(partition, 0) >= end for partition, end in ends.items())


def _ends(topics: Topics, topic: str, partitions: int) -> Ends:
    found = topics.ends([(topic, partition) for partition in range(partitions)], READ_COMMITTED)
    return {partition: end for (_, partition), end in found.items()}


def _stored(client: Client, topic: str) -> Ends:
    rows = client.execute(
        "SELECT s.partition, p.next_offset FROM progress AS p FINAL INNER JOIN sources AS s FINAL "
        "ON s.source_id = p.source_id WHERE s.topic = %(topic)s",
        {"topic": topic},
    )
    return dict(rows)


@contextmanager
def _traffic(stage: Stage, topic: str, rate: int) -> Iterator[None]:
    """`orgstats generate` at a rate until the block ends."""
    command = [str(Path(sys.executable).with_name("orgstats")), "generate", "--rate", str(rate), "--broken", "0"]
    servers = ["--bootstrap-servers", stage.broker.bootstrap_servers, "--topic", topic]
    child = processes.start("generate", [*command, *servers], log=stage.directory / "generate.log", env=os.environ)
    try:
        yield
    finally:
        child.stop()
