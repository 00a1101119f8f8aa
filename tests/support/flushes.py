"""The real counting code over made-up traffic, without Kafka and ClickHouse: how many cells, how many rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.chunk import CellKey, ProjectKey
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.partition import Partition, PartitionChanges
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.deploy.traffic import Mix, Slot, records

START_SECONDS = 1_700_000_000
"""The start of a bucket."""


class Read(NamedTuple):
    """A record as a consumer reads it."""

    at: int
    body: bytes | None
    kafka_ms: int

    def offset(self) -> int:
        """Its offset."""
        return self.at

    def value(self) -> bytes | None:
        """Its bytes."""
        return self.body

    def key(self) -> bytes | None:
        """No key: the partition is decided."""
        return None

    def timestamp(self) -> tuple[int, int]:
        """Set by the producer."""
        return 1, self.kafka_ms

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """None."""
        return None

    def leader_epoch(self) -> int | None:
        """Of the first leader."""
        return 0


class Traffic(NamedTuple):
    """So many events a second, for so many seconds, on so many partitions; `keyed` by organization or by turns."""

    events_per_second: int
    seconds: int
    organizations: int
    partitions: int
    keyed: bool = True
    flush_seconds: int = 1


@dataclass(slots=True)
class Flushed:
    """What came of it: records and their bytes, rows that flushes wrote, cells that are there in the end.

    Run as a module it prints the rows of `deploy/capacity.toml`.
    """

    records: int = 0
    record_bytes: int = 0
    rows: int = 0
    project_rows: int = 0
    hour_rows: int = 0
    cells: set[tuple[int, int, CellKey]] = field(default_factory=set)
    project_cells: set[tuple[int, int, ProjectKey]] = field(default_factory=set)


def simulate(traffic: Traffic, seed: int = 1) -> Flushed:
    """Count traffic as consumers do; a pure function of the traffic and the seed."""
    flushed = Flushed()
    for number, changes in flushes(traffic, flushed, seed):
        for part in changes.chunks:
            flushed.rows += len(part.cells)
            flushed.project_rows += len(part.project_cells)
            flushed.hour_rows += len(part.hours)
            flushed.cells.update((number, part.chunk.first_offset, key) for key in part.keys)
            flushed.project_cells.update((number, part.chunk.first_offset, key) for key in part.project_keys)
    return flushed


def flushes(traffic: Traffic, flushed: Flushed, seed: int = 1) -> Iterator[tuple[int, PartitionChanges]]:
    """What each partition stores with each flush: (partition, changes)."""
    batch = BatchCounter(AgeLimits(), RuleHistory())
    partitions = [_partition(number, batch) for number in range(traffic.partitions)]
    mix = Mix(organizations=traffic.organizations, broken=0, astray=0, spelled=0, keyed=traffic.keyed)
    ends = [0] * traffic.partitions
    for first in range(0, traffic.seconds, traffic.flush_seconds):
        length = min(traffic.flush_seconds, traffic.seconds - first)
        slot = Slot((START_SECONDS + first) * 1000, length * 1000, length * traffic.events_per_second)
        read: list[list[Read]] = [[] for _ in partitions]
        for turn, (key, body, kafka_ms) in enumerate(records(seed + first, [slot], mix)):
            number = (turn if key is None else crc32(key)) % traffic.partitions
            read[number].append(Read(ends[number], body, kafka_ms))
            ends[number] += 1
            flushed.records += 1
            flushed.record_bytes += len(body or b"") + len(key or b"")
        yield from _flush(partitions, read)


def _flush(partitions: Sequence[Partition], read: Sequence[Sequence[Read]]) -> Iterator[tuple[int, PartitionChanges]]:
    for number, (partition, run) in enumerate(zip(partitions, read, strict=True)):
        for start in range(0, len(run), 10_000):
            partition.count(run[start : start + 10_000])
        changes = partition.take()
        yield number, changes
        partition.stored(changes)


def _partition(number: int, batch: BatchCounter) -> Partition:
    source = Source("simulated", "one", number)
    return Partition(source, Resume(start=0, catching_up_until=0), batch, lambda _: Attempt())


def main() -> None:
    """Rows written and kept for each event, as TOML."""
    for keyed in (True, False):
        for events_per_second in (1_000, 10_000, 100_000):
            flushed = simulate(Traffic(events_per_second, 20, 1_000, 4, keyed=keyed))
            written = flushed.rows + flushed.project_rows + flushed.hour_rows
            kept = len(flushed.cells) + len(flushed.project_cells)
            print(f"[[rows]]\nkeyed = {str(keyed).lower()}\nevents_per_second = {events_per_second}")
            print(f"written = {written / flushed.records:.3f}\nkept = {kept / flushed.records:.3f}\n")


if __name__ == "__main__":
    main()
