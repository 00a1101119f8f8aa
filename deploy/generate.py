"""Sends made-up traffic to a topic, at a rate or as fast as it goes, and counts what Kafka did not take."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from threading import Event
from typing import Annotated, Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import Field, model_validator

from orgstats.consumer.kafka import properties
from orgstats.consumer.kafka.admin import Heard, metadata
from orgstats.deploy.traffic import Record, Slot, daily_seconds, day_and_night
from orgstats.errors import ConfigurationError, Unavailable
from orgstats.settings import Settings

PRODUCER_PROPERTIES: Final[dict[str, Any]] = {
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.num.messages": 20_000,
    "enable.idempotence": True,  # a retry must not put a record on the log twice
    "message.max.bytes": 4_000_000,  # one kind of broken record is larger than a megabyte
    "queue.buffering.max.messages": 500_000,
    "delivery.report.only.error": True,
    "delivery.timeout.ms": 30_000,
}
POLL_RECORDS: Final = 1_000
TICK_SECONDS: Final = 0.1


class GenerateSettings(Settings):
    """Where the records go."""

    bootstrap_servers: Annotated[str, Field(description="Kafka's addresses, host:port[,host:port]")]
    topic: Annotated[tuple[str, ...], Field(min_length=1, max_length=1, description="the one topic to write to")]
    kafka: Annotated[
        dict[str, str], Field(description="any other librdkafka property: ORGSTATS_KAFKA__SASL_USERNAME=…")
    ] = {}  # noqa: RUF012 - pydantic copies it

    @model_validator(mode="after")
    def _refuse_what_librdkafka_refuses(self) -> "GenerateSettings":
        own = {"bootstrap.servers": self.bootstrap_servers}
        if faults := properties.faults({**PRODUCER_PROPERTIES, **self.kafka, **own}, Producer):
            raise ValueError("\n".join(faults))
        return self


@dataclass
class Summary:
    """What was sent; `failed` are the records that Kafka did not acknowledge."""

    topic: str
    sent: int = 0
    failed: int = 0
    value_bytes: int = 0
    seconds: float = 0.0
    first_timestamp_ms: int | None = None
    """Kafka timestamps, of the records that were handed to the client."""
    last_timestamp_ms: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; with the rate."""
        rate = round(self.sent / self.seconds) if self.seconds else 0
        return {**asdict(self), "seconds": round(self.seconds, 3), "records_per_second": rate}


def send(
    records: Iterable[Record],
    settings: GenerateSettings,
    *,
    stop: Event,
    progress: Callable[[int], None] = lambda _sent: None,
) -> Summary:
    """Send until the records end or `stop` is set, then wait for the acknowledgements.

    Raises Unavailable when no broker answers within 10 s, and ConfigurationError for a property that librdkafka
    refuses, or credentials that the broker does. Later failures are counted, not raised.
    """
    (topic,) = settings.topic
    summary = Summary(topic)

    def count_failure(_error: KafkaError | None, _message: Message) -> None:
        summary.failed += 1

    own: dict[str, Any] = {**settings.kafka, "bootstrap.servers": settings.bootstrap_servers}
    heard = Heard(own)
    try:
        producer = Producer(
            {"log_level": 2, **PRODUCER_PROPERTIES, **own, "on_delivery": count_failure, "error_cb": heard}
        )
    except KafkaException as error:
        raise ConfigurationError(f"ORGSTATS_KAFKA__…: {error.args[0].str()}") from None
    _reach(producer, heard, topic)
    started = time.monotonic()
    sent = value_bytes = 0  # plain names: this loop is what limits the rate
    produce = producer.produce
    for key, value, timestamp_ms in records:
        if sent % POLL_RECORDS == 0:
            producer.poll(0)
            progress(sent)
            summary.first_timestamp_ms = timestamp_ms if sent == 0 else summary.first_timestamp_ms
            if stop.is_set():
                break
        while True:
            try:
                produce(topic, value, key, timestamp=timestamp_ms)
                break
            except BufferError:  # the queue is full: wait for acknowledgements
                producer.poll(0.01)
        sent += 1
        value_bytes += len(value) if value else 0
        summary.last_timestamp_ms = timestamp_ms
    summary.failed += producer.flush(35)
    summary.sent, summary.value_bytes = sent - summary.failed, value_bytes
    summary.seconds = time.monotonic() - started
    return summary


def _reach(producer: Producer, heard: Heard, topic: str) -> None:
    try:
        found = metadata(producer, heard, topic).topics[topic]
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0].str()}") from None
    if found.error:
        raise Unavailable(f"topic {topic}: {found.error.str()}")


def following(since: float, rate: float, fastest: float | None, stop: Event) -> Iterator[Slot]:
    """From a time in the past to now at a rate by day and night, then live, in the order of time and without a seam.

    `rate` is a day's average; what is past is sent as fast as it goes, or as `fastest` records a second.
    """
    while not stop.is_set() and (now := time.time()) - since > TICK_SECONDS:
        count = round((daily_seconds(now) - daily_seconds(since)) * rate)
        past = day_and_night(count, since, now)
        yield from past if fastest is None else paced(past, fastest, stop)
        since = now
    yield from live(rate, None, stop, daily=True)


def live(rate: float | None, count: int | None, stop: Event, *, daily: bool = False) -> Iterator[Slot]:
    """Slots at the present time, at so many records a second or as fast as they are taken, until `stop` is set.

    `daily` is day and night as `day_and_night` has them, with the rate as the day's average.
    """
    done = 0
    for due in _due(rate, stop, (lambda: daily_seconds(time.time())) if daily else time.monotonic):
        number = due if count is None else min(due, count - done)
        yield Slot(int((time.time() - TICK_SECONDS) * 1000), int(TICK_SECONDS * 1000), number)
        done += number
        if done == count:
            return


def paced(slots: Iterable[Slot], rate: float, stop: Event) -> Iterator[Slot]:
    """The same slots, not faster than so many records a second."""
    allowance = 0
    ticks = _due(rate, stop)
    for slot in slots:
        while allowance < slot.records:
            due = next(ticks, None)
            if due is None:
                return
            allowance += due
        allowance -= slot.records
        yield slot


def _due(rate: float | None, stop: Event, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """How many records are due now, again and again; the pauses between make the rate."""
    if rate is None:
        while not stop.is_set():
            yield 5_000
    started, done = clock(), 0
    while not stop.wait(TICK_SECONDS) and rate is not None:
        due = int((clock() - started) * rate) - done
        if due > 0:
            done += due
            yield due
