"""The parameters of a request: defaults, spellings, limits and the exact texts of what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgstats.query.params import MAX_BUCKETS, InvalidQuery, Parameters, Selection, check_points, parse, parse_selection
from orgstats.query.series import LAST_SECOND, Buckets
from orgstats.schemas.outcomes import STATS

NOW = 1_584_907_200.0


def parsed(*pairs: tuple[str, str]) -> Parameters:
    return parse(pairs, NOW)


def fault(*pairs: tuple[str, str]) -> str:
    with pytest.raises(InvalidQuery) as caught:
        parse(pairs, NOW)
    return str(caught.value)


def test_the_default_is_the_last_24_hours_of_received() -> None:
    """Without parameters the answer is 24 hourly buckets, the last of which holds now."""
    assert parsed() == Parameters("received", Buckets(1_584_824_400, 3_600, 24))


@pytest.mark.parametrize("stat", STATS)
def test_every_stat_has_its_name(stat: str) -> None:
    """Each of the three stats is asked for by its name."""
    assert parsed(("stat", stat)).stat == stat


def test_since_defaults_to_a_day_before_until() -> None:
    """A given until moves the default since along, to 24 hourly points."""
    assert parsed(("until", "1584000000.5")).buckets == Buckets(1_583_917_200, 3_600, 24)


def test_an_early_until_has_buckets_before_the_epoch() -> None:
    """The default window keeps its 24 points when it reaches back beyond 1970."""
    assert parsed(("until", "0")).buckets == Buckets(-82_800, 3_600, 24)


@pytest.mark.parametrize(
    ("spelling", "width"),
    [
        ("10s", 10),
        ("1h", 3600),
        ("60m", 3600),
        ("3600s", 3600),
        ("1d", 86400),
        ("24h", 86400),
        ("1440m", 86400),
        ("86400s", 86400),
        ("010s", 10),
    ],
)
def test_spellings_of_a_resolution(spelling: str, width: int) -> None:
    """Any integer and unit that comes to a stored width is a resolution."""
    query = parsed(("resolution", spelling), ("since", "1584900000"))
    assert query.buckets.width == width


@pytest.mark.parametrize(
    "spelling",
    [
        "1m",
        "10",
        "s",
        "h",
        "1w",
        "1.0h",
        "-1h",
        "+1h",
        " 1h",
        "1h ",
        "1H",
        "1_0s",
        "0s",
        "\u0661\u0660s",
        "10s\n",
        "9" * 5000,
    ],
)
def test_other_resolutions_are_refused(spelling: str) -> None:
    """A resolution of another form or length is a fault."""
    assert fault(("resolution", spelling)) == "Invalid resolution"


@pytest.mark.parametrize(("seconds", "width"), [(0, 10), (3600, 10), (3601, 3600), (604_800, 3600), (604_801, 86400)])
def test_the_finest_fitting_resolution_is_the_default(seconds: int, width: int) -> None:
    """Without a resolution the window's length in whole seconds decides, its ends counting in."""
    query = parsed(("since", str(1_584_000_000 - seconds)), ("until", "1584000000.9"))
    assert query.buckets.width == width


@pytest.mark.parametrize("text", ["1584000000", "1584000000.0", "1.584e9", " 1584000000 ", "+1584000000"])
def test_spellings_of_a_number(text: str) -> None:
    """Integers, fractions, exponents and surrounding blanks are numeric timestamps."""
    assert parsed(("until", text)).buckets.last == 1_584_000_000


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "1e400",
        "-1",
        "4294967296",
        "1_000",
        "0x10",
        "1,5",
        " ",
        ".",
        "e5",
        "\u0663",
        "2020-01-01",
        "1584907200;",
        "\x00",
        "1 2",
        "--1",
    ],
)
def test_invalid_timestamps_are_refused(text: str) -> None:
    """No number, NaN, infinity and numbers out of DateTime's range each give the original's text."""
    assert fault(("until", text)) == "until must be a numeric timestamp."
    assert fault(("since", text)) == "since must be a numeric timestamp"


def test_the_ends_of_the_range_are_timestamps() -> None:
    """Both 0 and the last second that can be stored may be asked for."""
    assert parsed(("since", "0"), ("until", "0")).buckets == Buckets(0, 10, 1)
    assert parsed(("since", "4294967295"), ("until", "4294967295")).buckets.last == LAST_SECOND // 10 * 10


def test_since_after_until_is_refused() -> None:
    """since after until is a fault, since equal to until is not."""
    assert fault(("since", "101"), ("until", "100.5")) == "start must be before or equal to end"
    assert parsed(("since", "100.5"), ("until", "100.5")).buckets == Buckets(100, 10, 1)


@pytest.mark.parametrize("stat", ["GENERATED", "Received", " received", "received'--", "💥"])
def test_unknown_stats_are_named(stat: str) -> None:
    """The fault repeats the stat as it was given."""
    assert fault(("stat", stat)) == f"Invalid stat: {stat}"


def test_the_last_of_a_repeated_parameter_counts() -> None:
    """Earlier values of a repeated parameter are not even looked at."""
    assert parsed(("stat", "nonsense"), ("stat", "rejected")).stat == "rejected"


@pytest.mark.parametrize("name", ["stat", "since", "until", "resolution"])
def test_an_empty_value_is_an_absent_one(name: str) -> None:
    """An empty value gives the default, also when it is the last of several."""
    assert parsed((name, "")) == parsed()
    assert parsed((name, "nonsense"), (name, "")) == parsed()


def test_unknown_parameters_are_ignored() -> None:
    """Names that mean nothing here change nothing."""
    assert parsed(("interval", "1h"), ("Stat", "rejected"), ("", "x"), ("org_id", "7")) == parsed()


def test_the_limit_of_buckets_names_what_would_fit() -> None:
    """One bucket too many is a fault that names the limit, the resolution that fits, and the range that would."""
    exactly = parsed(("since", "0"), ("until", str(10 * MAX_BUCKETS - 10)), ("resolution", "10s"))
    assert exactly.buckets.length == MAX_BUCKETS
    text = fault(("since", "0"), ("until", str(10 * MAX_BUCKETS)), ("resolution", "10s"))
    assert text == (
        "This range has 10,001 buckets of 10s, more than the limit of 10,000; the finest resolution that would fit is"
        " 1h. With 10s ask for a shorter range, of at most 27 hours."
    )


@pytest.mark.parametrize(
    ("resolution", "range_text", "seconds"),
    [("10s", "27 hours", 27 * 3_600), ("1h", "416 days", 416 * 86_400), ("1d", "9,999 days", 9_999 * 86_400)],
)
def test_the_range_that_fits_does_fit(resolution: str, range_text: str, seconds: int) -> None:
    """What the fault says can be asked for of a resolution is answered."""
    last = 4_000_000_000
    text = fault(("since", "0"), ("until", str(last)), ("resolution", resolution))
    assert text.endswith(f"With {resolution} ask for a shorter range, of at most {range_text}.")
    since = str(last - seconds)
    assert parsed(("since", since), ("until", str(last)), ("resolution", resolution)).buckets.length <= MAX_BUCKETS


def test_range_too_long_for_every_resolution_is_refused() -> None:
    """The whole range of time is too long for days, and the text says so."""
    assert "no resolution would fit" in fault(("since", "0"), ("until", "4294967295"))


def selection_fault(*pairs: tuple[str, str]) -> str:
    with pytest.raises(InvalidQuery) as caught:
        parse_selection(pairs)
    return str(caught.value)


def test_ids_are_collected() -> None:
    """id and projectID keep every value they are given that is not empty."""
    pairs = [("id", "1"), ("id", "2"), ("projectID", "3"), ("projectID", ""), ("group", "project")]
    assert parse_selection(pairs) == Selection("project", frozenset({3}), frozenset({1, 2}))


def test_without_selection_the_organization_is_read() -> None:
    """Absent and empty parameters select the organization's own series."""
    assert parse_selection([]) == parse_selection([("group", "project"), ("group", ""), ("id", "")]) == Selection()


def test_selected_projects_exist() -> None:
    """projectID and id keep what both name, and only among the projects that exist."""
    assert Selection("project").projects([3, 1]) == (1, 3)
    assert Selection("project", frozenset({1, 2, 9}), frozenset({2, 3, 9})).projects([1, 2, 3]) == (2,)


@pytest.mark.parametrize("name", ["id", "projectID"])
@pytest.mark.parametrize("text", ["x", "1.5", "1 OR 1=1", "\u0663", "9" * 5000])
def test_ids_are_integers(name: str, text: str) -> None:
    """Anything else is a fault that names the parameter."""
    assert selection_fault((name, text)) == f"{name} must be an integer"


def test_unknown_groups_are_named() -> None:
    """Only organization and project can be grouped by."""
    assert selection_fault(("group", "key")) == "Invalid group: key; organization or project"


def test_an_answer_holds_a_limited_number_of_points() -> None:
    """More series times buckets than the limit is a fault that names it."""
    check_points(Buckets(0, 10, 10_000), 10)
    with pytest.raises(InvalidQuery, match="100,000"):
        check_points(Buckets(0, 10, 10_000), 11)


def test_the_first_fault_is_told_in_the_original_order() -> None:
    """With everything wrong the faults come out in the order in which the original looks."""
    wrong = {"since": "x", "until": "x", "resolution": "x", "stat": "x"}
    told = []
    for name in ("stat", "resolution", "until", "since"):
        told.append(fault(*wrong.items()))
        del wrong[name]
    assert told == [
        "Invalid stat: x",
        "Invalid resolution",
        "until must be a numeric timestamp.",
        "since must be a numeric timestamp",
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stat", "since", "until", "resolution", "id", "projectID", "group", "x"]),
            st.text()
            | st.sampled_from(["received", "1h", "10s", "project"])
            | st.integers().map(str)
            | st.floats().map(repr),
        )
    )
)
def test_any_parameters_are_a_query_or_an_invalid_query(pairs: list[tuple[str, str]]) -> None:
    """Whatever is sent, parsing gives a value within the limits or the one exception."""
    try:
        parse_selection(pairs)
        query = parse(pairs, NOW)
    except InvalidQuery:
        return
    assert 1 <= query.buckets.length <= MAX_BUCKETS
