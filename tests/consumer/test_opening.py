"""The real loop, in memory: a partition that cannot be opened waits alone, and the others are counted meanwhile."""

import pytest
from structlog.testing import capture_logs

from orgstats.consumer import metrics
from orgstats.consumer.kafka.errors import Fenced
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.errors import Refused
from orgstats.query.completeness import SourceState, complete_until
from tests.sim.world import SimProcess, SimWorld

MANY = 9
BAD: TopicPartition = ("events", 3)
GOOD = [("events", n) for n in range(MANY) if n != BAD[1]]


@pytest.fixture(params=[False, True], ids=["eager", "incremental"])
def world(request: pytest.FixtureRequest) -> SimWorld:
    """Nine partitions with ten records each."""
    world = SimWorld(partitions=MANY, incremental=request.param)
    for partition in range(MANY):
        world.produce(("events", partition))
    return world


def others_are_counted(process: SimProcess) -> None:
    """All logs but that one are stored to their ends, while nothing is paused."""
    ends, stored = process.world.ends(), process.world.store.progress
    process.until(lambda: process.loop.assigned_tps() == {*GOOD} and all(stored().get(tp) == ends[tp] for tp in GOOD))
    assert {*process.member.positions} >= {*GOOD}


def all_is_counted(process: SimProcess) -> None:
    """And every cell equals one pass."""
    process.until(process.world.all_is_counted)
    assert process.world.store.counts() == process.world.expected()


def not_opened() -> float | None:
    """The metric of that partition."""
    return metrics.REGISTRY.get_sample_value("orgstats_not_opened", {"topic": BAD[0], "partition": str(BAD[1])})


def complete(world: SimWorld) -> int | None:
    """Up to when the endpoint says that the counts are complete."""
    progress = {row.source_id: row for row in world.store.final("progress")}
    rows = []
    for source in world.store.final("sources"):
        row = progress.get(source.source_id)
        version, partitions = (row.version, row.partitions) if row else (0, 0)
        ms = round(row.complete_until.timestamp() * 1000) if row else 0
        what = (source.source_id, source.topic, source.topic_id, source.partition, 1)
        rows.append(SourceState(*what, version, partitions, ms, ms, 0))
    return complete_until(rows)


def test_a_partition_without_a_leader_waits_alone(world: SimWorld) -> None:
    """It is found among all that are asked for together, told, and opened once it has a leader; nothing is complete."""
    world.kafka.leaderless.add(BAD)
    process = world.process()
    with capture_logs() as logs:
        others_are_counted(process)
    told = [one for one in logs if one["event"] == "not opened, trying again"]
    assert {(one["topic"], one["partition"]) for one in told} == {BAD}
    assert not_opened() == 1
    assert complete(world) is None
    for tp in GOOD:
        world.produce(tp, 5)
    others_are_counted(process)
    world.kafka.leaderless.clear()
    all_is_counted(process)
    assert not_opened() is None
    process.until(lambda: complete(world) is not None)


def test_a_statement_that_takes_long_to_fail_leaves_most_of_the_time_to_the_others(world: SimWorld) -> None:
    """What is stored of its chunk is asked for more and more rarely, and what it was complete until stays."""
    process = world.process()
    all_is_counted(process)
    process.until(lambda: complete(world) is not None)
    process.stop()
    before = complete(world)
    world.kafka.retain(BAD, 5)
    world.store.slow.add(BAD)
    process = world.process()
    others_are_counted(process)
    began = world.clock.monotonic()
    with capture_logs() as logs:
        while world.clock.monotonic() < began + 600:
            world.produce(GOOD[0], 1)
            process.turn()
            world.clock.sleep(5)
    tries = sum(one["event"] == "not opened, trying again" for one in logs)
    assert 3 <= tries <= 5
    assert not any(one["event"] == "assigned" for one in logs)  # nor is a gap told again with each try
    assert not any(one["event"] == "paused" for one in logs)
    others_are_counted(process)
    assert complete(world) == before
    world.store.slow.clear()
    all_is_counted(process)
    process.until(lambda: complete(world) != before)


def test_what_waits_is_taken_by_another_member_and_opened_there(world: SimWorld) -> None:
    """Nothing of it is remembered here."""
    world.kafka.leaderless.add(BAD)
    first = world.process()
    others_are_counted(first)
    second = world.process()
    world.kafka.leaderless.clear()
    for _ in range(40):
        first.turn()
        second.turn()
    assert world.all_is_counted()
    assert first.loop.assigned_tps() | second.loop.assigned_tps() == {*GOOD, BAD}
    second.stop()
    all_is_counted(first)


def test_fenced_while_one_waits_the_next_membership_opens_it(world: SimWorld) -> None:
    """It was not open, and is not held for open either."""
    world.kafka.leaderless.add(BAD)
    process = world.process()
    others_are_counted(process)
    process.member.fenced = Fenced("another process uses the same name")
    process.turn()
    world.kafka.leaderless.clear()
    all_is_counted(process)


def test_while_nobody_answers_all_wait_and_none_is_blamed(world: SimWorld) -> None:
    """As soon as it is back, all are opened together."""
    process = world.process()
    world.store.away = True
    with capture_logs() as logs:
        process.turn(40)
    assert {one["event"] for one in logs if one["log_level"] == "warning"} >= {"cannot open the partitions yet"}
    assert not any(one["event"] == "not opened, trying again" for one in logs)
    world.store.away = False
    all_is_counted(process)


def test_what_does_not_pass_ends_the_process_as_ever(world: SimWorld) -> None:
    """Also while another partition waits."""
    process = world.process()
    all_is_counted(process)
    process.stop()
    world.kafka.leaderless.add(BAD)
    sources = world.store.rows["sources"]
    world.store.rows["sources"] = [row._replace(isolation="other") if row.partition == 7 else row for row in sources]
    with pytest.raises(Refused, match=r"events/7 was counted with isolation\.level=other"):
        world.process().run(60)


def test_of_two_topics_one_that_is_not_there_yet_holds_nothing_back() -> None:
    """Its partitions were dealt before it was deleted; the other's are counted."""
    world = SimWorld("events", "other", partitions=2)
    world.produce(("events", 0))
    process = world.process()
    process.member._learn()
    world.kafka.topics.pop("other")
    process.until(lambda: world.store.progress().get(("events", 0)) == 10)
    assert {*process.member.positions} == {("events", 0), ("events", 1)}
    assert process.loop.assigned_tps() == {("events", 0), ("events", 1)}
