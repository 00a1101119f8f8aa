"""Usage by groups: what is asked for, and the answers on a real engine against a model that adds up rows one by one."""

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.params import InvalidQuery
from orgstats.query.usage import Usage, groups_of, parse_summary, parse_usage, parse_window, summary_of
from tests.query.seeding import Cell, insert_counts

NOW = 1_615_734_567.5  # 2021-03-14T15:09:27.5Z
QUANTITY = ("field", "sum(quantity)")
BY_CATEGORY = ("groupBy", "category")
Pairs = list[tuple[str, str]]

organization_ids = itertools.count(1)


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([], 'At least one "field" is required.'),
        ([("field", "")], 'At least one "field" is required.'),
        ([("field", "sum(x)")], 'Invalid field: "sum(x)"'),
        ([QUANTITY, ("groupBy", "key")], 'Invalid groupBy: "key"'),
        ([QUANTITY, BY_CATEGORY, ("category", "errors")], 'Invalid category: "errors"'),
        ([QUANTITY, BY_CATEGORY, ("outcome", "lost")], 'Invalid outcome: "lost"'),
        ([QUANTITY, BY_CATEGORY, ("key_id", "public")], 'Invalid key: "public"'),
        ([QUANTITY, BY_CATEGORY, ("key_id", "-1")], 'Invalid key: "-1"'),
        ([QUANTITY, BY_CATEGORY, ("project", "pump")], 'Invalid project: "pump"'),
        ([QUANTITY, BY_CATEGORY, ("project", "-2")], 'Invalid project: "-2"'),
        ([QUANTITY, BY_CATEGORY, ("project", str(2**64))], f'Invalid project: "{2**64}"'),
        (
            [QUANTITY, ("category", "attachment"), ("category", "error")],
            "if filtering by attachment no other category may be present",
        ),
        ([QUANTITY, BY_CATEGORY, ("start", "2021-03-14")], "start and end are both required"),
        ([QUANTITY, BY_CATEGORY, ("end", "2021-03-14")], "start and end are both required"),
        (
            [QUANTITY, BY_CATEGORY, ("start", "2021-03-14"), ("end", "2021-03-13T23:59:59+00:00")],
            "start must be before end",
        ),
        (
            [QUANTITY, BY_CATEGORY, ("start", "yesterday"), ("end", "2021-03-14")],
            'Invalid start: "yesterday"; a time as in 2021-03-14T15:00:00Z, from 1970 to 2106',
        ),
        (
            [QUANTITY, BY_CATEGORY, ("start", "2021-03-14"), ("end", "9999-03-14")],
            'Invalid end: "9999-03-14"; a time as in 2021-03-14T15:00:00Z, from 1970 to 2106',
        ),
        *(
            (
                [QUANTITY, BY_CATEGORY, ("start", text), ("end", "2021-03-14")],
                f'Invalid start: "{text}"; a time as in 2021-03-14T15:00:00Z, from 1970 to 2106',
            )
            for text in ("2021", "1615716000000", "-86400", "9999999999", "1e9", "nan")
        ),
        ([QUANTITY, ("groupBy", "outcome")], "Query must have category as groupby or filter"),
        (
            [QUANTITY, BY_CATEGORY, ("statsPeriod", "soon")],
            "Invalid statsPeriod; a whole number and one of s, m, h, d, w, as in 24h",
        ),
        (
            [QUANTITY, BY_CATEGORY, ("statsPeriod", "90d"), ("interval", "1h")],
            "This range has 2,161 intervals, more than the limit of 1,000; the finest interval that would fit is 3h.",
        ),
        *(
            (
                [QUANTITY, BY_CATEGORY, ("interval", text)],
                f'Invalid interval: "{text}"; from 1m to 1d, in whole minutes that divide a day',
            )
            for text in ("10s", "7m", "2d", "1w", "0m", "h", "-1h", "1.5h")
        ),
    ],
)
def test_what_has_no_answer_is_refused_in_words(pairs: Pairs, text: str) -> None:
    """One sentence each, and for too many intervals the finest that fits."""
    with pytest.raises(InvalidQuery) as caught:
        parse_usage(1, pairs, NOW)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("pairs", "start", "end", "interval"),
    [
        ([], "2021-03-13T15:00:00Z", "2021-03-14T16:00:00Z", 3_600),
        ([("statsPeriod", "2w"), ("interval", "1d")], "2021-02-28T00:00:00Z", "2021-03-15T00:00:00Z", 86_400),
        (
            [("start", "2021-03-14T10:00:00"), ("end", "2021-03-14T12:00:00"), ("interval", "30m")],
            "2021-03-14T10:00:00Z",
            "2021-03-14T12:00:00Z",
            1_800,
        ),
        (
            [("start", "2021-03-14T10:00:01+02:00"), ("end", "2021-03-14T12:00:00.5Z")],
            "2021-03-14T08:00:00Z",
            "2021-03-14T13:00:00Z",
            3_600,
        ),
        (
            [("start", "1615716001"), ("end", "1615723200.5"), ("interval", "1m")],
            "2021-03-14T10:00:00Z",
            "2021-03-14T12:01:00Z",
            60,
        ),
        ([("start", "2021-03-14T10:00:01 02:00"), ("end", "2021-03-14T12:00Z")], "2021-03-14T08:00:00Z", None, 3_600),
    ],
)
def test_the_range_is_widened_to_whole_intervals(pairs: Pairs, start: str, end: str | None, interval: int) -> None:
    """A time without a zone is UTC, a `+` that arrived as a blank is one, and a number is epoch seconds."""
    query = parse_usage(1, [QUANTITY, BY_CATEGORY, *pairs], NOW)
    answer = groups_of(query, [])
    assert (answer["start"], query.interval) == (start, interval)
    assert end in (None, answer["end"])
    assert answer["intervals"][0] == start
    assert answer["groups"] == []


def test_an_answer_of_too_many_points_is_refused() -> None:
    """Producers choose reasons, so one organization could ask for any number of them."""
    asked = [QUANTITY, ("groupBy", "reason"), ("category", "error"), ("statsPeriod", "40d")]
    query = parse_usage(1, asked, NOW)
    rows = [(f"reason {n}", query.start, 1, 1) for n in range(105)]
    with pytest.raises(InvalidQuery, match="105 groups would have 100,905 points, more than the limit of 100,000"):
        groups_of(query, rows * 2)
    assert len(groups_of(query, rows[:104])["groups"]) == 104


def test_default_and_security_can_be_asked_for_alone() -> None:
    """They are shown as error, which stands for all three."""
    query = parse_usage(1, [QUANTITY, ("category", "default"), ("category", "security")], NOW)
    assert query.categories == (0, 3)


@pytest.mark.parametrize(
    ("name", "category"), [("replays", 7), ("profiles", 6), ("profile_chunk", 18), ("profile_chunk_ui", 26)]
)
def test_categories_that_generated_clients_know_can_be_asked_for(name: str, category: int) -> None:
    """The published description of the summary names two in the plural."""
    assert parse_usage(1, [QUANTITY, ("category", name)], NOW).categories == (category,)


def test_names_that_are_shown_are_those_that_are_filtered_for() -> None:
    """Error stands for three categories, spike_protection and none for reasons that are stored otherwise."""
    names = [("category", "error"), ("outcome", "outcome 9"), ("reason", "spike_protection"), ("reason", "none")]
    query = parse_usage(1, [QUANTITY, *names, ("project", "5"), ("project", "-1")], NOW)
    assert query.categories == (0, 1, 3)
    assert query.outcomes == (9,)
    assert query.reasons == ("", "none", "smart_rate_limit", "spike_protection")
    assert query.projects is None


# What one pass over the rows gives

HOUR = 1_615_680_000
OUTCOME_NAMES = {0: "accepted", 1: "filtered", 2: "rate_limited", 9: "outcome 9"}
CATEGORY_NAMES = {0: "error", 1: "error", 3: "error", 2: "transaction", 4: "attachment", 200: "category 200"}
REASON_NAMES = {"": "none", "smart_rate_limit": "spike_protection", "quota": "quota", "none": "none"}
cells = st.builds(
    Cell,
    org_id=st.just(0),
    bucket=st.integers(-400, 9_000).map(lambda ten: HOUR + 10 * ten),
    quantity=st.integers(0, 3),
    outcome=st.sampled_from(list(OUTCOME_NAMES)),
    category=st.sampled_from(list(CATEGORY_NAMES)),
    reason=st.sampled_from(list(REASON_NAMES)),
    project_id=st.integers(0, 2),
    key_id=st.integers(0, 2),
    source_id=st.just(1),
    chunk=st.integers(0, 10**9),
    version=st.just(1),
    events=st.integers(0, 3),
)


def several(name: str, values: list[str]) -> st.SearchStrategy[Pairs]:
    return st.lists(st.sampled_from(values), max_size=2).map(lambda found: [(name, value) for value in found])


asked = st.tuples(
    st.sampled_from([[QUANTITY], [("field", "sum(times_seen)")], [("field", "sum(times_seen)"), QUANTITY]]),
    st.lists(st.sampled_from(["outcome", "category", "reason", "project", "key_id"]), max_size=4).map(
        lambda names: [("groupBy", name) for name in names]
    ),
    several("category", ["error", "transaction", "category 200"]).filter(bool),
    several("outcome", list(OUTCOME_NAMES.values())),
    several("reason", list(REASON_NAMES.values())),
    several("project", ["0", "1", "-1", "7"]),
    several("key_id", ["0", "1", "7"]),
    st.sampled_from(["1m", "10m", "1h", "90m", "6h", "1d"]),
    st.integers(HOUR - 5_000, HOUR + 30_000),
    st.integers(1, 50_000),
)


def shown(cell: Cell) -> dict[str, Any]:
    return {
        "outcome": OUTCOME_NAMES[cell.outcome],
        "category": CATEGORY_NAMES[cell.category],
        "reason": REASON_NAMES[cell.reason],
        "project": cell.project_id,
        "key_id": cell.key_id,
    }


def moment(seconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def expected(pairs: Pairs, found: list[Cell], start: int, end: int, width: int) -> dict[str, Any]:
    """The answer, made of the rows one by one."""
    chosen = {name: {value for given, value in pairs if given == name} for name in ("category", "outcome", "reason")}
    projects, keys = ({int(value) for name, value in pairs if name == of} for of in ("project", "key_id"))
    order = [name for name in ("outcome", "category", "reason", "project", "key_id") if ("groupBy", name) in pairs]
    sums: dict[tuple[Any, ...], Counter[tuple[str, int]]] = {}
    for cell in found:
        named = shown(cell)
        if any(wanted and named[name] not in wanted for name, wanted in chosen.items()):
            continue
        if (projects and -1 not in projects and cell.project_id not in projects) or not start <= cell.bucket < end:
            continue
        if keys and cell.key_id not in keys:
            continue
        counted = sums.setdefault(tuple(named[name] for name in order), Counter())
        counted["sum(quantity)", (cell.bucket - start) // width] += cell.quantity
        counted["sum(times_seen)", (cell.bucket - start) // width] += cell.events or 0
    fields = [name for name in ("sum(quantity)", "sum(times_seen)") if ("field", name) in pairs]
    groups = []
    for key in sorted(sums):
        totals = {field: sum(n for (name, _), n in sums[key].items() if name == field) for field in fields}
        group: dict[str, Any] = {"by": dict(zip(order, key, strict=True)), "totals": totals}
        if "project" not in order:
            group["series"] = {field: [sums[key][field, n] for n in range((end - start) // width)] for field in fields}
        if any(sums[key].values()):
            groups.append(group)
    answer: dict[str, Any] = {"start": moment(start), "end": moment(end), "groups": groups}
    if "project" not in order:
        answer["intervals"] = [moment(at) for at in range(start, end, width)]
    return answer


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(cells, max_size=30, unique_by=lambda cell: cell.chunk), asked=asked)
def test_groups_equal_one_pass_over_the_rows(database: Database, found: list[Cell], asked: tuple[Any, ...]) -> None:
    """Whatever range, interval, groups and filters, of whatever rows; another organization has the same ones."""
    *lists, interval, start, length = asked
    pairs: Pairs = [pair for one in lists for pair in one]
    org_id = next(organization_ids)
    insert_counts(database, [cell._replace(org_id=org_id) for cell in found])
    width = {"1m": 60, "10m": 600, "1h": 3_600, "90m": 5_400, "6h": 21_600, "1d": 86_400}[interval]
    window = [("start", moment(start)), ("end", moment(start + length)), ("interval", interval)]
    query = parse_usage(org_id, [*pairs, *window], NOW)
    answer = groups_of(query, database.read(sql.usage(query)))
    from_, to = start // width * width, -(-(start + length) // width) * width
    assert answer == expected(pairs, found, from_, to, width)


def test_a_summary_has_each_project_with_its_categories_and_outcomes(database: Database) -> None:
    """Totals are of all outcomes of a category."""
    cell = Cell(500, HOUR, 3, project_id=7)
    insert_counts(
        database,
        [cell, cell._replace(quantity=4, outcome=2), cell._replace(quantity=5, category=2, project_id=8)],
    )
    query = parse_summary(500, [("start", "2021-03-14"), ("end", "2021-03-15")], NOW)
    assert summary_of(Usage(query, database.read(sql.usage(query))), {7: "pump"})["projects"] == [
        {
            "id": "7",
            "slug": "pump",
            "stats": [
                {
                    "category": "error",
                    "outcomes": {"accepted": 3, "rate_limited": 4},
                    "totals": {"sum(quantity)": 7},
                }
            ],
        },
        {
            "id": "8",
            "slug": "",
            "stats": [{"category": "transaction", "outcomes": {"accepted": 5}, "totals": {"sum(quantity)": 5}}],
        },
    ]


def test_windows_of_all_organizations_are_made_of_wide_buckets_where_they_are_long() -> None:
    """Of hours where the interval is, else of 10 s, for a day at most."""
    day = [("start", "1600000000"), ("end", "1600086000")]
    assert parse_window(day, NOW) == range(1_599_998_400, 1_600_088_400, 3_600)
    assert parse_window([*day, ("interval", "10m")], NOW) == range(1_599_999_600, 1_600_086_000, 10)
    with pytest.raises(InvalidQuery, match="a day at most"):
        parse_window([("start", "1600000000"), ("end", "1600090000"), ("interval", "10m")], NOW)
