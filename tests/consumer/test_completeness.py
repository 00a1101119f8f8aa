"""Up to when counts are complete: never later than the first record that was acknowledged and not counted."""

from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting.completeness import MOST_LOOKS, SeenEnds


def test_at_the_end_counts_are_complete_until_the_look() -> None:
    """All that was acknowledged before somebody looked lies below the end that was seen then."""
    seen = SeenEnds()
    seen.saw(1_000, 50)
    assert seen.complete_until_ms(49) == 0
    assert seen.complete_until_ms(50) == 1_000


def test_behind_the_end_the_last_end_that_was_reached_counts() -> None:
    """Whoever lags three looks behind is complete until the look three before."""
    seen = SeenEnds(900)
    for second in range(1, 7):
        seen.saw(second * 1_000, second * 10)
    assert seen.complete_until_ms(35) == 3_000
    assert seen.complete_until_ms(35) == 3_000
    assert seen.complete_until_ms(60) == 6_000


def test_records_hidden_by_an_open_transaction_hold_it_back() -> None:
    """While the position stands at the last stable offset and the log grows, nothing more is complete."""
    seen = SeenEnds()
    seen.saw(1_000, 100)
    assert seen.complete_until_ms(100) == 1_000
    for second in range(2, 9):
        seen.saw(second * 1_000, 5_100)
        assert seen.complete_until_ms(100) == 1_000
    assert seen.complete_until_ms(5_101) == 8_000


def test_a_time_to_come_is_taken_back() -> None:
    """Once the clock is set right, or another one is, what it told before does not outlive it."""
    seen = SeenEnds(9_000)
    seen.saw(8_000, 10)
    seen.saw(2_000, 20)
    assert seen.complete_until_ms(10) == 2_000


def test_a_long_lag_is_remembered_coarsely() -> None:
    """However long it lasts, what is remembered stays small, and is never later than it was."""
    seen = SeenEnds()
    for second in range(1, 20_000):
        seen.saw(second, second)
    assert len(seen._looks) <= MOST_LOOKS
    assert 0 < seen.complete_until_ms(10_000) <= 10_000
    assert seen.complete_until_ms(19_999) == 19_999


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 9), st.integers(0, 9)), max_size=400))
def test_never_later_than_a_record_that_is_not_counted(steps: list[tuple[int, int, int]]) -> None:
    """In any order of time passing, the log growing, being cut back and being counted, with any looks between."""
    seen, now, acknowledged, position = SeenEnds(), 1, list[int](), 0
    for passing, grown, counted in steps:
        now += passing
        seen.saw(now, len(acknowledged))
        if grown < 0:
            del acknowledged[len(acknowledged) + grown :]
            position = min(position, len(acknowledged))
        acknowledged += [now] * grown
        position = min(position + counted, len(acknowledged))
        assert seen.complete_until_ms(position) <= min(acknowledged[position:], default=now)
