"""Sends dead letters to their topic again, each once, whatever is killed or run twice; transformed, where asked for.

For the dead letters of each topic:

1. A transactional producer: it aborts what an earlier redrive left open, and ends one that still runs.
2. All whose fate is unknown are looked for in the target, by a header that names their origin, from the ends that
   the target had before they were sent. Those that were found are `sent`, those that surely are not are `aborted`.
   Where the log has lost the place nobody can tell, and they are left alone.
3. Of those of which the store now says that no record of theirs was or will be counted, some at a time: the target's
   ends; sent in a transaction; marked `redriving`; committed; marked `sent`. So nothing uncertain is ever sent.

Failure semantics: killed in 3 before the commit, nothing was sent; after it, step 2 of the next run finds what
was. So the same command is run again until it says that nothing is left.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from orgstats.consumer.counting.decode import Undecodable, decode, event_second
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.ops.connections import Connections, SourceStatus, locate
from orgstats.consumer.ops.dead_letters import (
    SENDABLE,
    DeadLetter,
    Filter,
    UncertainLetter,
    groups,
    mark,
    pages,
    uncertain,
)
from orgstats.consumer.ops.sending import Sender, Transformed
from orgstats.consumer.ops.settling import look
from orgstats.consumer.ops.targets import Target, deleted_too_soon, open_target
from orgstats.consumer.ops.transforms import Transform, hops_of, transform

UNKNOWN = (
    "maybe sent by a redrive that was interrupted, and the target no longer has the place where that could be seen: "
    "if they were counted drop them with dead-letters drop, if not add --send-unknown"
)


@dataclass(frozen=True, slots=True)
class RedriveOptions:
    """How to redrive: `target` None is each dead letter's own topic; `rate` records a second, 0 for no limit.

    `timestamp_now` gives the records the present time as Kafka timestamp instead of their own; `send_unknown` sends
    those again of which the log no longer tells whether they were sent.
    """

    transforms: Sequence[Transform] = ()
    target: str | None = None
    max_hops: int = 3
    rate: float = 0.0
    limit: int = 1_000_000
    execute: bool = False
    by: str = ""
    stopping: Callable[[], bool] = lambda: False
    timestamp_now: bool = False
    send_unknown: bool = False


@dataclass(slots=True)
class RedriveResult:
    """What came of it; `left` holds dead letters that stay, by why, `examples` a place of each.

    `found` were sent by a redrive that was interrupted, `uncertain` may have been: a run that executes looks them
    up. `refused` of those left need an operator's decision.
    """

    sent: int = 0
    found: int = 0
    uncertain: int = 0
    refused: int = 0
    left: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def leave(self, why: str, letter: DeadLetter | UncertainLetter, *, refused: bool = False) -> None:
        """Note one that stays."""
        self.left[why] += 1
        self.refused += refused
        self.examples.setdefault(why, letter.place)


def redrive(connections: Connections, which: Filter, options: RedriveOptions) -> RedriveResult:
    """Redrive what the filter finds; without `execute` say what would be."""
    done = RedriveResult()
    remaining = options.limit
    for topic in sorted({group.topic for group in groups(connections.store, which, ["topic"])}):
        remaining -= _Redrive(connections, topic, options, done).run(replace(which, topics=(topic,)), remaining)
    return done


class _Redrive:
    """The redrive of one topic's dead letters."""

    def __init__(self, connections: Connections, topic: str, options: RedriveOptions, done: RedriveResult) -> None:
        self._connections, self._options, self._done = connections, options, done
        self._target: Target = open_target(connections, options.target or topic)
        self._sender = Sender(connections, topic) if options.execute else None
        self._whole = _Whole(connections)

    def run(self, which: Filter, limit: int) -> int:
        """Returns how many dead letters were looked at, at most `limit`."""
        self._settle(uncertain(self._connections.store, which))
        seen = 0
        for page in pages(self._connections.store, replace(which, actions=SENDABLE), limit):
            if self._options.stopping():
                break
            seen += len(page)
            began = time.monotonic()
            ready = [transformed for one in page if (transformed := self._transformed(one)) is not None]
            self._done.sent += len(ready)
            if self._sender is None:
                continue
            if ready:
                self._sender.send(self._target, ready, self._options.by)
            if self._options.rate:
                time.sleep(max(0.0, len(ready) / self._options.rate - (time.monotonic() - began)))
        return seen

    def _settle(self, letters: Sequence[UncertainLetter]) -> None:
        """Say in the store what an interrupted redrive has sent, and what it has not."""
        if self._sender is None:
            self._done.uncertain += len(letters)
            return
        settled = look(self._connections, letters)
        sent = [letter for letter, _ in settled.sent]
        mark(self._connections.store, sent, "sent", self._options.by, [to for _, to in settled.sent])
        absent = settled.absent + (settled.unknown if self._options.send_unknown else [])
        mark(self._connections.store, absent, "aborted", self._options.by)
        self._done.found += len(sent)
        if not self._options.send_unknown:
            for letter in settled.unknown:
                self._done.leave(UNKNOWN, letter, refused=True)

    def _transformed(self, letter: DeadLetter) -> Transformed | None:
        """What to send; None when the dead letter stays."""
        if hops_of(letter.headers) >= self._options.max_hops:
            self._done.leave(f"redriven {self._options.max_hops} times already", letter)
            return None
        payload = letter.payload if letter.payload_bytes <= len(letter.payload) else self._whole.payload(letter)
        if payload is None:
            self._done.leave("its payload is longer than what is stored, and no longer in the log", letter)
            return None
        transformed = transform(payload, letter.kafka_ms, self._options.transforms)
        if transformed is None:
            self._done.leave("not a JSON object, so it cannot be transformed", letter)
            return None
        try:
            event_second(decode(transformed).timestamp)
        except Undecodable as still:
            self._done.leave(f"still {still.code}", letter)
            return None
        now_ms = time.time_ns() // 1_000_000
        timestamp_ms = now_ms if self._options.timestamp_now else letter.kafka_ms
        gone = deleted_too_soon(self._target.settings, timestamp_ms, now_ms)
        if gone is not None:
            self._done.leave(gone, letter, refused=True)
            return None
        return letter, transformed, timestamp_ms


class _Whole:
    """Payloads that are longer than what is stored, read from the log again."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._located: dict[int, SourceStatus] | None = None

    def payload(self, letter: DeadLetter) -> bytes | None:
        """None when the record is no longer in the log, or another one is at its offset since the log was cut back."""
        if self._located is None:
            self._located = {one.source.source_id: one for one in locate(self._connections)}
        one = self._located.get(letter.source_id)
        if one is None or not one.low <= letter.offset < one.end:
            return None
        tp = (letter.topic, letter.partition)
        with LogReader(self._connections.settings.kafka_properties(), one.isolation) as reader:
            runs = [run for run, _ in reader.read(tp, letter.offset, letter.offset + 1)]
        whole = next((message.value() for run in runs for message in run), None) or b""
        return whole if len(whole) == letter.payload_bytes and whole.startswith(letter.payload) else None
