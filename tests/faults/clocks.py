"""Consumers whose wall clocks step by an hour, each by itself, while partitions pass between them."""

import time
from pathlib import Path
from typing import Final

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.source import Source
from tests.faults.round import Round, Unequal
from tests.support.stepped_clock import SteppedClock
from tests.support.wait import wait_for

HOUR: Final = 3600
STEPS: Final = (HOUR, 0, -HOUR)
SESSION: Final = {"ORGSTATS_KAFKA__SESSION_TIMEOUT_MS": "20000", "ORGSTATS_KAFKA__HEARTBEAT_INTERVAL_MS": "1000"}
"""librdkafka's main thread may sleep until the next commit, 5 s, when a clock is set back."""
MEMBERS: Final = ("a", "b")
WAIT_SECONDS: Final = 180.0
Acknowledged = tuple[float, dict[int, int]]
"""When records were known to be acknowledged, by the right clock in epoch seconds, and where each log ended."""


def clocks(one: Round, seconds: float) -> None:
    """After each step idle partitions tell anew up to when they are complete, and what comes is counted and compared.

    They are never complete beyond the right clock, nor beyond what was acknowledged and is not counted.
    """
    theirs = {name: _clock(one.site.directory / f"{one.topic}-clock-{name}") for name in MEMBERS}
    offsets = dict.fromkeys(MEMBERS, 0)
    acknowledged: list[Acknowledged] = [_produce(one, 500)]
    for name in MEMBERS:
        _start(one, name, theirs[name])
    until, turns = time.monotonic() + seconds, 0
    while time.monotonic() < until or turns < 2 * len(STEPS):
        for name in MEMBERS:
            if one.chance.random() < 0.2:
                member = next(m for m in one.members if m.daemon.name.startswith(name))
                (one.kill if one.chance.random() < 0.5 else one.stop)(member)
                _start(one, name, theirs[name])
        name = one.chance.choice(MEMBERS)
        offsets[name] = one.chance.choice([offset for offset in STEPS if offset != offsets[name]])
        theirs[name].step_to(offsets[name])
        one.done["clocks stepped"] += 1
        one.done["clocks stepped with one ahead and one behind"] += sorted(offsets.values()) == [-HOUR, HOUR]
        # Without records: consumers tell every 5 s, while a wait by a clock that was set back is an hour.
        _tell_anew(one, acknowledged, [min(0, offset) for offset in offsets.values()])
        acknowledged.append(_produce(one, one.chance.choice((200, 2_000, 10_000))))
        wait_for(lambda: _told(one, acknowledged) and one.progress() == acknowledged[-1][1], WAIT_SECONDS)
        turns += 1
        one.compare()
    one.stop_all()
    one.compare()


def _clock(directory: Path) -> SteppedClock:
    directory.mkdir()
    return SteppedClock(directory)


def _start(one: Round, name: str, clock: SteppedClock) -> None:
    kept = dict(one.env)
    one.env.update(clock.env)
    one.start(name, static=False)
    one.env = kept


def _produce(one: Round, records: int) -> Acknowledged:
    one.traffic.produce(records)
    acknowledged = time.time()
    return acknowledged, one.ends()


def _tell_anew(one: Round, acknowledged: list[Acknowledged], behind: list[int]) -> None:
    """Until every partition is told to be complete up to a time after now, by the clock of either consumer."""
    stepped = time.time()

    def anew() -> bool:
        one.tend(str)
        told = _told(one, acknowledged)
        if len(told) < one.partitions:
            return False
        return stepped + min(behind) < min(told.values()) and max(told.values()) <= time.time() + max(behind)

    wait_for(anew, WAIT_SECONDS, poll_seconds=0.2)


def _told(one: Round, acknowledged: list[Acknowledged]) -> dict[int, float]:
    """Up to when each partition is complete, epoch seconds; Unequal where that cannot be."""
    sources = {Source(one.topic, one.uuid, p).source_id: p for p in range(one.partitions)}
    with connect(one.url, client_name="tests") as client:
        rows = client.execute(
            "SELECT source_id, next_offset, toUnixTimestamp64Milli(complete_until) / 1000 FROM progress FINAL"
        )
    now = time.time()
    for source, position, complete_until in rows:
        if complete_until > now:
            raise Unequal(f"partition {sources[source]} is complete {complete_until - now} s ahead of the time")
        for at, ends in acknowledged:
            if complete_until > at and position < ends[sources[source]]:
                raise Unequal(
                    f"partition {sources[source]} is told complete until {complete_until} at {position},"
                    f" though {ends[sources[source]]} was acknowledged at {at}"
                )
    one.done["looks at completeness"] += len(rows)
    return {sources[source]: complete_until for source, _, complete_until in rows}
