"""What a checkpoint says of how far counts are complete, with Kafka and ClickHouse played by a few lines."""

from collections.abc import Iterable
from typing import Any, cast

import pytest

from orgstats.consumer.checkpoint import Assigned, CheckpointItem, Checkpoints
from orgstats.consumer.clients import SystemClock
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.completeness import SeenEnds
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.partition import Notes, PartitionChanges
from orgstats.consumer.counting.resume import Cut, Registration
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.topics import ToldEnds
from orgstats.consumer.ports import Store, Topics
from orgstats.consumer.store.rows import Flush, ProgressUpdate

PLACE = ("events", 0)
NOW = 1_700_000_000_000


class FakeClock(SystemClock):
    """This process's clock stands still."""

    def epoch_ms(self) -> int:
        return NOW


class FakeTopics:
    """A log whose last records an open transaction hides."""

    def __init__(self, readable: int, end: int) -> None:
        self._ends = {"read_committed": readable, "read_uncommitted": end}

    def describe(self, topics: Iterable[str]) -> dict[str, tuple[str, int]]:
        return dict.fromkeys(topics, ("uuid", 1))

    def ends(self, tps: Iterable[TopicPartition], isolation: str) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self._ends[isolation])

    def told_ends(self, tps: Iterable[TopicPartition], isolation: str) -> ToldEnds:
        return ToldEnds(self.ends(tps, isolation), {})


class FakeStore:
    """A ClickHouse with a clock of its own, which keeps what was flushed last."""

    def __init__(self, clock_ms: int) -> None:
        self._clock_ms = clock_ms
        self.flushed: Flush | None = None

    def clock_ms(self) -> int:
        return self._clock_ms

    def progress(self, _: Any) -> dict[int, Any]:
        return {}

    def registrations(self, sources: Iterable[Source]) -> dict[int, Any]:
        return {source.source_id: Registration(Grid(), "read_committed") for source in sources}

    def write(self, flush: Flush) -> dict[str, int]:
        self.flushed = flush
        return {}


def complete_until_ms(next_offset: int, *, readable: int, end: int, clickhouse_ms: int = NOW) -> int:
    """What a checkpoint at this position writes; every record counted is stamped an hour ahead."""
    return written(next_offset, next_offset, readable=readable, end=end, clickhouse_ms=clickhouse_ms).complete_until_ms


def written(
    next_offset: int, hourly_offset: int, *, readable: int, end: int, clickhouse_ms: int = NOW
) -> ProgressUpdate:
    source = Source("events", "uuid", 0)
    changes = PartitionChanges(source, next_offset, hourly_offset, 0, "", Mark(), Cut(), [], Notes())
    seen, assigned = (SeenEnds(77), SeenEnds(55)), Assigned("uuid", "uuid", 0)
    work = CheckpointItem(PLACE, assigned, -1, 0, changes, NOW + 3_600_000, *seen)
    store = FakeStore(clickhouse_ms)
    Checkpoints(cast("Topics", FakeTopics(readable, end)), cast("Store", store), FakeClock()).run([work], "fingerprint")
    assert store.flushed is not None
    return store.flushed.progress[0]


@pytest.mark.parametrize(("hourly_offset", "hourly_ms"), [(100, NOW), (99, 55)])
def test_hourly_is_complete_as_far_as_it_is_written(hourly_offset: int, hourly_ms: int) -> None:
    """What the other tables have tells nothing of it."""
    progress = written(100, hourly_offset, readable=100, end=100)
    assert (progress.complete_until_ms, progress.hourly_complete_until_ms) == (NOW, hourly_ms)
    assert progress.hourly_offset == hourly_offset


def test_at_the_end_of_the_log_counts_are_complete() -> None:
    """All that was acknowledged before the clocks were read is counted."""
    assert complete_until_ms(100, readable=100, end=100) == NOW


def test_records_behind_an_open_transaction_are_not_counted() -> None:
    """At the last stable offset there is nothing to read, and yet records were acknowledged."""
    assert complete_until_ms(100, readable=100, end=5_101) == 77


def test_a_record_with_a_time_to_come_says_nothing() -> None:
    """Behind the end the timestamp of the last record is a producer's word."""
    assert complete_until_ms(99, readable=100, end=100) == 77


@pytest.mark.parametrize(("clickhouse_ms", "expected"), [(NOW - 9, NOW - 9), (NOW + 9, NOW)])
def test_no_clock_is_exceeded(clickhouse_ms: int, expected: int) -> None:
    """Of this process's clock and ClickHouse's the one that is behind counts."""
    assert complete_until_ms(100, readable=100, end=100, clickhouse_ms=clickhouse_ms) == expected
