"""Tries that failed are made the more rarely the more failed."""

import pytest

from orgstats.consumer.backoff import MOST_SECONDS, backoff_seconds


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0)])
def test_each_failure_doubles_the_wait_up_to_half_a_minute(failures: int, seconds: float) -> None:
    """0.5, 1, 2, 4, 8, 16, 30, 30 … seconds."""
    assert backoff_seconds(failures) == seconds


def test_a_wait_after_a_whole_night_of_failures_is_the_longest() -> None:
    """Where doubling for so long would not fit into a float."""
    assert backoff_seconds(10_000) == MOST_SECONDS
