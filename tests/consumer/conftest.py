"""What tests of the loop in memory begin with."""

import pytest

from tests.sim.world import SimWorld


@pytest.fixture
def world() -> SimWorld:
    """Two partitions with ten records each."""
    world = SimWorld()
    world.produce(("events", 0))
    world.produce(("events", 1))
    return world
