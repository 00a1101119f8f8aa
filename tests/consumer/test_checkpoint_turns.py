"""The checkpoint under way: idle, in flight, backing off."""

import pytest

from orgstats.consumer.backoff import MOST_SECONDS
from orgstats.consumer.checkpoint import Checkpoints
from orgstats.consumer.checkpoint_turns import HEARTBEAT_SECONDS, CheckpointTurns
from orgstats.errors import Unavailable
from tests.sim.clickhouse import SimClickHouse
from tests.sim.kafka import SimKafka, SimTopics
from tests.sim.store import SimStore
from tests.sim.time import SimClock, SimExecutor

AWAY = Unavailable("no answer")


@pytest.fixture
def executor() -> SimExecutor:
    """One that waits until it is told."""
    executor = SimExecutor(SimClock())
    executor.hold = True
    return executor


@pytest.fixture
def turns(executor: SimExecutor) -> CheckpointTurns:
    """A checkpoint each second."""
    clock = SimClock()
    checkpoints = Checkpoints(SimTopics(SimKafka(clock)), SimStore(SimClickHouse(clock)), clock)
    return CheckpointTurns(checkpoints, executor, 1.0, 30.0)


def test_the_next_one_begins_after_the_flush_time_and_the_end_of_the_last(
    turns: CheckpointTurns, executor: SimExecutor
) -> None:
    """Both: there is at most one, and not more than one each second."""
    assert turns.due(0.0)
    turns.begin([], "fingerprint", 0.0)
    assert turns.state.name == "IN_FLIGHT"
    assert not turns.due(5.0)
    assert turns.take_ended() is None
    executor.run()
    flight = turns.take_ended()
    assert flight is not None
    assert (flight.work, flight.fingerprint) == ([], "fingerprint")
    assert turns.state.name == "IDLE"
    assert not turns.due(0.9)
    assert turns.due(1.0)


def test_what_is_written_seldom_is_due_every_half_minute_for_idle_partitions_too(
    turns: CheckpointTurns, executor: SimExecutor
) -> None:
    """Also between two heartbeats."""
    for at in (0.0, 28.0):
        assert turns.hourly_due(at) is (at == 0)
        turns.begin([], "fingerprint", at)
        executor.run()
        turns.take_ended()
    assert not turns.heartbeat_due(29.9)
    assert turns.hourly_due(30.0)
    assert turns.heartbeat_due(30.0)


def test_failures_in_a_row_wait_twice_as_long_each_up_to_a_most(turns: CheckpointTurns) -> None:
    """Half a second, one, two … 30; an answer ends it."""
    waited = []
    for _ in range(9):
        turns.failed(0.0, AWAY)
        assert turns.state.name == "BACKING_OFF"
        waited.append(next(half / 2 for half in range(200) if turns.due(half / 2)))
    assert waited == [0.5, 1, 2, 4, 8, 16, *[MOST_SECONDS] * 3]
    turns.answered()
    assert turns.state.name == "IDLE"
    turns.failed(0.0, AWAY)
    assert turns.due(0.5)


def test_what_is_due_soon_waits_for_the_one_under_way_and_for_a_store_that_is_away(
    turns: CheckpointTurns, executor: SimExecutor
) -> None:
    """But not for the flush time."""
    turns.begin([], "", 0.0)
    turns.soon()
    assert not turns.due(0.1)
    executor.run()
    turns.take_ended()
    assert turns.due(0.1)
    turns.failed(0.1, AWAY)
    turns.soon()
    assert not turns.due(0.2)


def test_who_leaves_does_not_wait(turns: CheckpointTurns) -> None:
    """Neither for the flush time nor for the back-off, and tells of every partition."""
    turns.begin([], "fingerprint", 0.0)
    turns.wait(1.0)
    turns.take_ended()
    turns.failed(0.0, AWAY)
    assert not turns.heartbeat_due(0.0)
    turns.hurry()
    assert turns.due(0.0)
    assert turns.heartbeat_due(0.0)


def test_a_heartbeat_is_due_every_few_seconds_and_when_asked_for(turns: CheckpointTurns, executor: SimExecutor) -> None:
    """A checkpoint in between does not move it."""
    turns.begin([], "", 0.0)
    executor.run()
    turns.take_ended()
    turns.begin([], "", 2.0)
    assert not turns.heartbeat_due(HEARTBEAT_SECONDS - 0.1)
    assert turns.heartbeat_due(HEARTBEAT_SECONDS)
    turns.tell_all()
    assert turns.heartbeat_due(2.0)
