"""When too many records cannot be decoded: halt before the store is flooded or anything is committed past it."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple


class DeadLetterLimits(NamedTuple):
    """How many dead letters of a partition are odd luck, and from where on a producer has gone wrong; 0 is off.

    `share` of the last `window` records at least; `run` dead letters in a row.
    """

    share: float = 0.0
    window: int = 10_000
    run: int = 0


class DeadLetterWatch:
    """Watches one partition against the limits. Pure: what it says follows from the records alone."""

    def __init__(self, limits: DeadLetterLimits) -> None:
        self._limits = limits
        self._run = 0
        self._recent: deque[tuple[int, int]] = deque()  # (records, dead letters among them), oldest first
        self._records = 0
        self._dead = 0

    def see(self, records: int, dead_at: Sequence[int]) -> str | None:
        """Why to halt after these records, of which those at `dead_at` are dead letters; None to go on."""
        longest = self._longest_run(records, dead_at)
        if self._limits.run and longest >= self._limits.run:
            return f"{longest} records in a row (limit {self._limits.run}, ORGSTATS_DEAD_LETTER_RUN)"
        self._slide(records, len(dead_at))
        if self._limits.share and self._records >= self._limits.window:
            share = self._dead / self._records
            if share > self._limits.share:
                limit = f"limit {self._limits.share:.0%}, ORGSTATS_DEAD_LETTER_SHARE"
                return f"{share:.0%} of the last {self._records} records ({limit})"
        return None

    def _longest_run(self, records: int, dead_at: Sequence[int]) -> int:
        longest, run, expected = 0, self._run, 0
        for at in dead_at:
            run = run + 1 if at == expected else 1
            expected = at + 1
            longest = max(longest, run)
        self._run = run if expected == records else 0
        return longest

    def _slide(self, records: int, dead: int) -> None:
        """Take these in, and forget the oldest as long as a whole window stays."""
        self._recent.append((records, dead))
        self._records += records
        self._dead += dead
        while self._records - self._recent[0][0] >= self._limits.window:
            oldest_records, oldest_dead = self._recent.popleft()
            self._records -= oldest_records
            self._dead -= oldest_dead
