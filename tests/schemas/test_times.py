"""Times as they are given on a command line."""

import pytest

from orgstats.times import format_time, parse_length, parse_time

NOW = 1_584_907_200.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOW),
        ("1584824400", 1_584_824_400.0),
        ("1584824400.5", 1_584_824_400.5),
        ("0", 0.0),
        ("2020-03-21T21:00:00Z", 1_584_824_400.0),
        ("2020-03-21t21:00:00z", 1_584_824_400.0),
        ("2020-03-21T22:00:00+01:00", 1_584_824_400.0),
        ("2020-03-21 21:00", 1_584_824_400.0),
        ("2020-03-21T21:00:00.25Z", 1_584_824_400.25),
        ("2020-03-22", 1_584_835_200.0),
        ("-2h", NOW - 7_200),
        ("+90d", NOW + 90 * 86_400),
        ("-1.5m", NOW - 90),
        (" -1w ", NOW - 604_800),
    ],
)
def test_parse_time_forms(text: str, seconds: float) -> None:
    """Epoch seconds, RFC 3339 with UTC as the default offset, and distances from now."""
    assert parse_time(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2h", "-2", "-h", "--2h", "nan", "1e9", "1_0", "2020-13-01", "2020-03-21T25:00", "\u0661", "-2y"],
)
def test_invalid_times_are_refused(text: str) -> None:
    """Anything else is refused with a text for people."""
    with pytest.raises(ValueError, match=r"is not a"):
        parse_time(text, NOW)


@pytest.mark.parametrize("text", ["1584824400000", "4294967296", "-9999w", "+999999999d", "9999-12-31"])
def test_times_out_of_range_are_refused(text: str) -> None:
    """Milliseconds, and what is before 1970 or after the last second that can be stored, are told to be no moment."""
    with pytest.raises(ValueError, match="out of range 0 to 4294967295; seconds, not milliseconds"):
        parse_time(text, NOW)


def test_parse_length_forms() -> None:
    """A number and a unit."""
    assert [parse_length(text) for text in ("30s", "2m", "1h", "1d", "2w")] == [30, 120, 3_600, 86_400, 1_209_600]
    with pytest.raises(ValueError, match="not a length of time"):
        parse_length("-1h")


def test_format_time_is_rfc_3339() -> None:
    """UTC, to the second."""
    assert format_time(1_584_824_400.9) == "2020-03-21T21:00:00Z"
