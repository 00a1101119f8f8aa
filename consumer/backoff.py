"""How long to wait before the next try, the longer the more tries failed in a row."""

from typing import Final

FIRST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 30.0


def backoff_seconds(failures: int) -> float:
    """0.5 s after the first failure, twice as long after each further one, at most 30 s."""
    return min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
