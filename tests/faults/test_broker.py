"""What the daemon asks of a broker whose leaders or partitions have just changed."""

from collections.abc import Callable

from orgstats.consumer.kafka.group import TopicPartition as Partition
from orgstats.consumer.kafka.topics import Topics
from orgstats.errors import Unavailable
from tests.faults.conftest import Place
from tests.faults.round import Round
from tests.support.wait import wait_for


def answers(topics: Topics, tps: list[Partition]) -> Callable[[], dict[Partition, int]]:
    """Asks for the ends; nothing while they cannot be told."""

    def ask() -> dict[Partition, int]:
        try:
            return topics.ends(tps, "read_committed")
        except Unavailable:
            return {}

    return ask


def test_the_ends_of_added_partitions_are_known_soon(one: Round) -> None:
    """A client that has asked before learns of new partitions at once, not with its next look in five minutes."""
    topics = Topics({"bootstrap.servers": one.site.bootstrap_servers})
    tps = [(one.topic, partition) for partition in range(6)]
    assert len(answers(topics, tps[:4])()) == 4
    one.add_partitions(6)
    assert set(wait_for(answers(topics, tps), 20)) == set(tps)


def test_the_ends_are_known_soon_after_a_broker_comes_back(place: Place, one: Round) -> None:
    """A restarted broker leads in a new epoch; asked with the old one it would refuse for ever."""
    topics = Topics({"bootstrap.servers": one.site.bootstrap_servers})
    tps = [(one.topic, partition) for partition in range(4)]
    assert len(answers(topics, tps)()) == 4
    place.broker.kill()
    place.broker.restart()
    assert set(wait_for(answers(topics, tps), 60)) == set(tps)
