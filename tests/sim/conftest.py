"""The simulated and the real store, for the tests that hold one to the other."""

from collections.abc import Callable, Iterator

import pytest

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.resume import Registration
from orgstats.consumer.store.store import Store
from tests.sim.clickhouse import SimClickHouse
from tests.sim.store import SimStore
from tests.sim.store_rows import GRID, OTHER, SOURCE
from tests.sim.time import SimClock


@pytest.fixture(params=["simulated", "real"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty one, in which both sources are registered."""
    if request.param == "simulated":
        made: Store = SimStore(SimClickHouse(SimClock()))
    else:
        url = request.getfixturevalue("clickhouse_url")
        made = Store(lambda: connect(url, client_name="tests"))
    made.register([(one, Registration(GRID, "read_committed", 7)) for one in (SOURCE, OTHER)], 1_700_000_000_000)
    yield made
    made.close()


@pytest.fixture
def merge(store: Store) -> Callable[[str], None]:
    """Merges the parts of a table, so that rows that lose are gone."""

    def now(table: str) -> None:
        if isinstance(store, SimStore):
            store.server.merge()
        else:
            store.run(lambda client: client.execute(f"OPTIMIZE TABLE {table} FINAL"))

    return now
