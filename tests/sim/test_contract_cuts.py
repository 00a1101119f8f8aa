"""What histories rely on of logs that are cut back and of members that are silent, on both Kafkas alike.

The real ones are campaigns, as each stops a broker or waits for a session to end.
"""

from collections.abc import Iterator

import pytest

from orgstats.consumer.kafka.errors import Fenced, Unreleased
from orgstats.deploy.local import apache_kafka
from orgstats.errors import Unavailable
from tests.conftest import IN_CI
from tests.sim.brokers import Member, OwnBroker, SimBroker


@pytest.fixture(scope="module")
def stoppable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apache_kafka.Running]:
    """An Apache Kafka of these tests' own."""
    if reason := apache_kafka.runnable():
        (pytest.fail if IN_CI else pytest.skip)(f"needs an Apache Kafka of its own: {reason}")
    broker = apache_kafka.start(tmp_path_factory.mktemp("cuts") / "kafka")
    yield broker
    broker.kill()


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.campaign)])
def real(request: pytest.FixtureRequest) -> bool:
    """Which of the two."""
    return bool(request.param == "real")


@pytest.fixture(params=["eager", "incremental"])
def broker(request: pytest.FixtureRequest, *, real: bool) -> SimBroker | OwnBroker:
    """One with a group of either protocol."""
    incremental = request.param == "incremental"
    if real:
        return OwnBroker(request.getfixturevalue("stoppable"), incremental=incremental)
    return SimBroker(incremental=incremental)


@pytest.fixture
def member(broker: SimBroker | OwnBroker) -> Iterator[Member]:
    """The first member."""
    member = Member(broker)
    yield member
    member.consumer.close()


@pytest.mark.parametrize("elects", [False, True])
def test_the_epoch_of_a_record_that_vanished_tells_that_the_log_was_cut_back(
    broker: SimBroker | OwnBroker, member: Member, *, elects: bool
) -> None:
    """Though it has grown beyond the position again; without an epoch nobody can tell, and what is there is read.

    Whether or not what vanished was written in the epoch of what is still there.
    """
    tp = (broker.topic, 0)
    broker.produce(4)
    if elects:
        broker.elect()
    broker.produce(3)
    member.start(0)
    broker.until(lambda: member.reads(end=7))
    before = dict(member.epochs)
    member.consumer.close()
    broker.cut_back(4)
    broker.produce(6)

    other = Member(broker)
    other.start(7)
    broker.until(lambda: other.reads(end=10))
    assert (other.offsets, other.lost) == ([7, 8, 9], [])
    epoch = before[6]
    assert epoch is not None
    other.consumer.start({})
    other.start(7, {tp: epoch})
    broker.until(other.has_lost)
    assert (other.offsets, other.lost) == ([7, 8, 9], [tp])
    other.consumer.close()


def test_the_epoch_of_a_record_that_is_still_there_does_not(broker: SimBroker | OwnBroker, member: Member) -> None:
    """The position is where the log was cut: all that was read is in it, and what follows is read."""
    broker.produce(4)
    broker.elect()
    broker.produce(3)
    member.start(0)
    broker.until(lambda: member.reads(end=7))
    epoch = member.epochs[3]
    assert epoch is not None
    assert member.epochs[6] != epoch
    member.consumer.close()
    broker.cut_back(4)
    broker.produce(2)
    other = Member(broker)
    other.start(4, {(broker.topic, 0): epoch})
    broker.until(lambda: other.reads(end=6))
    assert (other.offsets, other.lost) == ([4, 5], [])
    other.consumer.close()


@pytest.mark.parametrize("grown", [0, 6])
def test_a_member_that_reads_meanwhile_loses_its_position(
    broker: SimBroker | OwnBroker, member: Member, grown: int
) -> None:
    """Whether the log ends before it now, or has grown beyond it again before anything was read."""
    broker.produce(4)
    broker.produce(3)
    member.start(0)
    broker.until(lambda: member.reads(end=7))
    broker.cut_back(4)
    broker.produce(grown)
    broker.until(member.has_lost)
    assert member.lost == [(broker.topic, 0)]
    assert member.offsets == [*range(7)]


def test_another_leader_with_the_whole_log_is_not_noticed(broker: SimBroker | OwnBroker, member: Member) -> None:
    """But that records that come now are of another epoch."""
    broker.produce(3)
    member.start(0)
    broker.until(lambda: member.reads(end=3))
    broker.elect()
    broker.produce(2)
    broker.until(lambda: member.reads(end=5))
    assert (member.offsets, member.lost) == ([*range(5)], [])
    assert member.epochs[2] != member.epochs[3]


def test_who_does_not_read_for_too_long_can_commit_no_more(broker: SimBroker | OwnBroker) -> None:
    """Another one owns everything by then, and a commit is refused.

    It is told that it has lost all, or to give up some, as if in time, since the other one had asked for that before.
    """
    tps = [(broker.topic, 0), (broker.topic, 1)]
    broker.produce(3)
    broker.expect_reads()
    silent = Member(broker)
    silent.start(0)
    second = Member(broker)
    broker.outlast()
    broker.until(lambda: second.owns(2))
    with pytest.raises(Unavailable):
        silent.consumer.commit({tps[0]: 2}, {tps[0]: ""}, wait=True)
    assert second.consumer.committed(tps) == {}
    broker.until(lambda: not silent.owns(2))
    kind, gone = silent.told[1]
    assert (kind, gone) == ("lost", tps) or (kind == "revoked" and set(gone) <= set(tps))
    for one in (silent, second):
        one.consumer.close()


def test_a_name_is_held_by_one_member(broker: SimBroker | OwnBroker) -> None:
    """Eager: whoever comes last has it, and the one before is fenced. Incremental: whoever comes first."""
    first = Member(broker, name="a")
    broker.until(lambda: first.owns(2))
    second = Member(broker, name="a")

    loser, error = (second, Unreleased) if broker.incremental else (first, Fenced)

    def is_refused() -> bool:
        for member in (first, second):
            try:
                member.read()
            except error:
                return member is loser
        return False

    broker.until(is_refused)
    for member in (second, first):
        member.consumer.close()
