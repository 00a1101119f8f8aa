"""What the loop is given: an interface for each thing outside of it, so that the real loop can be played in memory.

`clients.py` makes the ones that speak with Kafka and ClickHouse, tests/sim those that do not. What each method does
and raises is said at the real ones: consumer/kafka/group.py, consumer/kafka/reader.py and consumer/store/store.py.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol, TypeVar

from confluent_kafka import Message

from orgstats.consumer.counting.cells import StoredChunk
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.counting.resume import Progress, Registration, Repair
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.group import Callbacks, Committed, ReadBatch, TopicPartition
from orgstats.consumer.kafka.topics import ToldEnds
from orgstats.consumer.store.rows import Flush

Answer = TypeVar("Answer")


class Clock(Protocol):
    """Time, and waiting for it to pass."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def epoch_ms(self) -> int:
        """Milliseconds since the epoch, by this machine's clock."""

    def sleep(self, seconds: float) -> None: ...

    def wait(self, event: Event, seconds: float) -> None:
        """Sleep, but no longer than until `event` is set."""


class Executor(Protocol):
    """Runs one call at a time beside the loop."""

    def submit(self, call: Callable[[], Answer]) -> "Future[Answer]": ...

    def wait(self, future: "Future[Any]", seconds: float) -> None:
        """Until the call has ended, or so many seconds."""

    def shutdown(self, *, wait: bool) -> None:
        """Begin no more calls; and wait for the one that runs, if asked to."""


class GroupConsumer(Protocol):
    """A member of the group. What happens to its partitions is told within `read` and `close`."""

    def read(self, most: int, seconds: float) -> ReadBatch: ...
    def start(
        self, offsets: Mapping[TopicPartition, int], epochs: Mapping[TopicPartition, int] | None = None
    ) -> None: ...
    def commit(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], *, wait: bool
    ) -> None: ...
    def committed(self, tps: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed]: ...
    def close(self) -> None: ...


class Topics(Protocol):
    """What topics there are, and the ends of their logs."""

    def describe(self, topics: Sequence[str]) -> Mapping[str, tuple[str, int]]: ...
    def partitions(self, topic: str) -> int: ...
    def cleanup_policy(self, topic: str) -> str: ...
    def starts(self, tps: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    def ends(self, tps: Iterable[TopicPartition], isolation: str) -> Mapping[TopicPartition, int]: ...
    def told_ends(self, tps: Iterable[TopicPartition], isolation: str) -> ToldEnds: ...


class LogReader(Protocol):
    """Reads a range of a log, outside of the group."""

    def read(self, tp: TopicPartition, first: int, end: int) -> Iterator[tuple[Sequence[Message], int]]: ...


class Store(Protocol):
    """What is stored, for one thread."""

    def clock_ms(self) -> int: ...
    def rule_history(self) -> RuleHistory: ...
    def write(self, flush: Flush) -> Mapping[str, int]: ...
    def register(self, sources: Iterable[tuple[Source, Registration]], now_ms: int) -> None: ...
    def registrations(self, sources: Iterable[Source]) -> Mapping[int, Registration]: ...
    def grids(self, source_ids: Collection[int]) -> Mapping[int, Grid]: ...
    def misplaced_chunks(self, grids: Mapping[int, Grid]) -> Mapping[int, int]: ...
    def progress(self, sources: Iterable[Source]) -> Mapping[int, Progress]: ...
    def begun(self, sources: Iterable[Source]) -> Mapping[int, tuple[int, int]]: ...
    def repairs(self, sources: Iterable[Source]) -> Mapping[int, Mapping[int, Repair]]: ...
    def chunks(self, firsts: Mapping[Source, int]) -> Mapping[int, Mapping[int, Mark]]: ...
    def highest_chunks(self, sources: Iterable[Source]) -> Mapping[int, int]: ...
    def chunk(self, source: Source, first: int, end: int) -> StoredChunk: ...
    def record_cut(self, source: Source, progress: Progress, vanished_to: int) -> None: ...
    def take_back(
        self, source: Source, chunks: Chunks, repairs: Mapping[int, Repair], progress: Progress, now_ms: int
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Clients:
    """All that a loop is given. A checkpoint runs beside the loop, so it has a connection to the store of its own."""

    join: Callable[[Callbacks], GroupConsumer]
    topics: Topics
    store: Store
    checkpoint_store: Store
    reader: Callable[[], AbstractContextManager[LogReader]]
    clock: Clock
    executor: Executor
