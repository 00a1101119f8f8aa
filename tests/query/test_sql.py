"""Statements: what they always hold, what they bind, and that the engine takes every one."""

import pytest

from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.params import StatsQuery
from orgstats.query.series import Buckets
from orgstats.query.sql import Statement
from orgstats.schemas.outcomes import STATS, Stat

HOURS = Buckets(7_200, 3_600, 3)
TENS = Buckets(7_200, 10, 3)
DAYS = Buckets(0, 86_400, 3)


def test_one_statement_text_for_every_resolution() -> None:
    """Organization, range, width of the stored buckets and of those that are shown are parameters."""
    asked = [sql.series(StatsQuery(7, "received", buckets)) for buckets in (TENS, HOURS, DAYS)]
    assert len({statement.text for statement in asked}) == 1
    assert len({tuple(statement.settings.items()) for statement in asked}) == 1
    assert [dict(statement.parameters) for statement in asked] == [
        {"org": 7, "width": 10, "step": 10, "first": 7_200, "last": 7_220},
        {"org": 7, "width": 3_600, "step": 3_600, "first": 7_200, "last": 14_400},
        {"org": 7, "width": 3_600, "step": 86_400, "first": 0, "last": 3 * 86_400 - 3_600},
    ]


@pytest.mark.parametrize(
    ("stat", "total"),
    [
        ("received", "sum(toUInt128(accepted)) + sum(toUInt128(filtered)) + sum(toUInt128(rate_limited))"),
        ("rejected", "sum(toUInt128(rate_limited))"),
        ("blacklisted", "sum(toUInt128(filtered))"),
    ],
)
def test_a_stat_is_a_sum_of_totals(stat: Stat, total: str) -> None:
    """An organization's series adds up the columns of the stat's outcomes, of rows of one width."""
    text = sql.series(StatsQuery(7, stat, HOURS)).text
    assert (
        f" {total} AS total\nFROM totals FINAL\nPREWHERE org_id = {{org:UInt64}} AND width = {{width:UInt16}}" in text
    )


@pytest.mark.parametrize(
    ("stat", "outcomes"),
    [
        ("received", "outcome IN (0, 1, 2)"),
        ("rejected", "outcome IN (2)"),
        ("blacklisted", "outcome IN (1)"),
    ],
)
@pytest.mark.parametrize(("buckets", "table"), [(TENS, "counts"), (HOURS, "hourly"), (DAYS, "hourly")])
def test_a_series_of_projects_is_filtered(stat: Stat, outcomes: str, buckets: Buckets, table: str) -> None:
    """It names the organization, the range, the error categories and the stat's outcomes, and reads hours as such."""
    text = sql.series(StatsQuery(7, stat, buckets, (1, 2))).text
    assert f"FROM {table} FINAL\nPREWHERE org_id = {{org:UInt64}}\n  AND bucket BETWEEN toDateTime({{first" in text
    assert "category IN (0, 1, 3)" in text
    assert outcomes in text


def test_projects_are_bound() -> None:
    """The projects asked for are one parameter."""
    statement = sql.series(StatsQuery(7, "received", HOURS, (3, 4)))
    assert statement.parameters["projects"] == [3, 4]


def test_range_is_clamped_to_datetime() -> None:
    """Buckets before 1970 and after the last second of DateTime are not sent to the server."""
    early = sql.series(StatsQuery(7, "received", Buckets(-7_200, 3_600, 3)))
    late = sql.series(StatsQuery(7, "received", Buckets(4_294_944_000, 86_400, 1)))
    assert (early.parameters["first"], early.parameters["last"]) == (0, 0)
    assert late.parameters["last"] == 4_294_967_290


@pytest.mark.parametrize("name", ["12", "007", str(2**64 - 1)])
def test_numeric_name_is_an_id(name: str) -> None:
    """A name of digits only that is a possible id is looked up as one."""
    assert sql.organization(name).parameters == {"org": int(name)}


@pytest.mark.parametrize("name", ["acme", "1a", str(2**64), "\u0661", "-1", "1' OR 1=1 --", "9" * 5000])
def test_other_name_is_a_slug(name: str) -> None:
    """Whatever is no id is bound as text."""
    assert sql.organization(name).parameters == {"slug": name}


ALL_STATEMENTS = [
    *(
        sql.series(StatsQuery(1, stat, buckets, projects))
        for stat in STATS
        for buckets in (TENS, HOURS)
        for projects in (None, (1, 2), (2**64 - 1,))
    ),
    *(sql.series(StatsQuery(1, "blacklisted", buckets, (1,), reason="x")) for buckets in (TENS, HOURS)),
    *(sql.ids_with_events([1, 2]), sql.projects_with_events(1, [2]), sql.filtered_for(1, 2, "x")),
    *(sql.organization("acme"), sql.organization("12"), sql.organizations(), sql.projects(2**64 - 1)),
    *(sql.tokens_of(["0" * 64]), sql.tokens(), sql.sources()),
]


def test_the_engine_takes_every_statement(database: Database) -> None:
    """No statement fails on empty tables."""
    for statement in ALL_STATEMENTS:
        assert database.read(statement) == []


@pytest.mark.parametrize(
    "text", ["'", "\\", "\\'", "a\nb\t\0\r", "{slug:String}", "%(x)s", "'; DROP TABLE counts; --", "é💥"]
)
def test_text_parameters_arrive_unchanged(text: str, database: Database) -> None:
    """Whatever a bound text holds, the server sees the same text."""
    assert database.read(Statement("SELECT {slug:String}", {"slug": text})) == [(text,)]
