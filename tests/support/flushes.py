"""The real counting code over made-up traffic, without Kafka and ClickHouse: how many cells, how many rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cells import FAMILIES, Key
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.grid import CHUNK_LENGTH
from orgstats.consumer.counting.partition import Partition, PartitionChanges
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.deploy.traffic import Mix, Slot, records
from tests.support.record import FakeRecord

START_SECONDS = 1_700_000_000
"""The start of a bucket."""


class Traffic(NamedTuple):
    """So many events a second, for so many seconds, on so many partitions; `keyed` by organization or by turns."""

    events_per_second: int
    seconds: int
    organizations: int
    partitions: int
    keyed: bool = True
    flush_seconds: int = 1
    hourly_seconds: int = 30


@dataclass(slots=True)
class Flushed:
    """What came of it: records and their bytes, rows that flushes wrote, cells that are there in the end, by table.

    Run as a module it prints the rows of `deploy/capacity.toml`.
    """

    records: int = 0
    record_bytes: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    cells: dict[str, set[tuple[int, int, Key]]] = field(default_factory=lambda: {one.table: set() for one in FAMILIES})

    @property
    def written(self) -> float:
        """Rows written a record, all tables together."""
        return self.rows.total() / self.records

    @property
    def kept(self) -> float:
        """Rows a record that are left once all is merged."""
        return sum(map(len, self.cells.values())) / self.records


def simulate(traffic: Traffic, seed: int = 1) -> Flushed:
    """Count traffic as consumers do; a pure function of the traffic and the seed."""
    flushed = Flushed()
    for number, changes in flushes(traffic, flushed, seed):
        for part in changes.chunks:
            for family, rows in part.rows.items():
                flushed.rows[family.table] += len(rows)
                flushed.cells[family.table].update((number, part.chunk.first_offset, key) for key, _ in rows)
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
        read: list[list[FakeRecord]] = [[] for _ in partitions]
        for turn, (key, body, kafka_ms) in enumerate(records(seed + first, [slot], mix)):
            number = (turn if key is None else crc32(key)) % traffic.partitions
            read[number].append(FakeRecord(ends[number], body, kafka_ms))
            ends[number] += 1
            flushed.records += 1
            flushed.record_bytes += len(body or b"") + len(key or b"")
        last = first + length == traffic.seconds
        yield from _flush(partitions, read, seldom=last or first % traffic.hourly_seconds < traffic.flush_seconds)


def _flush(
    partitions: Sequence[Partition], read: Sequence[Sequence[FakeRecord]], *, seldom: bool
) -> Iterator[tuple[int, PartitionChanges]]:
    for number, (partition, run) in enumerate(zip(partitions, read, strict=True)):
        for start in range(0, len(run), 10_000):
            partition.count(run[start : start + 10_000])
        changes = partition.take(seldom=seldom)
        yield number, changes
        partition.stored(changes)


def _partition(number: int, batch: BatchCounter) -> Partition:
    source = Source("simulated", "one", number)
    return Partition(source, Resume(start=0, catching_up_until=0), batch, lambda _: Attempt())


def whole_chunks(events_per_second: int, *, keyed: bool) -> Traffic:
    """Traffic for at least 20 s, and until a chunk of each partition is full: what is kept of hours is by the chunk."""
    return Traffic(events_per_second, max(20, 4 * CHUNK_LENGTH // events_per_second), 1_000, 4, keyed=keyed)


def main(ways: Sequence[bool] = (True, False), rates: Sequence[int] = (1_000, 10_000, 100_000)) -> None:
    """Rows written and kept for each event, keyed and not, at rates of events a second, as TOML."""
    for keyed in ways:
        for events_per_second in rates:
            flushed = simulate(whole_chunks(events_per_second, keyed=keyed))
            of = ", ".join(
                f"{table} {rows / flushed.records:.3f} {len(flushed.cells[table]) / flushed.records:.3f}"
                for table, rows in flushed.rows.items()
            )
            print(f"[[rows]]  # written and kept: {of}")
            print(f"keyed = {str(keyed).lower()}\nevents_per_second = {events_per_second}")
            print(f"written = {flushed.written:.3f}\nkept = {flushed.kept:.3f}\n", flush=True)


if __name__ == "__main__":
    main()
