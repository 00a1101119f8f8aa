"""Sends mended dead letters to their topic again, each once, whatever is killed or run twice.

1. A transactional producer: it aborts what an earlier redrive left open, and ends one that still runs.
2. Dead letters whose fate is unknown are looked for in the target, by a header that names their origin, from the
   ends that the target had before they were sent.
3. Of the rest, some at a time: the target's ends; sent in a transaction; marked `redriving`; committed; marked
   `redriven`. Sending comes before marking, since only a producer that no other has ended gets through: so the
   ends that are marked are never beyond what another redrive sent.

Failure semantics: killed in 3 before the commit, nothing was sent; after it, step 2 of the next run finds what
was. So the same command is run again until it says that nothing is left.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from orgstats.consumer.counting.decode import Undecodable, decode, event_second
from orgstats.consumer.kafka.group import READ_COMMITTED
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.ops.connections import Connections, SourceStatus, locate
from orgstats.consumer.ops.dead_letters import DeadLetter, Filter, mark, pages
from orgstats.consumer.ops.mending import Mend, hops_of, mend, origin_of, redriven_headers
from orgstats.errors import OrgstatsError, Refused, Unavailable
from orgstats.failpoints import failpoint

ANSWER_SECONDS: Final = 30.0
OPEN_SECONDS: Final = 60.0
"""How long another producer's open transaction may hide the end of the target."""
_CONSUMER_ONLY: Final = (
    "group.",
    "session.",
    "heartbeat.",
    "max.poll.",
    "fetch.",
    "queued.",
    "isolation.",
    "partition.",
)

Origin = tuple[int, int]
"""(source_id, offset)."""


@dataclass(frozen=True, slots=True)
class RedriveOptions:
    """How to redrive: `target` None is each dead letter's own topic; `rate` records a second, 0 for no limit."""

    mends: Sequence[Mend] = ()
    target: str | None = None
    max_hops: int = 3
    rate: float = 0.0
    limit: int = 1_000_000
    execute: bool = False
    by: str = ""
    stopping: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class RedriveResult:
    """What came of it; `left` holds dead letters that stay, by why, `examples` a place of each."""

    sent: int = 0
    found: int = 0
    left: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def leave(self, why: str, letter: DeadLetter) -> None:
        """Note one that stays."""
        self.left[why] += 1
        self.examples.setdefault(why, letter.tp)


def redrive(site: Connections, which: Filter, how: RedriveOptions) -> RedriveResult:
    """Redrive what the filter finds; without `execute` say what would be. `site` is that of the target topics."""
    done = RedriveResult()
    whole = _Whole(site)
    producer = _producer(site) if how.execute else None
    _settle(site, which, how, done)
    for page in pages(site.store, which, how.limit):
        if how.stopping():
            break
        began = time.monotonic()
        ready = [(one, payload) for one in page if (payload := _mended(whole, one, how, done)) is not None]
        if producer is None:
            done.sent += len(ready)
            continue
        for target in sorted({_target(one, how) for one, _ in ready}):
            _send(site, producer, target, [pair for pair in ready if _target(pair[0], how) == target], how.by)
        done.sent += len(ready)
        if how.rate:
            time.sleep(max(0.0, len(ready) / how.rate - (time.monotonic() - began)))
    return done


def _target(letter: DeadLetter, how: RedriveOptions) -> str:
    return how.target or letter.topic


def _mended(whole: "_Whole", letter: DeadLetter, how: RedriveOptions, done: RedriveResult) -> bytes | None:
    """The payload to send; None when the dead letter stays."""
    if hops_of(letter.headers) >= how.max_hops:
        done.leave(f"redriven {how.max_hops} times already", letter)
        return None
    payload = letter.payload if letter.payload_bytes <= len(letter.payload) else whole.payload(letter)
    if payload is None:
        done.leave("its payload is longer than what is stored, and no longer in the log", letter)
        return None
    mended = mend(payload, letter.kafka_ms, how.mends)
    if mended is None:
        done.leave("not a JSON object, so it cannot be mended", letter)
        return None
    try:
        event_second(decode(mended).timestamp)
    except Undecodable as still:
        done.leave(f"still {still.code}", letter)
        return None
    return mended


class _Whole:
    """Payloads that are longer than what is stored, read from the log again."""

    def __init__(self, site: Connections) -> None:
        self._site = site
        self._located: dict[int, SourceStatus] | None = None

    def payload(self, letter: DeadLetter) -> bytes | None:
        """None when the record is no longer in the log."""
        if self._located is None:
            self._located = {one.source.source_id: one for one in locate(self._site)}
        one = self._located.get(letter.source_id)
        if one is None or letter.offset < one.low:
            return None
        tp = (letter.topic, letter.partition)
        with LogReader(self._site.settings.kafka_properties(), one.isolation) as reader:
            runs = [run for run, _ in reader.read(tp, letter.offset, letter.offset + 1)]
        return next((message.value() for run in runs for message in run), None)


def _settle(site: Connections, which: Filter, how: RedriveOptions, done: RedriveResult) -> None:
    """Mark as redriven what an interrupted redrive has sent."""
    uncertain = [one for page in pages(site.store, which, how.limit) for one in page if one.action == "redriving"]
    for target in sorted({one.target for one in uncertain}):
        of_target = [one for one in uncertain if one.target == target]
        sent = _origins(site, target, of_target)
        found = [one for one in of_target if (one.source_id, one.offset) in sent]
        done.found += len(found)
        if how.execute and found:
            mark(site.store, found, "redriven", how.by, target=target)


def _origins(site: Connections, target: str, letters: Sequence[DeadLetter]) -> set[Origin]:
    """Origins of redriven records in the target, from the earliest ends that any of these dead letters has."""
    tps = [(target, partition) for partition in range(site.topics.partitions(target))]
    firsts = [min((one.target_ends[p] for one in letters if p < len(one.target_ends)), default=0) for _, p in tps]
    isolation = site.settings.isolation
    ends = _visible_ends(site, tps, isolation)
    lows = site.topics.starts(tps)
    found: set[Origin] = set()
    with LogReader(site.settings.kafka_properties(), isolation) as reader:
        for tp, first in zip(tps, firsts, strict=True):
            start = max(first, lows[tp])
            for run, _ in reader.read(tp, start, ends[tp]) if start < ends[tp] else ():
                for message in run:
                    origin = origin_of(_pairs(message))
                    if origin is not None:
                        found.add(origin)
    return found


def _pairs(message: Message) -> list[tuple[str, bytes]]:
    return [(name, bytes(value or b"")) for name, value in message.headers() or ()]  # type: ignore[arg-type, str-unpack]


def _visible_ends(site: Connections, tps: Sequence[tuple[str, int]], isolation: str) -> Mapping[tuple[str, int], int]:
    """The ends of the target, once no open transaction hides a part of it any more."""
    wanted = site.topics.ends(tps, "read_uncommitted")
    deadline = time.monotonic() + OPEN_SECONDS
    while any(site.topics.ends(tps, isolation)[tp] < wanted[tp] for tp in tps):
        if time.monotonic() > deadline:
            raise Unavailable("an open transaction of another producer hides the end of the target; try again later")
        time.sleep(0.5)
    return wanted


def _producer(site: Connections) -> Producer:
    properties: dict[str, Any] = {
        name: value for name, value in site.settings.kafka_properties().items() if not name.startswith(_CONSUMER_ONLY)
    }
    if site.settings.isolation != READ_COMMITTED:
        raise Refused("a redrive needs consumers with isolation.level=read_committed: others count what was taken back")
    # Whoever asks for a producer has asked the admin client before, which tells of refused credentials.
    producer = Producer(
        {
            "log_level": 2,
            **properties,
            "error_cb": lambda _error: None,  # what librdkafka cannot mend comes out of the calls
            "transactional.id": f"orgstats-redrive-{site.settings.group}",
            "transaction.timeout.ms": 10_000,  # a killed redrive holds up consumers of the target this long
        }
    )
    _call(producer.init_transactions, ANSWER_SECONDS)
    return producer


def _send(
    site: Connections, producer: Producer, target: str, letters: Iterable[tuple[DeadLetter, bytes]], by: str
) -> None:
    """One transaction; see the steps at the top."""
    batch = list(letters)
    count = site.topics.partitions(target)
    ends = site.topics.ends([(target, partition) for partition in range(count)], "read_uncommitted")
    target_ends = [ends[target, partition] for partition in range(count)]
    _call(producer.begin_transaction)
    for letter, payload in batch:
        own: dict[str, Any] = (
            {"partition": letter.partition} if target == letter.topic and letter.partition < count else {}
        )
        headers = redriven_headers(letter.headers, letter.source_id, letter.offset)
        own |= {"key": letter.key or None, "headers": headers, "timestamp": letter.kafka_ms}
        _call(producer.produce, target, payload, **own)
        producer.poll(0)
    _call(producer.flush, ANSWER_SECONDS)
    failpoint("redrive_sent")
    mark(site.store, [one for one, _ in batch], "redriving", by, target=target, target_ends=target_ends)
    failpoint("redrive_marked")
    _call(producer.commit_transaction, ANSWER_SECONDS)
    failpoint("redrive_committed")
    mark(site.store, [one for one, _ in batch], "redriven", by, target=target)


def _call(call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    try:
        call(*arguments, **named)
    except KafkaException as error:
        raise _translate(error.args[0]) from error


def _translate(error: KafkaError) -> OrgstatsError:
    if error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
        return Refused("another redrive to the same topic has begun: let that one finish, then look at what is left")
    return Unavailable(f"Kafka: {error.name()}: {error.str()}; what is uncertain is looked up when this is run again")
