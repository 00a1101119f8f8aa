"""ClickHouse's disk is full while consumers count, again and again: nothing is lost, nothing is confirmed too early."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from orgstats.deploy.local import chdb_server
from tests.faults.plan import RECORDS_PER_SECOND, Plan
from tests.faults.proxy import Proxy
from tests.faults.round import Round, Site, Unequal
from tests.support.wait import wait_for

SIZE: Final = 256 << 20
WAIT_SECONDS: Final = 180.0
REFUSED: Final = "not stored, trying again"
FULL_SECONDS: Final = (1.0, 5.0, 15.0)
"""How long a disk stays full after the first insert was refused."""


def missing(directory: Path) -> str:
    """What it takes to mount a small file system and is not here; nothing when it can."""
    try:
        with _small_disk(directory / "disk"):
            return ""
    except PermissionError as error:
        return str(error)


@contextmanager
def _small_disk(disk: Path) -> Iterator[Path]:
    """An ext4 in a file, which is kept after a failure. Raises PermissionError where mounting is not allowed."""
    image = disk.with_suffix(".ext4")
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    for command in (["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(disk)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            disk.rmdir()
            image.unlink()
            raise PermissionError(f"needs the right to mount a small file system: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        disk.rmdir()
    image.unlink()


def disk_full(plan: Plan, seconds: float) -> None:
    """The plan goes on at a ClickHouse of its own, whose data is on a small disk."""
    with _small_disk(plan.site.directory / f"disk-{plan.seed}") as disk:
        data = disk / "clickhouse"
        data.mkdir()
        # Its log is elsewhere, or it is the log that cannot be written.
        (data / chdb_server.LOG_NAME).symlink_to(plan.site.directory / f"disk-{plan.seed}.log")
        server = chdb_server.start(data, password="test")
        proxy = Proxy(server.url, plan.seed)
        try:
            site = Site(plan.site.bootstrap_servers, server.url, proxy, plan.site.directory)
            Plan(site, plan.broker, plan.seed, plan.done).play(lambda one: _fill_and_empty(one, disk, seconds))
        finally:
            proxy.close()
            server.kill()


def _fill_and_empty(one: Round, disk: Path, seconds: float) -> None:
    """Some are killed or stopped while it is full, with what nobody could store; every cell is compared each time."""
    one.traffic.produce(2_000)
    for name in ("a", "b"):
        one.start(name)
    one.drain(WAIT_SECONDS)
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until or turns < 3:
        turns += 1
        one.traffic.start(RECORDS_PER_SECOND)
        _count_on(one)
        refusals = _refusals(one)
        filler = disk / "filler"
        _fill(filler)
        try:
            _wait_for_refusals(one, filler, refusals)
            _stay_full(one, filler, one.chance.choice(FULL_SECONDS))
            if one.chance.random() < 0.5:
                killed = one.chance.choice(one.members)
                one.kill(killed)
                one.start(killed.daemon.name.rsplit("-", 1)[0])
                one.done["killed while the disk was full"] += 1
        finally:
            filler.unlink()
        one.done["disks filled"] += 1
        if one.chance.random() < 0.5:
            _count_on(one)
        one.traffic.stop()
        one.drain(WAIT_SECONDS)
        one.compare()


def _count_on(one: Round) -> None:
    target = sum(one.progress().values()) + RECORDS_PER_SECOND

    def counted() -> bool:
        one.tend(str)
        return sum(one.progress().values()) > target

    wait_for(counted, WAIT_SECONDS, poll_seconds=0.1)


def _wait_for_refusals(one: Round, filler: Path, before: int) -> None:
    def refused() -> bool:
        _fill(filler)
        return _refusals(one) > before

    wait_for(refused, WAIT_SECONDS, poll_seconds=0.1)


def _fill(filler: Path) -> None:
    """The file takes what is left, also what merges have given back since."""
    with filler.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            return


def _refusals(one: Round) -> int:
    return sum(log.read_text().count(REFUSED) for log in (one.site.directory / one.topic).glob("*.log"))


def _stay_full(one: Round, filler: Path, seconds: float) -> None:
    """Nobody ends, and no commit is ahead of what ClickHouse holds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        one.tend(str)
        _fill(filler)
        committed = _committed(one)
        stored = one.progress("next_offset")
        if ahead := {p: (at, stored.get(p)) for p, at in committed.items() if at > stored.get(p, 0)}:
            raise Unequal(f"database {one.database}: partition: (committed, stored) {ahead}")
        one.done["looks at commits while the disk was full"] += 1


def _committed(one: Round) -> dict[int, int]:
    group = f"group-{one.topic}"
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(one.topic, p) for p in range(one.partitions)])
    answer = one.admin.list_consumer_group_offsets([asked])[group].result(30)
    return {tp.partition: tp.offset for tp in answer.topic_partitions if tp.offset >= 0}
