"""What tests of the loop in memory begin with."""

import os

import pytest

from orgstats.consumer.counting.batch import COMPILED
from tests.sim.world import SimWorld


@pytest.fixture
def world() -> SimWorld:
    """Two partitions with ten records each."""
    world = SimWorld()
    world.produce(("events", 0))
    world.produce(("events", 1))
    return world


@pytest.fixture(params=["compiled", "plain"])
def each_table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks keep their cells in one table, and then in the other."""
    if request.param == "plain":
        monkeypatch.setattr("orgstats.consumer.counting.chunk.CompiledCells", None)
    elif not COMPILED:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs orgstats.consumer.counting.fast_path, which a C compiler makes at installation")
