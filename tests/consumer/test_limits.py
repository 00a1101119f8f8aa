"""Dead letter limits: what is bad luck and what is a producer gone wrong."""

import pytest

from orgstats.consumer.counting.limits import DeadLetterLimits, DeadLetterWatch


def test_a_run_halts_when_it_reaches_its_length_across_batches() -> None:
    """Dead letters in a row are counted from the end of one batch into the next."""
    watch = DeadLetterWatch(DeadLetterLimits(run=5))
    assert watch.see(10, [7, 8, 9]) is None
    assert "5 records in a row" in (watch.see(10, [0, 1]) or "")


def test_one_good_record_ends_a_run() -> None:
    """A run that a good record interrupts starts again from nothing, also at the edge of a batch."""
    watch = DeadLetterWatch(DeadLetterLimits(run=4))
    assert watch.see(4, [1, 2, 3]) is None
    assert watch.see(4, [1, 2, 3]) is None
    assert watch.see(1, []) is None
    assert watch.see(3, [0, 1, 2]) is None
    assert watch.see(1, [0]) is not None


def test_a_share_is_classified_over_whole_windows_only() -> None:
    """Before a window is full nothing is said: a handful of first records proves nothing."""
    watch = DeadLetterWatch(DeadLetterLimits(share=0.5, window=100))
    assert watch.see(60, list(range(60))) is None
    assert "100% of the last 120" in (watch.see(60, list(range(60))) or "")


def test_a_share_forgets_what_lies_before_the_window() -> None:
    """Old dead letters do not add up over days."""
    watch = DeadLetterWatch(DeadLetterLimits(share=0.2, window=100))
    for _ in range(100):
        assert watch.see(10, [3]) is None
    assert watch.see(40, list(range(0, 40, 2))) is not None


@pytest.mark.parametrize("limits", [DeadLetterLimits(), DeadLetterLimits(share=0, run=0)])
def test_zero_switches_a_limit_off(limits: DeadLetterLimits) -> None:
    """With both limits at 0 nothing but dead letters goes on for ever."""
    watch = DeadLetterWatch(limits)
    assert all(watch.see(1000, list(range(1000))) is None for _ in range(100))
