"""Reads ranges of the log beside the daemon: assigned by hand, without commits, in no group of the daemon's."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaTopicPartition

from orgstats.consumer.kafka.admin import Heard
from orgstats.consumer.kafka.broker import closing, reading_properties
from orgstats.consumer.kafka.consume import consume
from orgstats.consumer.kafka.errors import POSITION_LOST, translate
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.properties import FIXED, defaults
from orgstats.errors import Refused, Unavailable

BATCH: Final = 10_000
SILENCE_SECONDS: Final = 60.0


class LogReaders:
    """A reader for each isolation level that is asked for, all of which are closed together: connecting takes longer
    than reading many a range. A context manager.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = properties
        self._open = ExitStack()
        self._readers: dict[str, LogReader] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def of(self, isolation: str) -> "LogReader":
        """The reader that reads by this isolation level."""
        if isolation not in self._readers:
            self._readers[isolation] = self._open.enter_context(LogReader(self._properties, isolation))
        return self._readers[isolation]


class LogReader:
    """One consumer, used for one range after the other; a context manager.

    Failure semantics: a silent broker is Unavailable; the same range may be read again.
    """

    def __init__(self, properties: Mapping[str, Any], isolation: str) -> None:
        own = reading_properties(properties, f"orgstats-replay-{uuid.uuid4().hex[:12]}")
        self._heard = Heard(own)
        self._consumer = Consumer(
            {**defaults(own), **own, **FIXED, "isolation.level": isolation, "error_cb": self._heard}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing(self._consumer)

    def read(self, tp: TopicPartition, first: int, end: int) -> Iterator[tuple[list[Message], int]]:
        """Records in [first, end) in runs, each with the position after it; the last position is `end` or beyond.

        Offsets without a record (control records, compaction) are passed by position. Raises Refused when the
        log does not reach `end`, or lost `first` to retention, and ConfigurationError when reading is not allowed.
        """
        position = first
        self._consumer.assign([KafkaTopicPartition(*tp, first)])
        try:
            heard = time.monotonic()
            while position < end:
                messages = self._consume()
                if messages:
                    heard = time.monotonic()
                    self._heard.answered()
                elif time.monotonic() > heard + SILENCE_SECONDS:
                    raise self._heard.silence(f"reading {tp[0]}/{tp[1]}")
                else:
                    self._heard.check()
                run, position = _below(end, messages, position, tp)
                yield run, position
        finally:
            self._consumer.unassign()

    def _consume(self) -> list[Message]:
        try:
            return consume(self._consumer, BATCH, 1.0, enough=1)  # a range may end long before a batch is full
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error.args[0].name()}: {error.args[0].str()}") from error


def _below(end: int, messages: list[Message], position: int, tp: TopicPartition) -> tuple[list[Message], int]:
    run: list[Message] = []
    for message in messages:
        error, offset = message.error(), message.offset() or 0
        if error is None:
            if offset >= end:
                return run, end
            run.append(message)
            position = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            position = max(position, offset)
            if position < end:
                raise Refused(
                    f"{tp[0]}/{tp[1]} ends at offset {position}, but offsets up to {end} have been counted: the "
                    f"log was cut back. Recount what it holds: orgstats replay apply --repair --rewind "
                    f"--topic {tp[0]} --partitions {tp[1]}"
                )
        elif error.code() in POSITION_LOST:
            raise Refused(
                f"retention deleted records of {tp[0]}/{tp[1]} from offset {position} on while they were read; "
                "ask again: what is left is planned anew"
            )
        elif error.fatal():
            raise Unavailable(f"Kafka: {error.name()}: {error.str()}")
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise translate(
                error
            )  # else it would end as silence. That the group is not allowed harms nobody: it is unused
    return run, position
