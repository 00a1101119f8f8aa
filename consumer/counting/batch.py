"""From raw records to tallies, fast: what is alike is counted together by compiled code.

There are two ways, which give the same tallies, by test: by kind, which decodes only the first of the records that are
alike (`fast_path.pyx`; where no compiler was at hand, it is absent), and record by record, for those that have no kind.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import msgspec

from orgstats.consumer.counting.chunk import Chunk, Tally
from orgstats.consumer.counting.decode import AgeLimits, Undecodable, bucket_of, decode, event_second
from orgstats.consumer.counting.packing import packed
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.schemas.event import Event

try:
    from orgstats.consumer.counting.fast_path import Classifier, FastPath, Kinds
except ImportError:  # there was no C compiler
    Classifier = FastPath = Kinds = None  # type: ignore[assignment,misc]
COMPILED: Final = FastPath is not None

PendingKey = tuple[int | None, int | None, int | None, int, int | None, int, str | None, int | None]
"""A tally as a plain tuple, in its order, which hashes and compares faster."""
Kind = tuple[tuple[int | None, ...], tuple[int | str | None, ...], str | None]
"""What records of a kind count as: a PendingKey up to its bucket, what follows the bucket, and the reason in it."""
Tallies = Counter[PendingKey]

MOST_KINDS: Final = 65_536
"""So many kinds are remembered, about half a kilobyte each; then they are met anew."""

_decode_event: Final[Callable[[bytes], Event]] = msgspec.json.Decoder(Event).decode


class Record(Protocol):
    """What is needed of a Kafka record; confluent-kafka's Message has it."""

    def offset(self) -> int: ...
    def value(self) -> bytes | None: ...
    def key(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def leader_epoch(self) -> int | None: ...


class Rejected(NamedTuple):
    """A record that becomes a dead letter: where it stands in the run, a stable code, what is wrong."""

    at: int
    code: str
    text: str


@dataclass(slots=True)
class RunResult:
    """What came of a run: dead letters, how many events had a time out of bounds, the highest Kafka timestamp.

    `row` is the run as `packed` gives it, for the chain over the log.
    """

    row: bytes | memoryview = b""
    refusals: list[Rejected] = field(default_factory=list)
    out_of_bounds: int = 0
    highest_ms: int = -1


class Pending:
    """Tallies of one partition that are not folded yet, first seen first.

    `fast` counts the records that have a kind, unless there is none. The order is for the reasons alone, of which
    only the first of a chunk are kept.
    """

    def __init__(self, fast: "FastPath | None" = None) -> None:
        self.tallies: Tallies = Counter()
        self.fast = fast


class BatchCounter:
    """Counts runs of records of one partition into pending tallies. Pure: rules and limits are given."""

    def __init__(self, limits: AgeLimits, rules: RuleHistory) -> None:
        self._rules = rules
        self._limits = limits
        self._classifier: Classifier | None = None
        self._kinds: Kinds | None = None

    @property
    def rules(self) -> RuleHistory:
        """What classifies; while its entries stay the same, what is known of them is kept."""
        return self._rules

    @rules.setter
    def rules(self, rules: RuleHistory) -> None:
        if rules.entries != self._rules.entries:
            self._classifier = None
        self._rules = rules

    def pending(self) -> Pending:
        """For the tallies of a partition."""
        return Pending(FastPath(*self._limits) if COMPILED else None)

    def count(self, run: Sequence[Record], pending: Pending) -> RunResult:
        """Count a run in offset order into `pending`; nothing is raised for bad records."""
        counted = RunResult(packed(run))
        if pending.fast is None:
            self._count_each(run, range(len(run)), pending.tallies, counted)
        else:
            self._count_kinds(run, pending.fast, pending.tallies, counted)
        return counted

    def fold_into(self, chunk: Chunk, pending: Pending) -> Counter[int]:
        """Count what is pending in a chunk; how many events, by outcome."""
        fast = pending.fast if chunk.takes_kinds else None
        if fast is None:
            tallies = self.fold(pending)
        else:
            keys, pending.tallies = pending.tallies, Counter()
            tallies = [(Tally(*key), events) for key, events in (*keys.items(), *fast.take_earlier())]
        chunk.add(tallies)
        by_outcome: Counter[int] = Counter() if fast is None else chunk.add_kinds(fast)
        for tally, events in tallies:
            by_outcome[tally.outcome] += events
        return by_outcome

    def fold(self, pending: Pending) -> list[tuple[Tally, int]]:
        """Tallies, first seen first; none are pending afterwards."""
        tallies, pending.tallies = pending.tallies, Counter()
        if pending.fast is not None:
            for key, events in pending.fast.take():
                tallies[key] += events
        return [(Tally(*key), events) for key, events in tallies.items() if events]

    def _count_kinds(self, run: Sequence[Record], fast: "FastPath", tallies: Tallies, counted: RunResult) -> None:
        odd: list[int] = []
        if self._classifier is None:
            self._classifier = Classifier(self._rules)
        if self._kinds is None or len(self._kinds) >= MOST_KINDS:
            self._kinds = Kinds()

        def place(key: PendingKey) -> None:
            """Give the first record of a reason its place in the order."""
            self._count_each(run, odd, tallies, counted)
            odd.clear()
            tallies.setdefault(key, 0)

        highest_ms = fast.count(counted.row, self._classifier, self._kinds, self._kind, place, odd)
        self._count_each(run, odd, tallies, counted)
        counted.highest_ms = highest_ms

    def _kind(self, value: bytes, timestamp_ms: int) -> Kind | None:
        """What a record with a kind counts as, whenever it was; None if it is wrong."""
        try:
            e = _decode_event(value)
        except msgspec.DecodeError:
            return None
        outcome, reason = (e.outcome, e.reason) if e.outcome is not None else self.rules.classify(e, timestamp_ms)
        return (e.org_id, e.project_id, e.key_id), (e.category, outcome, reason, e.quantity), reason

    def _count_each(self, run: Sequence[Record], places: Sequence[int], tallies: Tallies, counted: RunResult) -> None:
        """Count the records at these places of a run, one by one."""
        for at in places:
            record = run[at]
            timestamp_ms = record.timestamp()[1]
            counted.highest_ms = max(counted.highest_ms, timestamp_ms)
            try:
                e = decode(record.value())
                second = event_second(e.timestamp)
            except Undecodable as dead:
                counted.refusals.append(Rejected(at, dead.code, dead.text))
                continue
            bucket, moved = bucket_of(second, timestamp_ms, self._limits)
            counted.out_of_bounds += moved
            outcome, reason = (e.outcome, e.reason) if e.outcome is not None else self.rules.classify(e, timestamp_ms)
            tallies[e.org_id, e.project_id, e.key_id, bucket, e.category, outcome, reason, e.quantity] += 1
