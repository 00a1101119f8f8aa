"""One size of the traffic: filled into a database of its own, asked every kind of question, and weighed."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from random import choice, choices
from statistics import median, quantiles

from orgstats.clickhouse.connect import connect
from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.params import StatsQuery
from orgstats.query.sql import Statement
from orgstats.schemas.migrate import migrate
from orgstats.schemas.tables import OrganizationRow
from tests.bench.query.asking import Kind, hourly_series, kinds, load, raw_series, seconds_over_http
from tests.bench.query.fill import COUNTS, fill
from tests.bench.query.traffic import BEGIN, TOPIC, Partition, shares
from tests.bench.usage import say
from tests.query.seeding import Counted, insert_sources, make_token
from tests.query.serving import Api, running_api

CONNECTIONS = 64
OWN_WINDOWS, LAST_WINDOWS = "each its own window", "windows that end now"


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one kind of request."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        """Of at least two."""
        return cls(median(seconds) * 1000, quantiles(seconds, n=100, method="inclusive")[98] * 1000)


@dataclass(frozen=True, slots=True)
class Weight:
    """What a table holds: bytes on disk, rows with those that a later version beats, and parts."""

    bytes: int
    rows: int
    parts: int


@dataclass(slots=True)
class Size:
    """What was measured of one size: each table's weight, and times by the name of the kind of request."""

    weights: dict[str, Weight] = field(default_factory=dict)
    http: dict[str, Times] = field(default_factory=dict)
    engine: dict[str, Times] = field(default_factory=dict)
    raw: dict[str, Times] = field(default_factory=dict)
    hourly: dict[str, Times] = field(default_factory=dict)

    @property
    def ours(self) -> int:
        """Bytes of the tables of counts."""
        return sum(self.weights[table].bytes for table in COUNTS)


def prepare(server_url: str, seconds: int, traffic: Sequence[Partition], *, raw: bool) -> str:
    """The URL of a database that holds the traffic's first seconds; it is filled unless an earlier run did."""
    url = f"{server_url.rpartition('/')[0]}/seconds_{seconds}"
    migrate(url, retention_days=0)
    with connect(url, client_name="bench", timeout_seconds=600) as client:
        if not client.execute("EXISTS TABLE filled")[0][0]:
            say(f"filling {seconds:,} s")
            fill(client, traffic, seconds, raw=raw)
            rows = [OrganizationRow(org_id, f"org-{org_id}", "", datetime.now(UTC)) for org_id in shares(traffic)]
            client.execute("INSERT INTO organizations VALUES", rows)
            client.execute("CREATE TABLE filled (at DateTime) ENGINE = Log")
    return url


def measure(url: str, seconds: int, traffic: Sequence[Partition], scratch: Path, *, times: int, raw: bool) -> Size:
    """All that one database tells, each kind of request asked `times` times, over HTTP and less often in the engine.

    Nobody counts beside: without progress no answer is kept, and each request reads.
    """
    size = Size()
    organizations = list(shares(traffic))
    last = BEGIN + seconds - 1
    asked = [
        *kinds(organizations[0], "busiest", last),
        *kinds(organizations[len(organizations) // 2], "median", last),
    ]
    with connect(url, client_name="bench") as client:
        client.execute("TRUNCATE TABLE progress")  # of a run before
    with Database(url, size=1, timeout_seconds=300) as database:
        size.weights = _weights(database)
        for kind in asked:
            say(f"{seconds:,} s: {kind.name}")
            size.engine[kind.name] = _in_engine(database, sql.series, kind, times // 2)
            if raw:
                size.raw[kind.name] = _in_engine(database, raw_series, kind, times // 10)
            if raw and kind.resolution != "10s":
                size.hourly[kind.name] = _in_engine(database, hourly_series, kind, times // 2)
        token = make_token(database, None)
        with serving(url, scratch) as api:
            for kind in asked:
                size.http[kind.name] = Times.of(seconds_over_http(api.url, token, kind.path, count=times + 5)[5:])
    return size


@contextmanager
def serving(url: str, scratch: Path) -> Iterator[Api]:
    """The server, whose log says more than its answers when one of them ends the run."""
    with running_api(url, scratch) as api:
        try:
            yield api
        except SystemExit as error:
            raise SystemExit(f"{error}\n{api.child.tail()}") from None


def _in_engine(database: Database, statement: Callable[[StatsQuery], Statement], kind: Kind, times: int) -> Times:
    """The first few, which find nothing in memory, do not count."""
    took = []
    for _ in range(times + 3):
        asked = statement(kind.query())
        started = time.perf_counter()
        database.read(asked)
        took.append(time.perf_counter() - started)
    return Times.of(took[3:])


def _weights(database: Database) -> dict[str, Weight]:
    rows = database.read(
        Statement(
            "SELECT table, sum(bytes_on_disk), sum(rows), count() FROM system.parts"
            " WHERE active AND database = currentDatabase() GROUP BY table"
        )
    )
    return {table: Weight(*weight) for table, *weight in rows}


def busy(
    url: str, seconds: int, traffic: Sequence[Partition], scratch: Path, *, for_seconds: float
) -> dict[str, tuple[float, Times]]:
    """Requests a second and their times on many connections, for organizations as often as these have events.

    First each for a window of its own, so that each is read; then for those that end now, as dashboards ask, while a
    flush a second makes known that counts have changed.
    """
    answered = {}
    each = shares(traffic)
    asked = [kinds(org_id, "", BEGIN + seconds - 1) for org_id in each]
    weights = list(each.values())

    def path(*, moving: bool) -> str:
        kind = choice(choices(asked, weights)[0])
        return (kind if moving else replace(kind, spread=0)).path()

    with Database(url, size=1) as database, serving(url, scratch) as api:
        token = make_token(database, None)
        for name, moving, flushed in (
            (OWN_WINDOWS, True, nullcontext()),
            (LAST_WINDOWS, False, _flushes(database)),
        ):
            say(f"{seconds:,} s: {CONNECTIONS} connections, {name}")
            with flushed:
                took = load(api.url, token, partial(path, moving=moving), CONNECTIONS, for_seconds)
            answered[name] = (len(took) / for_seconds, Times.of(took))
    return answered


@contextmanager
def _flushes(database: Database) -> Iterator[None]:
    """Progress that moves once a second, as that of a consumer does."""
    ended = threading.Event()

    def move() -> None:
        for position in count(1):
            insert_sources(database, [Counted(topic=TOPIC, complete_until=BEGIN + position, next_offset=position)])
            if ended.wait(1.0):
                return

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
