from collections.abc import Callable, Iterable

from orgstats.consumer.counting.batch import PendingKey, Record

class FastPath:
    def __init__(self, max_age_seconds: int, max_ahead_seconds: int) -> None: ...
    def count(
        self, run: Iterable[Record], first: Callable[[bytes], tuple[int, PendingKey] | None], odd: list[int]
    ) -> int: ...
    def take(self) -> list[tuple[PendingKey, int]]: ...
