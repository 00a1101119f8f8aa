"""A broker with short sessions, a ClickHouse behind a proxy, and rounds that end what they start."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orgstats.deploy.local import apache_kafka
from tests.conftest import IN_CI, _failed
from tests.faults.proxy import Proxy
from tests.faults.round import BROKER_PROPERTIES, Round, Site


@dataclass(frozen=True)
class Place:
    """A site and the broker that is part of it, to be killed and restarted."""

    site: Site
    broker: apache_kafka.Running


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rounds are campaigns: each is consumers as processes, with sessions that have to time out."""
    for item in items:
        if "new_round" in getattr(item, "fixturenames", ()):
            item.add_marker("campaign")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, clickhouse_server: str) -> Iterator[Place]:
    """An Apache Kafka of these tests' own, which lets sessions be short, and the run's ClickHouse behind a proxy."""
    if reason := apache_kafka.runnable():
        (pytest.fail if IN_CI else pytest.skip)(f"needs an Apache Kafka of its own: {reason}")
    directory: Path = tmp_path_factory.mktemp("faults")
    broker = apache_kafka.start(directory / "kafka", properties=BROKER_PROPERTIES)
    proxy = Proxy(clickhouse_server, seed=1)
    yield Place(Site(broker.bootstrap_servers, clickhouse_server, proxy, directory), broker)
    proxy.close()
    broker.kill()


@pytest.fixture
def new_round(place: Place, request: pytest.FixtureRequest) -> Iterator[Callable[..., Round]]:
    """Makes rounds: `new_round(NAME="value", ...)` with settings of the consumers; kept if the test fails."""
    made: list[Round] = []
    seeds = itertools.count(1)

    def make(**env: str) -> Round:
        made.append(Round(place.site, next(seeds), Counter(), **env))
        return made[-1]

    yield make
    place.site.proxy.error = place.site.proxy.refused = None
    place.site.proxy.set_state("fine")
    for one in made:
        one.close(keep=request.node.stash.get(_failed, False))


@pytest.fixture
def one(new_round: Callable[..., Round]) -> Round:
    """A round with the settings as they are by default."""
    return new_round()
