"""A partition that loses its leader while it is counted: it holds back no others, and nothing is claimed of it."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from orgstats.consumer import metrics
from orgstats.consumer.checkpoint import Position
from orgstats.consumer.clients import SystemClock
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.topics import Topics
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.watch import Watch
from orgstats.errors import Unavailable
from tests.sim.world import SimProcess, SimWorld
from tests.support.mock_cluster import NOBODY, MockCluster, mock_cluster
from tests.support.wait import wait_for

BAD, A, B = ("events", 0), ("events", 1), ("events", 2)


@pytest.fixture(params=[False, True], ids=["eager", "incremental"])
def world(request: pytest.FixtureRequest) -> SimWorld:
    """Three partitions with ten records each."""
    world = SimWorld(partitions=3, incremental=request.param)
    for tp in (BAD, A, B):
        world.produce(tp)
    return world


def counted(process: SimProcess) -> None:
    """Everything is stored and committed, and every cell equals one pass."""
    process.until(process.world.all_is_counted)
    assert process.world.store.counts() == process.world.expected()


def complete(world: SimWorld) -> dict[TopicPartition, float]:
    """Up to when each is said to be complete, epoch seconds."""
    progress = {row.source_id: row.complete_until.timestamp() for row in world.store.final("progress")}
    return {(row.topic, row.partition): progress[row.source_id] for row in world.store.final("sources")}


def end_unknown() -> float | None:
    """The metric of that partition."""
    return metrics.REGISTRY.get_sample_value("orgstats_end_unknown", {"topic": BAD[0], "partition": str(BAD[1])})


def reads_and_loses_its_leader(process: SimProcess) -> None:
    """Five more records of it are read, of which none is stored when its leader goes."""
    counted(process)
    process.executor.hold = True
    process.world.produce(A, 1)
    process.until(lambda: process.executor.begun)
    process.world.produce(BAD, 5)
    process.until(lambda: process.member.positions[BAD] == 15)
    assert process.world.store.progress()[BAD] == 10
    process.world.kafka.leaderless.add(BAD)
    process.executor.hold = False
    process.executor.run()


def test_the_others_are_stored_and_committed_and_nothing_is_claimed_of_it(world: SimWorld) -> None:
    """What was read of it is stored too, the log tells of it once, and with a leader it is complete again."""
    process = world.process()
    counted(process)
    world.kafka.leaderless.add(BAD)
    before = complete(world)
    with capture_logs() as logs:
        for _ in range(5):
            world.produce(A, 5)
            world.produce(B, 3)
            process.until(world.all_is_counted)
        process.until(lambda: all(complete(world)[tp] > before[tp] + 20 for tp in (A, B)))
    assert complete(world)[BAD] == before[BAD]
    assert end_unknown() == 1
    told = [(one["topic"], one["partition"]) for one in logs if one["event"] == "end of the log unknown"]
    assert told == [BAD]
    assert not any(one["event"] in ("paused", "not stored, trying again") for one in logs)
    world.kafka.leaderless.clear()
    world.produce(BAD, 2)
    counted(process)
    process.until(lambda: complete(world)[BAD] > before[BAD])
    assert end_unknown() is None


def test_what_was_read_of_it_is_stored_and_who_stops_leaves_nothing_behind(world: SimWorld) -> None:
    """Without a newer claim: exit code 0, and the next owner has nothing to count again."""
    process = world.process()
    reads_and_loses_its_leader(process)
    before = complete(world)[BAD]
    process.until(lambda: world.store.progress()[BAD] == 15)
    assert complete(world)[BAD] == before
    process.stop()
    assert world.all_is_counted()
    assert world.store.counts() == world.expected()


@pytest.mark.parametrize("epoch", [0, None], ids=["epochs", "no-epochs"])
def test_what_its_next_leader_never_had_is_taken_back_and_listed(world: SimWorld, epoch: int | None) -> None:
    """It was stored while nobody told the end of the log; the first look that is answered finds it."""
    log = world.kafka.log(BAD)
    log.epoch, log.records = epoch, [replace(record, epoch=epoch) for record in log.records]
    process = world.process()
    reads_and_loses_its_leader(process)
    process.until(lambda: world.store.progress()[BAD] == 15)
    world.kafka.cut_back(BAD, 12)
    world.kafka.leaderless.clear()
    counted(process)
    source = next(row.source_id for row in world.store.final("sources") if (row.topic, row.partition) == BAD)
    listed = [(row.from_offset, row.to_offset) for row in world.store.final("gaps") if row.source_id == source]
    assert {at for first, end in listed for at in range(first, end)} >= {12, 13, 14}


def test_alone_in_a_checkpoint_it_pauses_no_others(world: SimWorld) -> None:
    """Between two heartbeats nothing but this one may be due; that Kafka answers is known from its topics."""
    process = world.process()
    with capture_logs() as logs:
        reads_and_loses_its_leader(process)
        world.kafka.leaderless |= {A, B}
        process.until(lambda: world.store.progress() == world.ends())
        process.turn(40)
    assert not any(one["event"] in ("paused", "not stored, trying again") for one in logs)
    world.kafka.leaderless.clear()
    counted(process)


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """Two brokers with a topic of three partitions."""
    with mock_cluster() as cluster:
        cluster.create("events", 3)
        yield cluster


@pytest.mark.parametrize("knew", [True, False], ids=["knew-the-leader", "new-client"])
def test_the_real_client_is_told_the_ends_of_the_others(cluster: MockCluster, knew: bool) -> None:
    """Whether it knew the leader before or not; and of that one again soon after it has a leader."""
    topics = Topics({"bootstrap.servers": cluster.bootstrap_servers})
    if knew:
        wait_for(lambda: told(topics) == {BAD, A, B}, 20)
    cluster.lead("events", 0, NOBODY)
    wait_for(lambda: told(topics) == {A, B}, 20)
    with pytest.raises(Unavailable, match="LEADER"):
        topics.ends([BAD, A, B], "read_uncommitted")
    alone = topics.told_ends([BAD], "read_uncommitted")
    assert not alone.ends
    assert set(alone.silent) == {BAD}
    cluster.lead("events", 0, 2)
    wait_for(lambda: told(topics) == {BAD, A, B}, 20)


def test_lag_and_retention_of_the_others_are_still_told(cluster: MockCluster) -> None:
    """It keeps what was seen of it last; a look that is told of none says why."""
    positions = {tp: Position(4, 0) for tp in (BAD, A, B)}
    settings = ConsumerSettings(
        bootstrap_servers=cluster.bootstrap_servers,
        topic=("events",),
        clickhouse_url="clickhouse://nobody@127.0.0.1:9/x",
    )
    watch = Watch(settings, lambda: positions, SystemClock())
    produce(cluster, [BAD] * 10 + [A] * 10)
    watch.look(time.time())
    assert lags() == [6, 6, 0]
    produce(cluster, [BAD] * 5 + [A] * 5 + [B] * 5)
    cluster.lead("events", 0, NOBODY)

    def seen() -> bool:
        watch.look(time.time())
        return lags() == [6, 11, 1]

    wait_for(seen, 30)
    for partition in (1, 2):
        cluster.lead("events", partition, NOBODY)

    def refused() -> bool:
        try:
            watch.look(time.time())
        except Unavailable as error:
            return "LEADER" in str(error)
        return False

    wait_for(refused, 30)
    metrics.forget([BAD, A, B])


def produce(cluster: MockCluster, partitions: list[TopicPartition]) -> None:
    """One record each."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
    for topic, partition in partitions:
        producer.produce(topic, b"{}", partition=partition)
    assert producer.flush(30) == 0


def lags() -> list[float | None]:
    """The metric of each partition."""
    of = [{"topic": topic, "partition": str(partition)} for topic, partition in (BAD, A, B)]
    return [metrics.REGISTRY.get_sample_value("orgstats_lag_records", labels) for labels in of]


def told(topics: Topics) -> set[TopicPartition]:
    """Of which partitions an end is told; the others with a reason."""
    found = topics.told_ends([BAD, A, B], "read_uncommitted")
    assert found.ends.keys() | found.silent.keys() == {BAD, A, B}
    return set(found.ends)
