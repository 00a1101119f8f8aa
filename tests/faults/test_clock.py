"""A consumer's wall clock that steps back and forth by an hour, while records come and while none does."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import IN_CI
from tests.faults.round import Round
from tests.faults.test_completeness import told
from tests.support.stepped_clock import SteppedClock, missing
from tests.support.wait import wait_for

HOUR = 3600
STEPS = (HOUR, 0, -HOUR, HOUR, -HOUR, 0)
SESSION = {"ORGSTATS_KAFKA__SESSION_TIMEOUT_MS": "20000", "ORGSTATS_KAFKA__HEARTBEAT_INTERVAL_MS": "1000"}


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    """A clock for consumers only: Kafka's and ClickHouse's stay right."""
    if reason := missing():
        (pytest.fail if IN_CI else pytest.skip)(reason)
    return SteppedClock(tmp_path)


@pytest.mark.timeout(540)
def test_a_clock_that_steps_stops_neither_counting_nor_completeness(
    new_round: Callable[..., Round], clock: SteppedClock
) -> None:
    """After each step idle partitions tell anew that they are complete, and what comes is counted.

    They are complete up to no time beyond any clock: neither the consumer's nor the right one of the others.
    """
    one = new_round(**clock.env, **SESSION)
    one.traffic.produce(500)
    one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    wait_for(lambda: told(one)[1] > 0, 60, poll_seconds=0.1)
    for offset in STEPS * 2:
        clock.step_to(offset)
        stepped = time.time()

        def told_since(behind: int = min(offset, 0), stepped: float = stepped) -> bool:
            return stepped + behind < told(one)[1] <= time.time() + behind

        wait_for(told_since, 60, poll_seconds=0.1)  # without records: every 5 s, while a wait by that clock is an hour
        one.traffic.produce(200)
        wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
        assert told(one)[1] <= time.time()
    one.stop_all()
    one.compare()
