"""The public function on a real engine, against a model that adds up rows one by one."""

import itertools
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgstats.errors import Unavailable
from orgstats.query.clickhouse import Database
from orgstats.query.params import InvalidQuery, StatsQuery
from orgstats.query.series import buckets_of
from orgstats.query.stats import organization_stats, read_series
from orgstats.schemas.outcomes import STATS, Outcome, Stat
from tests.query.seeding import EXAMPLE, EXAMPLE_FIRST, Cell, insert_counts
from tests.query.test_series import model

START = 1_584_800_000
RESOLUTIONS = {"10s": 10, "1h": 3_600, "1d": 86_400}
COUNTED = {
    "received": {Outcome.accepted, Outcome.filtered, Outcome.rate_limited},
    "rejected": {Outcome.rate_limited},
    "blacklisted": {Outcome.filtered},
    "generated": {Outcome.accepted},
}

organization_ids = itertools.count(1)


def test_the_published_example(database: Database) -> None:
    """The 24 published numbers come out as they were counted."""
    insert_counts(database, [Cell(1, EXAMPLE_FIRST + 3600 * hour, n) for hour, n in enumerate(EXAMPLE)])
    points = organization_stats(database, 1, until=1_584_907_200)
    assert points == [(EXAMPLE_FIRST + 3600 * hour, n) for hour, n in enumerate(EXAMPLE)]


def test_an_organization_without_data_has_zeros(database: Database) -> None:
    """Nobody counted anything, and the series is there."""
    assert organization_stats(database, 99, since=0, until=20, resolution="10s") == [(0, 0), (10, 0), (20, 0)]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_only_the_newest_version_of_a_cell_counts(order: tuple[int, int], database: Database) -> None:
    """Each flush writes the whole count so far, and the one with the highest version holds, in any order."""
    for version in order:
        insert_counts(database, [Cell(1, 100, 10 * version, version=version, project_id=5)])
    assert organization_stats(database, 1, since=100, until=100) == [(100, 20)]
    query = StatsQuery(1, "received", buckets_of(100, 100, 10), (5,))
    assert read_series(database, query) == {5: [(100, 20)]}


def test_sums_above_64_bits_do_not_wrap(database: Database) -> None:
    """The sum of the largest quantities is exact beyond 64 bits."""
    cells = [Cell(1, 100, 2**64 - 1, chunk=chunk) for chunk in range(3)]
    insert_counts(database, cells)
    assert organization_stats(database, 1, since=100, until=100) == [(100, 3 * (2**64 - 1))]


def test_the_last_bucket_of_time(database: Database) -> None:
    """The ends of DateTime's range are counted and can be asked for at every resolution."""
    insert_counts(database, [Cell(1, 4_294_967_290, 5), Cell(1, 0, 7)])
    for name, width in RESOLUTIONS.items():
        last = 4_294_967_295 // width * width
        assert organization_stats(database, 1, since=2**32 - 1, until=2**32 - 1, resolution=name) == [(last, 5)]
        assert organization_stats(database, 1, since=0, until=0, resolution=name) == [(0, 7)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"stat": "x"},
        {"resolution": "5m"},
        {"since": 5.0, "until": 4.0},
        {"until": -1.0},
        {"until": float("nan")},
        {"since": 1e12},
        {"since": 0.0, "until": 1e6, "resolution": "10s"},
    ],
)
def test_invalid_arguments_are_refused(wrong: dict[str, object], database: Database) -> None:
    """What the endpoint would refuse, the function refuses too."""
    with pytest.raises(InvalidQuery):
        organization_stats(database, 1, **wrong)  # type: ignore[arg-type]


def test_an_absent_server_is_unavailable() -> None:
    """Nobody listens there, and the error says that asking again may help."""
    with pytest.raises(Unavailable):
        organization_stats(Database("clickhouse://127.0.0.1:1/default", size=1), 1)


class Place(NamedTuple):
    """A cell whose bucket is told by how many buckets of the answer it lies before until."""

    back: float
    outcome: int
    category: int
    source_id: int
    chunk: int


tps = st.builds(
    Place,
    back=st.floats(-3, 40),
    outcome=st.sampled_from([*Outcome, Outcome.filtered, Outcome.rate_limited, 7, 255]),
    category=st.sampled_from([0, 1, 1, 2, 3, 4, 9, 255]),
    source_id=st.integers(1, 2),
    chunk=st.sampled_from([0, 131_072]),
)
named = st.tuples(st.sampled_from(["", "ip-address", "other"]), st.integers(1, 3))  # reason, project
flushed = st.lists(st.integers(0, 2**40), min_size=1, max_size=3)  # quantities of a cell, in the order of writing


def newest(rows: list[Cell]) -> list[Cell]:
    """Of the rows of one cell the one with the highest version."""
    best: dict[Cell, Cell] = {}
    for row in sorted(rows, key=lambda row: row.version):
        best[row._replace(quantity=0, version=0)] = row
    return list(best.values())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(tps, min_size=1, max_size=10, unique_by=lambda tp: tp[1:]),
    names=st.lists(named, min_size=10, max_size=10),
    written=st.lists(flushed, min_size=10, max_size=10),
    backwards=st.booleans(),
    until=st.integers(START, START + 400_000).map(float) | st.floats(START, START + 400_000),
    back=st.floats(0, 40),
    resolution=st.sampled_from(sorted(RESOLUTIONS)),
    stat=st.sampled_from(STATS),
)
def test_series_are_those_of_the_model(
    cells: list[Place],
    names: list[tuple[str, int]],
    written: list[list[int]],
    backwards: bool,
    until: float,
    back: float,
    resolution: str,
    stat: Stat,
    database: Database,
) -> None:
    """For any rows, window, resolution and stat the series is what adding up the newest rows gives."""
    org_id, neighbour, width = next(organization_ids), next(organization_ids), RESOLUTIONS[resolution]
    since = until - back * width
    stored = []
    for tp, (reason, project), quantities in zip(cells, names, written, strict=False):
        bucket = int(until - tp.back * width) // 10 * 10
        for version, quantity in enumerate(quantities):
            row = Cell(org_id, bucket, quantity, *tp[1:3], reason, *tp[3:], version, project)
            stored.append(row)
    others = [row._replace(org_id=neighbour, quantity=2**50) for row in stored]
    for version in sorted({row.version for row in stored}, reverse=backwards):  # in one insert they would be merged
        insert_counts(database, [*(row for row in stored if row.version == version), *others])
        others = []

    def expected(counted: list[Cell]) -> list[tuple[int, int]]:
        sums: Counter[int] = Counter()
        for row in newest(counted):
            if row.category in (0, 1, 3) and row.outcome in COUNTED[stat]:
                sums[row.bucket // width * width] += row.quantity
        return [(start, sums[start]) for start in model(since, until, width)]

    asked = organization_stats(database, org_id, stat=stat, since=since, until=until, resolution=resolution)
    assert asked == expected(stored)
    query = StatsQuery(org_id, stat, buckets_of(since, until, width), (2, 3), grouped=True)
    by_project = {key: expected([row for row in stored if row.project_id == key]) for key in (2, 3)}
    assert read_series(database, query) == by_project
    query = StatsQuery(org_id, "blacklisted", query.buckets, (2,), reason="ip-address")
    stat = "blacklisted"
    filtered = [row for row in stored if row.project_id == 2 and row.reason == "ip-address"]
    assert read_series(database, query) == {2: expected(filtered)}
