"""Logs that are cut back and grow again, over and over, under consumers that run, stand still or are killed."""

import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from orgstats.deploy.local.apache_kafka import Running
from tests.faults.ledger import Gap, Ledger, differences
from tests.faults.round import Member, Round, Unequal
from tests.faults.traffic import Traffic
from tests.support import stored
from tests.support.wait import wait_for

WAIT_SECONDS: Final = 180.0
SESSION: Final = {"ORGSTATS_KAFKA__SESSION_TIMEOUT_MS": "20000", "ORGSTATS_KAFKA__HEARTBEAT_INTERVAL_MS": "1000"}


class Disk:
    """A broker's logs of a topic, of which any can be put back to what it was when the broker last stood still."""

    def __init__(self, broker: Running, topic: str, directory: Path) -> None:
        self._broker = broker
        self._topic = topic
        self._data = broker._directory / "data"
        self._copies = directory / f"{topic}-copies"
        self._kept: dict[int, int] = {}
        """Where each log ended when it was copied."""

    def turn(self, ends: dict[int, int], cut: list[int]) -> list[Gap]:
        """Stop the broker, put back the logs that are to be cut, copy all, and start it; what has vanished."""
        self._broker.stop()
        vanished = []
        for partition, end in ends.items():
            log, copy = self._data / f"{self._topic}-{partition}", self._copies / str(partition)
            if partition in cut and copy.exists():
                shutil.rmtree(log)
                shutil.copytree(copy, log)
                vanished.append((partition, self._kept[partition], end))
            else:
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(log, copy)
                self._kept[partition] = end
        self._broker.restart()
        return vanished


def cuts_of_the_log(broker: Running, one: Round, seconds: float) -> None:
    """Between cuts all logs grow, often beyond where they ended, and a disk is put back that others know to be newer.

    Every cell is compared whenever all was counted. What had been counted of what vanished is listed, and nothing else.
    """
    disk = Disk(broker, one.topic, one.site.directory)
    vanished: list[Gap] = []
    had: list[Gap] = []
    """What vanished when all was known to be counted."""
    one.traffic.produce(2_000)
    members = [one.start(name) for name in ("a", "b")]
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until or len(vanished) < 4:
        turns += 1
        at = one.chance.randrange(len(members))
        how = one.chance.choice(("running", "stopped", "killed", "standing still"))
        all_counted = turns == 1 or one.chance.random() < 0.5
        if all_counted:
            _compare(one, vanished, had)
        ends = one.ends()
        _before(one, members[at], how)
        now = disk.turn(ends, [p for p in ends if one.chance.random() < 0.6])
        one.done["logs cut back"] += len(now)
        one.done[f"logs cut back, a member {how}"] += len(now)
        vanished += now
        had += [gap for gap in now if all_counted and gap[2] > gap[1]]
        # What the old one knows of sequence numbers has vanished with the records.
        traffic = Traffic(one.site.bootstrap_servers, one.topic, one.partitions, one.chance.randrange(1 << 30))
        traffic.produce(one.chance.choice((0, 500, 6_000)))
        members[at] = _after(one, members[at], how)
        one.tend(str)
    _compare(one, vanished, had)


def _before(one: Round, member: Member, how: str) -> None:
    if how == "stopped":
        one.stop(member)
    elif how == "killed":
        one.kill(member)
    elif how == "standing still":
        one._signal(member, signal.SIGSTOP)


def _after(one: Round, member: Member, how: str) -> Member:
    if how == "standing still":
        one._signal(member, signal.SIGCONT)
    return member if member in one.members else one.start(member.daemon.name.rsplit("-", 1)[0])


def _compare(one: Round, vanished: list[Gap], had: list[Gap]) -> None:
    """What was counted before a cut may reach beyond the end that a log has now, so positions have to be the ends."""
    one.drain(WAIT_SECONDS)
    ends = one.ends()
    wait_for(lambda: one.progress() == ends, WAIT_SECONDS, poll_seconds=0.1)
    one.ledgers = [Ledger(one.site.bootstrap_servers, one.topic, one.partitions)]
    one.ledgers[0].catch_up()
    truth = one.ledgers[0].truth()
    with suppress(AssertionError):  # compare_cells says what differs
        wait_for(lambda: not differences(one.url, [truth]), WAIT_SECONDS, poll_seconds=0.5)
    one.compare_cells(truth)
    found = stored.gaps(one.url)
    for partition, first, end in found:
        if not any(p == partition and start == first and end <= stop for p, start, stop in vanished):
            raise Unequal(f"database {one.database}: listed, and has not vanished: {(partition, first, end)}")
    for partition, first, end in had:
        if not any(p == partition and start == first and end <= stop for p, start, stop in found):
            raise Unequal(f"database {one.database}: vanished, and is not listed: {(partition, first, end)}")
    one.done["vanished ranges listed"] = len(found)
