from collections.abc import Callable, Sequence

from orgstats.consumer.counting.batch import Kind, PendingKey, Record
from orgstats.consumer.counting.rule_history import RuleHistory

def packed(run: Sequence[Record]) -> bytes: ...

class Classifier:
    history: RuleHistory
    def __init__(self, history: RuleHistory) -> None: ...

class Kinds:
    def __len__(self) -> int: ...

class FastPath:
    def __init__(self, max_age_seconds: int, max_ahead_seconds: int) -> None: ...
    def count(
        self,
        row: bytes,
        rules: Classifier,
        kinds: Kinds,
        first: Callable[[bytes, int], Kind | None],
        place: Callable[[PendingKey], None],
        odd: list[int],
    ) -> int: ...
    def take(self) -> list[tuple[PendingKey, int]]: ...
