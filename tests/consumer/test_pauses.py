"""Why nothing is read: any reason is enough, and only the first and the last of them change anything."""

from orgstats.consumer import metrics
from orgstats.consumer.pauses import PauseReason, Pauses


def test_reading_pauses_with_the_first_reason_and_resumes_with_the_last() -> None:
    """In between nothing is to be done."""
    pauses = Pauses()
    assert pauses.set(PauseReason.RULES, on=True)
    assert not pauses.set(PauseReason.NOT_STORED, on=True)
    assert not pauses.set(PauseReason.RULES, on=False)
    assert pauses
    assert pauses.set(PauseReason.NOT_STORED, on=False)
    assert not pauses


def test_a_reason_given_twice_is_one() -> None:
    """And one that does not hold may be taken back."""
    pauses = Pauses()
    assert not pauses.set(PauseReason.RULES, on=False)
    pauses.set(PauseReason.RULES, on=True)
    assert not pauses.set(PauseReason.RULES, on=True)
    assert pauses.set(PauseReason.RULES, on=False)


def test_the_metric_tells_whether_reading_is_paused() -> None:
    """orgstats_paused."""
    pauses = Pauses()
    for on in (True, False):
        pauses.set(PauseReason.UNSTORED, on=on)
        assert metrics.REGISTRY.get_sample_value("orgstats_paused") == on
