"""What the loop is given in a daemon: the clients of Kafka and ClickHouse, the machine's clock, a thread."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any, Final, TypeVar

from orgstats.clickhouse.connect import connect
from orgstats.consumer import ports
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.kafka.topics import Topics
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.store.store import Store

STORE_SECONDS: Final = 30.0
"""ClickHouse's time for one insert or question."""

Answer = TypeVar("Answer")


class SystemClock:
    """The machine's."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def epoch_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        time.sleep(seconds)

    def wait(self, event: Event, seconds: float) -> None:
        """Let the time pass, until `event` is set."""
        event.wait(seconds)


class CheckpointThread:
    """One thread for checkpoints; it is started with the first."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint")

    def submit(self, call: Callable[[], Answer]) -> "Future[Answer]":
        """Begin a call."""
        return self._pool.submit(call)

    def wait(self, future: "Future[Any]", seconds: float) -> None:
        """Until the call has ended, or so many seconds."""
        wait([future], seconds)

    def shutdown(self, *, wait: bool) -> None:
        """Begin no more calls."""
        self._pool.shutdown(wait=wait, cancel_futures=True)


def store_of(settings: ConsumerSettings, timeout_seconds: float = STORE_SECONDS) -> Store:
    """A connection to ClickHouse, made when it is first used."""
    return Store(
        lambda: connect(settings.clickhouse_url, client_name="orgstats-consume", timeout_seconds=timeout_seconds)
    )


def clients_of(settings: ConsumerSettings) -> ports.Clients:
    """All that the loop is given; nothing is connected or joined yet."""
    properties = settings.kafka_properties()

    def join(callbacks: Callbacks) -> GroupConsumer:
        return GroupConsumer(properties, settings.topic, callbacks, batches=settings.reading == "batches")

    return ports.Clients(
        join,
        Topics(properties),
        store_of(settings),
        store_of(settings),
        lambda: LogReader(properties, settings.isolation),
        SystemClock(),
        CheckpointThread(),
    )
