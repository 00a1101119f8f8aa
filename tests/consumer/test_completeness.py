"""Up to when counts are complete: never later than the first record that was acknowledged and not counted."""

from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting.completeness import MOST_LOOKS, Moment, SeenEnds


def at(now_ms: int, *, ahead_ms: int = 0) -> Moment:
    """A moment by clocks that are ahead; the steady clock began with the epoch."""
    return Moment(now_ms + ahead_ms, now_ms / 1000, now_ms / 1000)


def test_at_the_end_counts_are_complete_until_the_look() -> None:
    """All that was acknowledged before somebody looked lies below the end that was seen then."""
    seen = SeenEnds()
    seen.saw(at(1_000), 50)
    assert seen.complete_until_ms(49) == 0
    assert seen.complete_until_ms(50) == 1_000


def test_behind_the_end_the_last_end_that_was_reached_counts() -> None:
    """Whoever lags three looks behind is complete until the look three before."""
    seen = SeenEnds(900)
    for second in range(1, 7):
        seen.saw(at(second * 1_000), second * 10)
    assert seen.complete_until_ms(35) == 3_000
    assert seen.complete_until_ms(35) == 3_000
    assert seen.complete_until_ms(60) == 6_000


def test_records_hidden_by_an_open_transaction_hold_it_back() -> None:
    """While the position stands at the last stable offset and the log grows, nothing more is complete."""
    seen = SeenEnds()
    seen.saw(at(1_000), 100)
    assert seen.complete_until_ms(100) == 1_000
    for second in range(2, 9):
        seen.saw(at(second * 1_000), 5_100)
        assert seen.complete_until_ms(100) == 1_000
    assert seen.complete_until_ms(5_101) == 8_000


def test_a_time_to_come_that_another_process_told_is_forgotten() -> None:
    """Nobody knows how long ago it was told, nor what was acknowledged since."""
    seen = SeenEnds(9_000)
    seen.saw(at(8_000), 10)
    assert seen.complete_until_ms(9) == 0
    assert seen.complete_until_ms(10) == 8_000


def test_looks_by_clocks_that_were_ahead_are_set_right() -> None:
    """How long ago a look was is known, whatever the clocks said then; also when it is past by the right ones."""
    for passed in (500, 5_000):
        seen = SeenEnds()
        seen.saw(at(1_000, ahead_ms=2_000), 10)
        seen.saw(at(1_400, ahead_ms=2_000), 20)
        assert seen.complete_until_ms(10) == 3_000  # nobody can tell yet
        seen.saw(at(1_400 + passed), 30)
        assert 990 < seen.complete_until_ms(10) <= 1_000
        assert 1_390 < seen.complete_until_ms(20) <= 1_400
        assert seen.complete_until_ms(30) == 1_400 + passed


def test_clocks_are_believed_to_the_time_that_they_took_to_answer() -> None:
    """Else each slow answer would set back what was told before."""
    seen = SeenEnds()
    seen.saw(Moment(1_000, 0.9, 1.2), 10)
    seen.saw(Moment(2_000, 1.9, 2.9), 20)
    assert seen.complete_until_ms(10) == 1_000


def test_a_long_lag_is_remembered_coarsely() -> None:
    """However long it lasts, what is remembered stays small, and is never later than it was."""
    seen = SeenEnds()
    for second in range(1, 20_000):
        seen.saw(at(second), second)
    assert len(seen._looks) <= MOST_LOOKS
    assert 0 < seen.complete_until_ms(10_000) <= 10_000
    assert seen.complete_until_ms(19_999) == 19_999


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 9), st.integers(0, 9), st.integers(0, 3)), max_size=400))
def test_never_later_than_a_record_that_is_not_counted(steps: list[tuple[int, int, int, int]]) -> None:
    """In any order of time passing, the log growing, being cut back and being counted, with any looks between.

    Clocks may be ahead at any look; whenever they are right, so is what is told.
    """
    seen, now, acknowledged, position = SeenEnds(), 1, list[int](), 0
    for passing, grown, counted, ahead in steps:
        now += passing
        seen.saw(at(now, ahead_ms=10 * ahead), len(acknowledged))
        if grown < 0:
            del acknowledged[len(acknowledged) + grown :]
            position = min(position, len(acknowledged))
        acknowledged += [now] * grown
        position = min(position + counted, len(acknowledged))
        told = seen.complete_until_ms(position)
        assert told <= now + 10 * ahead
        assert ahead or told <= min(acknowledged[position:], default=now)
