"""The series semantics against a brute-force model of the contract's own words."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from orgstats.query.series import LAST_SECOND, Buckets, buckets_of, default_width, filled

seconds = st.one_of(
    st.integers(0, LAST_SECOND).map(float),
    st.floats(0, LAST_SECOND),
    st.integers(0, 50_000_000).map(lambda n: n * 86.4),
)
widths = st.sampled_from([10, 3_600, 86_400])


def model(since: float, until: float, width: int) -> list[int]:
    """The contract, word for word, in exact arithmetic: step back from until, floor each, sort."""
    value, starts = Fraction(until), []
    while value >= Fraction(since):
        starts.append(int(value // width) * width)
        value -= width
    return sorted(starts)


@given(until=seconds, back=st.floats(0, 300), width=widths)
@example(until=3600.0, back=1.0, width=3600)
@example(until=0.0, back=24.0, width=3600)
@example(until=4294967295.0, back=10.0, width=10)
def test_buckets_are_those_of_the_model(until: float, back: float, width: int) -> None:
    """Whatever the window and the width, the buckets are those that stepping back from until gives."""
    since = until - back * width
    assert list(buckets_of(since, until, width)) == model(since, until, width)


def test_fractional_until_keeps_its_bucket() -> None:
    """The difference 3600 - 1e-20 rounds to 3600, yet 0 lies before the window."""
    assert buckets_of(1e-20, 3600.0, 3600) == Buckets(3600, 3600, 1)
    assert buckets_of(0.0, 3600.0, 3600) == Buckets(0, 3600, 2)


@given(until=seconds, back=st.floats(0, 300), width=widths)
def test_buckets_are_aligned_and_gap_free(until: float, back: float, width: int) -> None:
    """Starts are multiples of the width, one width apart, and the last bucket holds until."""
    starts = list(buckets_of(until - back * width, until, width))
    assert all(start % width == 0 for start in starts)
    assert all(later - earlier == width for earlier, later in pairwise(starts))
    assert starts[-1] <= until < starts[-1] + width


@given(since=seconds, length=st.floats(0, 2_000_000))
def test_the_default_width_depends_on_whole_seconds(since: float, length: float) -> None:
    """Up to 3,600 s the width is 10 s, up to 604,800 s it is an hour, then a day."""
    n = int(since + length) - int(since)
    assert default_width(since, since + length) == (10 if n <= 3600 else 3600 if n <= 604800 else 86400)


def test_a_missing_count_is_zero() -> None:
    """Buckets that nothing was counted in are there with 0; counts of other buckets are not."""
    assert filled(Buckets(0, 10, 3), {10: 7, 30: 9}) == [(0, 0), (10, 7), (20, 0)]
