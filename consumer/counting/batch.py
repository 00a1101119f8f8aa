"""From raw records to tallies, fast: what is alike is counted together by compiled code.

There are three ways, each for what the one before it leaves, and they give the same tallies, by test: by kind, which
decodes only the first of the records that are alike (`fast_path.pyx`; where no compiler was at hand, it is absent);
in parts, with which the interpreter has little to do as long as nothing in them is odd; and record by record.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import filterfalse
from operator import itemgetter
from typing import Final, NamedTuple, Protocol

import msgspec

from orgstats.consumer.counting.chunk import Tally
from orgstats.consumer.counting.decode import LAST_BUCKET, AgeLimits, Undecodable, bucket_of, decode, event_second
from orgstats.consumer.counting.packing import packed
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.schemas.event import Event
from orgstats.schemas.outcomes import BUCKET_SECONDS

try:
    from orgstats.consumer.counting.fast_path import FastPath
except ImportError:  # there was no C compiler
    FastPath = None  # type: ignore[assignment,misc]
COMPILED: Final = FastPath is not None

PLAIN_LENGTH: Final = 1000
"""A longer value may be nested too deep, which only the careful decoder decides."""

PendingKey = tuple[int | None, int | None, int, int | None, int, str | None, int | None]
"""A tally as a plain tuple, in its order, which hashes and compares faster."""
Tallies = Counter[PendingKey]

_PART: Final = 512
"""Records counted at once: so many stay in the processor's cache from step to step."""
_SLICE: Final = 64
"""A part that holds something odd is counted in chunks of this size, so that only its neighbours are slow too."""

_REMEMBERED: Final = 10_000
"""Buckets of so many spellings are remembered: a day has 8,640."""

_decode_event: Final[Callable[[bytes], Event]] = msgspec.json.Decoder(Event).decode
_DIGITS_TO_ZERO: Final = bytes(ord("0") if chr(i).isdigit() and i < 128 else i for i in range(256))
_UTC_SHAPE: Final = re.compile(rb"0000-00-00T00:00:00(\.0+)?Z\n")
_ten_seconds: Final = itemgetter(slice(len("2020-03-22T00:00:0")))


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

    row: bytes = b""
    refusals: list[Rejected] = field(default_factory=list)
    out_of_bounds: int = 0
    highest_ms: int = -1


class Pending:
    """Tallies of one partition that are not folded yet, first seen first.

    `kinds` counts the records that have a kind, unless there is none. The order is for the reasons alone, of which
    only the first of a chunk are kept: `reasons` holds those that are known to be in their place.
    """

    def __init__(self, kinds: "FastPath | None" = None) -> None:
        self.tallies: Tallies = Counter()
        self.kinds = kinds
        self.reasons: set[str | None] = set()


class BatchCounter:
    """Counts runs of records of one partition into pending tallies. Pure: rules and limits are given."""

    def __init__(self, limits: AgeLimits, rules: RuleHistory) -> None:
        self.rules = rules
        self._limits = limits
        self._buckets: dict[str, int] = {}

    def pending(self) -> Pending:
        """For the tallies of a partition."""
        return Pending(FastPath(*self._limits) if COMPILED else None)

    def count(self, run: Sequence[Record], pending: Pending) -> RunResult:
        """Count a run in offset order into `pending`; nothing is raised for bad records."""
        if len(self._buckets) > _REMEMBERED:
            self._buckets.clear()
        counted = RunResult(packed(run))
        if pending.kinds is None:
            self._count_odd(run, range(len(run)), pending, counted)
        else:
            self._count_kinds(run, pending.kinds, pending, counted)
        return counted

    def fold(self, pending: Pending) -> list[tuple[Tally, int]]:
        """Tallies, first seen first; none are pending afterwards."""
        tallies, pending.tallies = pending.tallies, Counter()
        pending.reasons.clear()
        if pending.kinds is not None:
            for key, events in pending.kinds.take():
                tallies[key] += events
        return [(Tally(*key), events) for key, events in tallies.items() if events]

    def _count_kinds(self, run: Sequence[Record], kinds: "FastPath", pending: Pending, counted: RunResult) -> None:
        odd: list[int] = []

        def first(value: bytes) -> tuple[int, PendingKey] | None:
            key = self._key(value)
            if key is None:
                return None
            reason = key[5]
            if reason not in pending.reasons:
                self._count_odd(run, odd, pending, counted)
                odd.clear()
                pending.reasons.add(reason)
            pending.tallies.setdefault(key, 0)  # its place in the order
            return key[2], key

        counted.highest_ms = kinds.count(counted.row, first, odd)
        self._count_odd(run, odd, pending, counted)

    def _key(self, value: bytes) -> PendingKey | None:
        """What a record with a kind counts as in its own time; None if its text does not say, or is wrong."""
        try:
            e = _decode_event(value)
            bucket = self._bucket(_ten_seconds(e.timestamp))  # type: ignore[arg-type]  # it is a string
        except (msgspec.DecodeError, Undecodable):
            return None
        if e.outcome is None or not 0 <= bucket <= LAST_BUCKET:
            return None
        return e.org_id, e.project_id, bucket, e.category, e.outcome, e.reason, e.quantity

    def _count_odd(self, run: Sequence[Record], places: Sequence[int], pending: Pending, counted: RunResult) -> None:
        """Count the records at these places of a run: in parts, and in smaller ones where something is odd in them."""
        values = [run[at].value() for at in places]
        timestamps_ms = [run[at].timestamp()[1] for at in places]
        counted.highest_ms = max(max(timestamps_ms, default=-1), counted.highest_ms)
        for start in range(0, len(places), _PART):
            part = slice(start, start + _PART)
            if not self._count_plain(values[part], timestamps_ms[part], pending.tallies):
                self._count_mixed(values[part], timestamps_ms[part], places[part], pending.tallies, counted)

    def _count_plain(self, values: Sequence[bytes | None], timestamps_ms: Sequence[int], tallies: Tallies) -> bool:
        """Count a run in which every record is short, valid, classified, in one spelling of UTC, and in bounds.

        False, and nothing counted, when anything is else: then the careful way decides record by record.
        """
        try:
            if max(map(len, values)) > PLAIN_LENGTH:  # type: ignore[arg-type]
                return False
            for value in filterfalse(bytes.isascii, values):  # type: ignore[arg-type]
                value.decode()  # type: ignore[union-attr]  # msgspec does not look into text that it skips
            events = list(map(_decode_event, values))  # type: ignore[arg-type]
            when = [event.timestamp for event in events]
            lines = ("\n".join(when) + "\n").encode("ascii").translate(_DIGITS_TO_ZERO)  # type: ignore[arg-type]
        except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError):
            return False
        shape = lines[: lines.index(b"\n") + 1]
        if _UTC_SHAPE.fullmatch(shape) is None or lines != shape * len(events):
            return False
        tens: list[str] = list(map(_ten_seconds, when))  # type: ignore[arg-type]  # all are strings
        if not self._in_bounds(set(tens), min(timestamps_ms), max(timestamps_ms)):
            return False
        buckets = map(self._buckets.__getitem__, tens)  # one object for all of a bucket: tuples compare faster
        keys: list[PendingKey]
        if None in [event.outcome for event in events]:
            keys = self._classified_keys(events, buckets, timestamps_ms)
        else:
            keys = [
                (e.org_id, e.project_id, bucket, e.category, e.outcome, e.reason, e.quantity)  # type: ignore[misc]
                for e, bucket in zip(events, buckets, strict=True)
            ]
        tallies.update(keys)
        return True

    def _count_mixed(
        self,
        values: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
        places: Sequence[int],
        tallies: Tallies,
        counted: RunResult,
    ) -> None:
        for start in range(0, len(values), _SLICE):
            piece = slice(start, start + _SLICE)
            if not self._count_plain(values[piece], timestamps_ms[piece], tallies):
                self._count_each(values[piece], timestamps_ms[piece], places[piece], tallies, counted)

    def _in_bounds(self, tens: set[str], earliest_ms: int, latest_ms: int) -> bool:
        """Whether each of these ten seconds lies within the age limits of each of these Kafka timestamps."""
        lowest = max(latest_ms // 1000 - self._limits.max_age_seconds + 1, 0)
        highest = min(earliest_ms // 1000 + self._limits.max_ahead_seconds - BUCKET_SECONDS, LAST_BUCKET)
        try:
            return all(ten[-1] < "6" and lowest <= self._bucket(ten) <= highest for ten in tens)
        except Undecodable:  # 31 February; leap seconds, :60, are for the careful way too
            return False

    def _bucket(self, ten_seconds: str) -> int:
        """Bucket of a time like `2020-03-22T00:00:0`, remembered."""
        bucket = self._buckets.get(ten_seconds)
        if bucket is None:
            bucket = self._buckets[ten_seconds] = event_second(f"{ten_seconds}0Z")
        return bucket

    def _classified_keys(
        self, events: Sequence[Event], buckets: Iterable[int], timestamps_ms: Sequence[int]
    ) -> list[PendingKey]:
        classify = self.rules.classify
        keys: list[PendingKey] = []
        for e, bucket, timestamp_ms in zip(events, buckets, timestamps_ms, strict=True):
            outcome, reason = (e.outcome, e.reason) if e.outcome is not None else classify(e, timestamp_ms)
            keys.append((e.org_id, e.project_id, bucket, e.category, outcome, reason, e.quantity))
        return keys

    def _count_each(
        self,
        values: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
        places: Sequence[int],
        tallies: Tallies,
        counted: RunResult,
    ) -> None:
        for value, timestamp_ms, at in zip(values, timestamps_ms, places, strict=True):
            try:
                e = decode(value)
                second = event_second(e.timestamp)
            except Undecodable as dead:
                counted.refusals.append(Rejected(at, dead.code, dead.text))
                continue
            bucket, moved = bucket_of(second, timestamp_ms, self._limits)
            counted.out_of_bounds += moved
            outcome, reason = (e.outcome, e.reason) if e.outcome is not None else self.rules.classify(e, timestamp_ms)
            tallies[e.org_id, e.project_id, bucket, e.category, outcome, reason, e.quantity] += 1
