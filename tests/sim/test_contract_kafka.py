"""What histories rely on of Kafka and its client, on the simulated one and on a real broker alike."""

from collections.abc import Iterator

import pytest

from orgstats.consumer.kafka.group import Committed
from orgstats.errors import Refused
from tests.sim.brokers import Broker, Member, RealBroker, SimBroker


@pytest.fixture(params=["simulated", "real"])
def real(request: pytest.FixtureRequest) -> bool:
    """Which of the two."""
    return bool(request.param == "real")


@pytest.fixture(params=["eager", "incremental"])
def broker(request: pytest.FixtureRequest, *, real: bool) -> Broker:
    """One with a group of either protocol."""
    incremental = request.param == "incremental"
    if real:
        return RealBroker(request.getfixturevalue("real_kafka"), incremental=incremental)
    return SimBroker(incremental=incremental)


@pytest.fixture
def member(broker: Broker) -> Iterator[Member]:
    """The only member."""
    member = Member(broker)
    yield member
    member.consumer.close()


def ends(broker: Broker) -> tuple[int, int]:
    """Where the log ends for readers of committed records, and truly."""
    tp = (broker.topic, 0)
    committed, true = (broker.topics.ends([tp], level)[tp] for level in ("read_committed", "read_uncommitted"))
    return committed, true


def test_a_transaction_ends_with_an_offset_of_its_own(broker: Broker, member: Member) -> None:
    """Aborted records are not read, and the position passes over them and both control records."""
    broker.produce(2)
    broker.begin(3)
    broker.end(commit=False)
    broker.begin(2)
    broker.end(commit=True)
    member.start(0)
    broker.until(lambda: member.reads(end=9))
    assert member.offsets == [0, 1, 6, 7]
    assert ends(broker) == (9, 9)


def test_an_open_transaction_hides_what_is_behind_it(broker: Broker, member: Member) -> None:
    """Also what others have acknowledged; the true end tells of it."""
    broker.produce(2)
    broker.begin(3)
    broker.produce(1)
    assert ends(broker) == (2, 6)
    member.start(0)
    broker.until(lambda: member.reads(end=2))
    assert member.offsets == [0, 1]
    broker.end(commit=True)
    broker.until(lambda: member.reads(end=7))
    assert member.offsets == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("offset", [1, 9], ids=["before the start", "beyond the end"])
def test_an_offset_that_the_log_does_not_have_is_a_lost_position(broker: Broker, member: Member, offset: int) -> None:
    """After retention, or where the log was cut back; nothing is read of it any more."""
    broker.produce(4)
    broker.delete_before(2)
    tp = (broker.topic, 0)
    assert broker.topics.starts([tp]) == {tp: 2}
    member.start(offset)
    broker.until(member.has_lost)
    assert member.lost == [tp]
    assert member.offsets == []


def test_a_range_is_read_without_what_was_aborted_and_refused_where_it_is_not_whole(broker: Broker) -> None:
    """As replays and audits read: up to its end, also where no record is there."""
    broker.produce(4)
    broker.begin(3)
    broker.end(commit=False)
    broker.begin(2)
    broker.end(commit=True)
    assert broker.range(0, 11) == [0, 1, 2, 3, 8, 9]
    assert broker.range(3, 9) == [3, 8]
    assert broker.range(4, 8) == []
    with pytest.raises(Refused):
        broker.range(0, 12)
    broker.delete_before(2)
    with pytest.raises(Refused):
        broker.range(1, 11)
    assert broker.range(2, 11) == [2, 3, 8, 9]


def test_only_what_was_started_is_read(broker: Broker, member: Member) -> None:
    """Nothing before the first start, nothing after a start of nothing, and again from where it is told."""
    broker.produce(3)
    broker.until(lambda: member.owns(2))
    member.read()
    assert member.offsets == []
    member.start(1)
    broker.until(lambda: member.reads(end=3))
    member.consumer.start({})
    broker.produce(1)
    member.read()
    assert member.offsets == [1, 2]
    member.start(0)
    broker.until(lambda: member.reads(end=4))
    assert member.offsets == [1, 2, 0, 1, 2, 3]


def test_a_commit_is_read_back_with_what_stands_beside_it(broker: Broker, member: Member) -> None:
    """By the same member, and the next one."""
    tp = (broker.topic, 0)
    broker.produce(3)
    member.start(0)
    member.consumer.commit({tp: 2}, {tp: "beside"}, wait=True)
    assert member.consumer.committed([tp, (broker.topic, 1)]) == {tp: Committed(2, "beside")}


def test_a_topic_that_is_made_again_has_another_id_and_no_commits(broker: Broker) -> None:
    """So a commit is never of another log, as long as nobody commits late."""
    tp, member = (broker.topic, 0), Member(broker)
    broker.produce(3)
    member.start(0)
    member.consumer.commit({tp: 2}, {tp: ""}, wait=True)
    before, _ = broker.topics.describe([broker.topic])[broker.topic]
    member.consumer.close()
    broker.make_again()
    after, partitions = broker.topics.describe([broker.topic])[broker.topic]
    assert before != after
    assert partitions == 2
    assert ends(broker) == (0, 0)
    other = Member(broker)
    broker.until(lambda: other.owns(2))
    assert other.consumer.committed([tp]) == {}
    other.consumer.close()


def test_a_second_member_takes_over_and_gives_back(broker: Broker, member: Member) -> None:
    """Whoever gives up a partition is told before another one owns it; eager members give up all of them."""
    broker.until(lambda: member.owns(2))
    second = Member(broker)

    def shared() -> bool:
        member.read()
        return second.owns(1) and len(member.owned) == 1

    broker.until(shared)
    assert not member.owned & second.owned
    second.consumer.close()
    broker.until(lambda: member.owns(2))
    assert second.owned == set()
    assert member.told[0][0] == "assigned"
