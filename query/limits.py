"""How many requests a caller may make: a fixed window per caller, counted in this process."""

import math
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a caller's requests after this one; `reset_at` in epoch seconds."""

    limit: int
    remaining: int
    reset_at: int
    allowed: bool


class RateLimit:
    """At most `limit` requests per caller in each window of `seconds`; 0 means as many as they like.

    Windows are aligned to the epoch and shared by all callers, so the memory is that of one window. Each
    process counts for itself: behind n of them a caller gets up to n times the limit.
    """

    def __init__(self, limit: int, seconds: int) -> None:
        self.limit = limit
        self.seconds = seconds
        self._window = 0
        self._used: Counter[str] = Counter()

    def take(self, caller: str, now: float) -> Quota:
        """Count one request of `caller` at `now` (epoch seconds)."""
        window = int(now) // self.seconds
        if window != self._window:
            self._window = window
            self._used.clear()
        self._used[caller] += 1
        remaining = self.limit - self._used[caller]
        reset_at = (window + 1) * self.seconds
        return Quota(self.limit, max(0, remaining), reset_at, allowed=remaining >= 0 or not self.limit)


def retry_after(quota: Quota, now: float) -> int:
    """Whole seconds until the caller may try again, at least 1."""
    return max(1, math.ceil(quota.reset_at - now))
