from collections.abc import Callable, Sequence

from orgstats.consumer.counting.batch import PendingKey, Record
from orgstats.consumer.counting.rule_history import RuleHistory

def packed(run: Sequence[Record]) -> bytes: ...

class Classifier:
    history: RuleHistory
    def __init__(self, history: RuleHistory) -> None: ...

class FastPath:
    def __init__(self, max_age_seconds: int, max_ahead_seconds: int) -> None: ...
    def count(
        self,
        row: bytes,
        rules: Classifier,
        first: Callable[[bytes, int], tuple[int, PendingKey] | None],
        odd: list[int],
    ) -> int: ...
    def take(self) -> list[tuple[PendingKey, int]]: ...
