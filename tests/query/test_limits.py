"""The rate limit, with time as an argument."""

from orgstats.query.limits import Quota, RateLimit, retry_after


def test_a_caller_has_so_many_requests_in_a_window() -> None:
    """The limit counts down, refuses, and starts anew with the next window."""
    limit = RateLimit(2, 10)
    assert limit.take("a", 100.0) == Quota(2, 1, 110, allowed=True)
    assert limit.take("a", 109.9) == Quota(2, 0, 110, allowed=True)
    assert limit.take("a", 109.9) == Quota(2, 0, 110, allowed=False)
    assert limit.take("a", 110.0) == Quota(2, 1, 120, allowed=True)


def test_each_caller_has_its_own_quota() -> None:
    """What one caller uses is not taken from another."""
    limit = RateLimit(1, 10)
    assert limit.take("a", 100.0).allowed
    assert limit.take("b", 100.0).allowed
    assert not limit.take("a", 100.0).allowed


def test_limit_zero_allows_everything() -> None:
    """0 lets everything through."""
    limit = RateLimit(0, 1)
    assert all(limit.take("a", 5.0).allowed for _ in range(1000))


def test_retry_after_is_the_rest_of_the_window() -> None:
    """In whole seconds, rounded up, never 0."""
    quota = Quota(1, 0, 110, allowed=False)
    assert [retry_after(quota, now) for now in (100.0, 100.5, 109.9, 110.0)] == [10, 10, 1, 1]
