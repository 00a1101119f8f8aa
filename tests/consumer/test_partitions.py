"""What is assigned: which of it is read, which is stored, and which topics are not those that were counted."""

import json

import pytest

from orgstats.consumer.assignment import OpenPartition
from orgstats.consumer.checkpoint import Assigned
from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.completeness import SeenEnds
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.partition import Partition
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.partitions import Partitions
from orgstats.consumer.states import PartitionState
from tests.sim.clickhouse import SimClickHouse
from tests.sim.store import SimStore
from tests.sim.time import SimClock
from tests.support.record import FakeRecord

A, B, OTHER = ("events", 0), ("events", 1), ("other", 0)
T0 = 1_700_000_000
BODY = json.dumps({"timestamp": T0, "org_id": 1, "outcome": 0}).encode()


def opened(tp: TopicPartition, uuid: str = "uuid", catching_up_until: int = 0) -> OpenPartition:
    """One that is read from its first record."""
    partition = Partition(
        Source(tp[0], uuid, tp[1]),
        Resume(0, catching_up_until),
        BatchCounter(AgeLimits(), RuleHistory()),
        lambda _first: Attempt(),
    )
    return OpenPartition(Assigned(uuid, uuid, 0), partition, SeenEnds(), SeenEnds())


def read(partitions: Partitions, tp: TopicPartition, first: int, end: int) -> None:
    """Count records at [first, end)."""
    partition = partitions.read(tp)
    assert partition is not None
    partition.count([FakeRecord(at, BODY, T0 * 1000, 0) for at in range(first, end)])
    partitions.see_caught_up(tp)


@pytest.fixture
def partitions() -> Partitions:
    """Two that are counted; of one the first five records are stored already."""
    partitions = Partitions()
    partitions.assigned([A, B])
    partitions.opened({A: opened(A), B: opened(B, catching_up_until=5)})
    return partitions


@pytest.fixture
def store() -> SimStore:
    """An empty one."""
    return SimStore(SimClickHouse(SimClock()))


def test_what_is_catching_up_is_read_but_nothing_of_it_is_taken(partitions: Partitions, store: SimStore) -> None:
    """Until it is back where it was stored."""
    assert [partitions.state(tp).value for tp in (A, B)] == ["counting", "catching up"]
    assert partitions.next_offsets() == {A: 0, B: 0}
    assert [one.tp for one in partitions.take(store, idle=True, seldom=True)] == [A]
    read(partitions, B, 0, 3)
    assert not partitions.unstored([B])
    read(partitions, B, 3, 6)
    assert partitions.unstored([B])
    assert [one.tp for one in partitions.take(store, idle=False, seldom=True) if one.tp == B] == [B]


def test_the_last_end_that_was_waited_for_is_told_once(partitions: Partitions) -> None:
    """Of a partition that was taken away none is waited for; one that is opened again is waited for again."""
    assert not partitions.see_ends([A, A])
    assert partitions.see_ends([B])
    assert not partitions.see_ends([A, B])
    partitions.taken([A, B])
    partitions.assigned([A, B])
    partitions.opened({A: opened(A), B: opened(B)})
    assert not partitions.see_ends([A])
    partitions.taken([B])
    assert not partitions.see_ends([])
    partitions.distrust_all()
    partitions.opened({A: opened(A)})
    assert partitions.see_ends([A])


def test_a_lost_position_drains_before_it_is_opened_again(partitions: Partitions, store: SimStore) -> None:
    """What is catching up has nothing to store, and is opened at once."""
    read(partitions, A, 0, 3)
    assert partitions.lost_position([A, B, OTHER]) == [A, B]
    assert partitions.opening == [B]
    assert partitions.read(A) is None
    assert partitions.suspects.keys() == {A, B}
    partitions.see_drained()
    assert partitions.opening == [B]
    work = partitions.take(store, idle=False, seldom=True)
    partitions.not_stored(work)
    partitions.see_drained()
    assert partitions.state(A) is PartitionState.DRAINING
    partitions.stored(partitions.take(store, idle=False, seldom=True))
    partitions.see_drained()
    assert partitions.opening == [A, B]
    assert not partitions.open


def test_a_checkpoint_of_what_was_taken_meanwhile_is_nobodys(partitions: Partitions, store: SimStore) -> None:
    """It is not committed here."""
    read(partitions, A, 0, 3)
    work = partitions.take(store, idle=False, seldom=True)
    partitions.taken([A, OTHER])
    assert partitions.stored(work) == []
    partitions.not_stored(work)
    assert partitions.state(A) is PartitionState.CLOSED


def test_a_topic_that_went_away_stays_so(partitions: Partitions) -> None:
    """However often the group assigns its partitions."""
    assert partitions.give_up({"events": "deleted"}) == [A, B]
    partitions.taken([A, B])
    partitions.assigned([A, OTHER])
    assert partitions.opening == [OTHER]
    assert partitions.gone == {"events": "deleted"}


def test_a_topic_that_was_made_again_is_another_one(partitions: Partitions) -> None:
    """Of one name, this process counts one topic."""
    partitions.distrust_all()
    assert partitions.opening == [A, B]
    gone = partitions.opened({A: opened(A, "another"), B: opened(B, "another")})
    assert "made again" in gone["events"]


def test_a_topic_that_was_counted_and_cannot_be_opened_is_gone(partitions: Partitions) -> None:
    """One that was never counted may come yet."""
    partitions.assigned([OTHER, ("new", 0)])
    partitions.distrust_all()
    gone = partitions.opened({OTHER: opened(OTHER)}, ["events", "new"])
    assert list(gone) == ["events"]
