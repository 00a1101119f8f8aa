"""An operator of a simulated world: the real commands on its Kafka and its ClickHouse."""

from typing import Any, cast

from orgstats.consumer.ops import chunk_length
from orgstats.consumer.ops.chunk_length import LengthChange
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.settings import ConsumerSettings
from tests.sim.kafka import SimTopics
from tests.sim.store import SimStore
from tests.sim.world import SimWorld


def connections(world: SimWorld) -> Connections:
    """What a command works with."""
    settings = ConsumerSettings(
        bootstrap_servers="kafka:9092", clickhouse_url="clickhouse://store:9000/orgstats", topic=tuple(world.topics)
    )
    return Connections(settings, cast("Any", SimTopics(world.kafka)), cast("Any", None), SimStore(world.store), print)


def plan(world: SimWorld, length: int) -> list[LengthChange]:
    """The changes that `orgstats chunk-length set` would make."""
    found = chunk_length.plan(connections(world), None, length)
    return [one for one in found if isinstance(one, LengthChange)]


def change_length(world: SimWorld, length: int) -> list[LengthChange]:
    """`orgstats chunk-length set --execute`."""
    changes = plan(world, length)
    for change in changes:
        chunk_length.execute(connections(world), change, "operator")
    return changes
