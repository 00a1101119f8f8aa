"""What so many events a second need of Kafka, consumers and ClickHouse, from figures that were measured; pure."""

import math
from dataclasses import dataclass
from typing import Final

from orgstats.consumer.counting.source import CHUNK_LENGTH
from orgstats.deploy.capacity.figures import Figures
from orgstats.deploy.capacity.shape import Groups, Shape
from orgstats.deploy.local.traffic import Mix
from orgstats.schemas.outcomes import BUCKET_SECONDS

DAY: Final = 86_400
FLUSH_SECONDS: Final = (1, 2, 5, 10, 20, 30, 60)
"""What ORGSTATS_FLUSH_SECONDS is chosen from, unless it is given."""
REPLICAS: Final = 3
"""Of each shard of a cluster: a majority goes on without one."""
TABLES: Final = ("counts", "project_counts", "hour_counts")
HOUR: Final = 3_600


@dataclass(frozen=True)
class Load:
    """What is asked for. 0 partitions, flush seconds or replicas: what fits. `keyed`: by organization."""

    events_per_second: float
    organizations: int = 1_000
    partitions: int = 0
    retention_days: int = 90
    keyed: bool = False
    flush_seconds: int = 0
    replicas: int = 0
    chunk_length: int = CHUNK_LENGTH
    late: float = Mix().late


@dataclass(frozen=True)
class Need:
    """What it takes. Rows are those of all three tables of counts together unless they say otherwise.

    `counts_kept` and its like are rows after merging, for the whole retention; `disk_gb` is that of all replicas;
    `parts_per_second` those of one table of one shard; `consumer_mib` the memory of one process;
    `hottest_partition` the share of all events that the fullest partition gets, and `hottest_cores` what counting
    it takes: above 1, one process cannot. Queries read 24 h, by the hour, of the largest and of a middling
    organization.
    """

    partitions: int
    consumers: int
    consumer_cores: float
    consumer_mib: float
    hottest_partition: float
    hottest_cores: float
    kafka_mb_per_second: float
    kafka_tb_per_day: float
    flush_seconds: int
    rows_per_second: float
    rows_per_event: float
    parts_per_second: float
    counts_kept: float
    project_counts_kept: float
    hour_counts_kept: float
    disk_gb: float
    shards: int
    replicas: int
    servers: int
    server_cores: float
    largest_rows: float
    largest_ms: float
    middling_rows: float
    middling_ms: float


def need(load: Load, figures: Figures) -> Need:
    """The model. The number of consumers depends on the rows, and these on flushes and partitions."""
    shape = Shape(load.organizations, load.late)
    consumers, flush_seconds = 1, load.flush_seconds or 1
    for _ in range(20):
        partitions = load.partitions or _round_up(consumers * 2)
        rows = _rows_per_second(load, shape, partitions, flush_seconds)
        cores = (load.events_per_second * figures.count_us_per_record + rows * figures.store_us_per_row) / 1e6
        wanted = max(1, math.ceil(cores * figures.spare))
        slower = load.flush_seconds or _flush_seconds(min(wanted, partitions), figures)
        if wanted <= consumers and slower <= flush_seconds:
            break
        consumers, flush_seconds = max(wanted, consumers), max(slower, flush_seconds)
    consumers = min(consumers, partitions)
    counts, project_counts = kept_per_second(load, shape, partitions)
    kept = load.retention_days * DAY
    hour_counts = hours_kept_per_second(load, shape, partitions)
    one_copy = kept * (
        counts * figures.counts_bytes_per_row
        + project_counts * figures.project_counts_bytes_per_row
        + hour_counts * figures.hour_counts_bytes_per_row
    )
    parts_per_second = consumers / flush_seconds
    inserting = parts_per_second * len(TABLES) * figures.server_ms_per_insert / 1e3  # of each shard: all get a part
    storing = rows * figures.server_us_per_row / 1e6  # of all shards together
    room = max(figures.server_cores / figures.spare - inserting, figures.server_cores / 10)
    shards = max(1, math.ceil(storing / room), math.ceil(one_copy / figures.server_disk_gb / 1e9))
    replicas = load.replicas or (1 if shards == 1 and load.events_per_second <= 100_000 else REPLICAS)
    hottest = max(1 / partitions, shape.largest if load.keyed else 0)
    largest, middling = (_rows_of_a_day(load, shape, partitions, rank) for rank in (1, max(1, load.organizations // 2)))
    return Need(
        partitions=partitions,
        consumers=consumers,
        consumer_cores=cores,
        consumer_mib=_consumer_mib(load, shape, partitions, consumers, figures),
        hottest_partition=hottest,
        hottest_cores=hottest * load.events_per_second * figures.count_us_per_record / 1e6,
        kafka_mb_per_second=load.events_per_second * figures.record_bytes / 1e6,
        kafka_tb_per_day=load.events_per_second * figures.record_bytes * DAY / 1e12,
        flush_seconds=flush_seconds,
        rows_per_second=rows,
        rows_per_event=rows / load.events_per_second,
        parts_per_second=parts_per_second,
        counts_kept=counts * kept,
        project_counts_kept=project_counts * kept,
        hour_counts_kept=hour_counts * kept,
        disk_gb=one_copy * replicas / 1e9,
        shards=shards,
        replicas=replicas,
        servers=shards * replicas,
        server_cores=(storing + inserting * shards) * replicas * figures.spare,
        largest_rows=largest,
        largest_ms=figures.query_ms + largest * figures.query_ns_per_row / 1e6,
        middling_rows=middling,
        middling_ms=figures.query_ms + middling * figures.query_ns_per_row / 1e6,
    )


def rows_per_flush(load: Load, shape: Shape, partitions: int, flush_seconds: float) -> tuple[float, float]:
    """Rows of `counts` and of `project_counts` that all partitions together write with one flush.

    Keyed, an organization's cells are touched in one partition; otherwise in all of them.
    """
    return (
        _touched(load, shape, shape.cells, partitions, flush_seconds),
        _touched(load, shape, shape.project_cells, partitions, flush_seconds),
    )


def kept_per_second(load: Load, shape: Shape, partitions: int) -> tuple[float, float]:
    """Rows of `counts` and of `project_counts` that stay of one second of traffic.

    A cell belongs to one bucket and one chunk, so time is cut at the ends of both; the pieces are as long as
    the two together leave them on average.
    """
    piece = _piece_seconds(load, load.events_per_second / partitions)
    counts, project_counts = rows_per_flush(load, shape, partitions, piece)
    return counts / piece, project_counts / piece


def hours_per_flush(load: Load, shape: Shape, partitions: int, flush_seconds: float) -> float:
    """Rows of `hour_counts` that all partitions together write with one flush."""
    apart = 1 if load.keyed else partitions
    return apart * shape.summed(load.events_per_second * flush_seconds / apart)


def hours_kept_per_second(load: Load, shape: Shape, partitions: int) -> float:
    """Rows of `hour_counts` that stay of one second of traffic: those of an hour, or of a chunk if that is less."""
    piece = _piece_seconds(load, load.events_per_second / partitions, HOUR)
    return hours_per_flush(load, shape, partitions, piece) / piece


def _piece_seconds(load: Load, events_per_second: float, width: float = BUCKET_SECONDS) -> float:
    """Between two ends of a bucket, or of an hour, or of a chunk of a partition with so many events."""
    return 1 / (1 / width + events_per_second / load.chunk_length)


def _touched(load: Load, shape: Shape, groups: Groups, partitions: int, seconds: float) -> float:
    """Cells that are touched in so many seconds; longer than a bucket, in each of the buckets."""
    pieces = max(1.0, seconds / BUCKET_SECONDS)
    apart = 1 if load.keyed else partitions
    events = load.events_per_second * seconds / pieces / apart
    return pieces * apart * shape.touched(events, groups, seconds / pieces)


def _rows_per_second(load: Load, shape: Shape, partitions: int, flush_seconds: int) -> float:
    hours = hours_per_flush(load, shape, partitions, flush_seconds)
    return (sum(rows_per_flush(load, shape, partitions, flush_seconds)) + hours) / flush_seconds


def _flush_seconds(consumers: int, figures: Figures) -> int:
    """The shortest time between flushes at which a shard gets few enough inserts; each consumer writes to all."""
    fitting = [seconds for seconds in FLUSH_SECONDS if consumers / seconds <= figures.parts_per_second]
    return fitting[0] if fitting else FLUSH_SECONDS[-1]


def _consumer_mib(load: Load, shape: Shape, partitions: int, consumers: int, figures: Figures) -> float:
    """Open chunks hold their cells; at their end, all of them."""
    chunk_seconds = load.chunk_length / (load.events_per_second / partitions)
    cells = sum(kept_per_second(load, shape, partitions)) * min(chunk_seconds, load.retention_days * DAY)
    each = cells / consumers * figures.cell_bytes / 2**20
    return figures.consumer_base_mib + figures.consumer_prefetch_mib + each


def _rows_of_a_day(load: Load, shape: Shape, partitions: int, rank: int) -> float:
    """Rows of `hour_counts` of one organization and one day."""
    alone = Shape(1, shape.late, shape.raw)
    its = Load(load.events_per_second * shape.share(rank), 1, partitions, keyed=load.keyed)
    # Chunks are filled by all who are in the partition: keyed, by this one and its part of the others.
    own = shape.share(rank) if load.keyed else 0.0
    piece = _piece_seconds(load, load.events_per_second * (own + (1 - own) / partitions), HOUR)
    return hours_per_flush(its, alone, partitions, piece) / piece * DAY


def _round_up(number: int) -> int:
    """The next power of two, from 4 on: partitions are added, never taken away."""
    return max(4, 1 << (number - 1).bit_length())
