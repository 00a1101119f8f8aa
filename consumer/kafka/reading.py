"""The two ways of reading the partitions of a Consumer: batches without the interpreter, or `consume()`.

Both leave the group, its callbacks and the commits to confluent-kafka, and say the same of the same log; tests hold
them to it on a real broker.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from orgstats.consumer.counting.batch import Record
from orgstats.consumer.kafka.consume import POLL_SECONDS, consume

try:
    from orgstats.consumer.kafka import batches as compiled
except ImportError:  # there was no C compiler
    COMPILED = False
else:
    COMPILED = True

TopicPartition = tuple[str, int]
"""(topic, partition)."""

_PLUGINS: Final = "plugin.library.paths"

logger = structlog.get_logger("orgstats.consumer")


class Told(NamedTuple):
    """What came instead of a record: the end of a partition at an offset, or an error."""

    tp: TopicPartition
    error: KafkaError
    offset: int


Runs = list[tuple[TopicPartition, Sequence[Record]]]
"""Records by partition, in offset order; a partition may come more than once."""


class Reading(Protocol):
    """Reads what a Consumer is assigned. Callbacks of the Consumer come out of `read`, on the caller's thread."""

    def read(self, most: int, seconds: float) -> tuple[Runs, list[Told]]:
        """Up to `most` records, waiting up to `seconds` for them; they can be looked at until the next read.

        What was read ahead are as many as were asked for before. Raises KafkaException.
        """

    def start(self, tps: Collection[TopicPartition], *, anew: bool, assign: Callable[[], None]) -> None:
        """Assign, and read these partitions and no others; `anew` when all of them are assigned from new offsets."""

    def close(self) -> None:
        """Read no more; before the Consumer is closed."""


def make(properties: Mapping[str, Any], *, batches: bool) -> tuple[Consumer, Reading]:
    """A Consumer and the way to read it: the compiled one where it is wanted and works."""
    if batches:
        made, why = _compiled(properties)
        if made is not None:
            logger.info("reading", way="batches")
            return made
        logger.warning("reading record by record, at half the speed", why=why)
    else:
        logger.info("reading", way="messages")
    consumer = Consumer(dict(properties))
    return consumer, MessageReading(consumer)


def _compiled(properties: Mapping[str, Any]) -> tuple[tuple[Consumer, Reading] | None, str]:
    """What `make` gives, or why it does not work here."""
    if not COMPILED:
        return None, "there was no C compiler at installation"
    plugins = ";".join(filter(None, [compiled.__file__, str(properties.get(_PLUGINS, ""))]))
    try:
        consumer = Consumer({**properties, _PLUGINS: plugins})
    except KafkaException as error:
        if compiled.__file__ not in error.args[0].str():
            raise
        return None, error.args[0].str()
    try:
        return (consumer, BatchReading(consumer)), ""
    except LookupError as error:
        consumer.close()
        return None, str(error)


def why_not_batches() -> str:
    """Why batches cannot be read here; empty when they can. Connects to nobody."""
    made, why = _compiled({"group.id": "orgstats", "log_level": 0})
    if made is not None:
        consumer, records = made
        records.close()
        consumer.close()
    return why


class MessageReading:
    """Reads with `consume()`, which makes an object of each record."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def read(self, most: int, seconds: float) -> tuple[Runs, list[Told]]:
        messages = consume(self._consumer, most, seconds)
        told = []
        if any(map(Message.error, messages)):
            told = [_told(message) for message in messages if message.error() is not None]
            messages = [message for message in messages if message.error() is None]
        runs: dict[TopicPartition, list[Any]] = {}
        for (topic, partition), run in groupby(messages, _tp_of):
            runs.setdefault((topic, partition), []).extend(run)
        return list(runs.items()), told

    def start(self, tps: Collection[TopicPartition], *, anew: bool, assign: Callable[[], None]) -> None:  # noqa: ARG002 - the protocol's
        assign()

    def close(self) -> None:
        pass


class BatchReading:
    """Reads batches from librdkafka, past the Consumer, whose queue then has nothing but callbacks and errors.

    A thread without the interpreter's lock reads the next batch while one is counted. It stops when nobody asks for
    records, so that a consumer which hangs is still found by `max.poll.interval.ms`, and while partitions are assigned.

    A partition's records go either way, never both: from its first assignment on they are forwarded to us, and
    `start` is called before. Should one come by the Consumer nevertheless, the partition is told to be lost, and
    nothing more of it is given before the next `start`.
    """

    def __init__(self, consumer: Consumer) -> None:
        """Raises LookupError where librdkafka gave us no client."""
        self._consumer = consumer
        self._batches = compiled.Batches(consumer)
        self._tps: set[TopicPartition] = set()
        self._strayed: set[TopicPartition] = set()

    def read(self, most: int, seconds: float) -> tuple[Runs, list[Told]]:
        deadline = time.monotonic() + seconds
        told = self._callbacks()
        while not (self._tps or told) and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
            told = self._callbacks()
        self._batches.forward()  # an assignment of a moment ago may have undone it
        left = 0.0 if told else max(0.0, deadline - time.monotonic())
        runs, events = self._batches.read(most, left)
        told += [Told((topic, number), KafkaError(code, text), at) for topic, number, code, text, at in events]
        return [(tp, run) for tp, run in runs if tp not in self._strayed], told

    def _callbacks(self) -> list[Told]:
        """Let the Consumer call back; what else it has to say are errors."""
        told = []
        while (message := self._consumer.poll(0)) is not None:
            if message.error() is None:
                one = _tp_of(message)
                self._strayed.add(one)
                text = "a record came by the consumer's own queue"
                told.append(Told(one, KafkaError(KafkaError._AUTO_OFFSET_RESET, text), message.offset() or 0))
            else:
                told.append(_told(message))
        return told

    def start(self, tps: Collection[TopicPartition], *, anew: bool, assign: Callable[[], None]) -> None:
        self._strayed -= self._strayed if anew else self._strayed - set(tps)
        self._tps = set(tps)
        self._batches.hold()
        try:
            (self._batches.start if anew else self._batches.keep)(tps)
            assign()
            self._batches.forward()
        finally:
            self._batches.release()

    def close(self) -> None:
        self._tps.clear()
        self._batches.close()


def _tp_of(message: Message) -> TopicPartition:
    return message.topic() or "", message.partition() or 0


def _told(message: Message) -> Told:
    error = message.error()
    if error is None:
        raise ValueError("a record is no error")
    return Told(_tp_of(message), error, message.offset() or 0)
