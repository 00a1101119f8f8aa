"""Every metric of the daemon, declared once: name, type, unit, meaning and remedy."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

REGISTRY = CollectorRegistry()

records = Counter("orgstats_records_total", "Records read and judged, recounts included.", ["topic"], registry=REGISTRY)
dead_letters = Counter(
    "orgstats_dead_letters_total",
    "Records that could not be decoded. Look at them with `orgstats dead-letters ls`.",
    ["topic", "reason"],
    registry=REGISTRY,
)
out_of_bounds = Counter(
    "orgstats_event_time_out_of_bounds_total",
    "Events counted at their Kafka timestamp, their own being too far from it. Check the producers' clocks.",
    ["topic"],
    registry=REGISTRY,
)
rows_written = Counter("orgstats_rows_written_total", "Rows inserted into ClickHouse.", ["table"], registry=REGISTRY)
flush_seconds = Histogram(
    "orgstats_flush_seconds",
    "Time from the start of a flush until it is stored. Slow: look at ClickHouse's parts and merges.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
flush_failures = Counter(
    "orgstats_flush_failures_total",
    "Flushes that failed and are tried again with newer counts. Look at the log for ClickHouse's error.",
    registry=REGISTRY,
)
paused = Gauge(
    "orgstats_paused",
    "1 while consumption is paused because ClickHouse or the rules cannot be reached.",
    registry=REGISTRY,
)
assigned_partitions = Gauge("orgstats_assigned_partitions", "Partitions that this process counts.", registry=REGISTRY)
next_offset = Gauge("orgstats_next_offset", "Position stored and committed.", ["topic", "partition"], registry=REGISTRY)
lag_records = Gauge(
    "orgstats_lag_records",
    "Offsets between the stored position and the end of the log. Growing: add consumers or partitions.",
    ["topic", "partition"],
    registry=REGISTRY,
)
last_flush_timestamp_seconds = Gauge(
    "orgstats_last_flush_timestamp_seconds",
    "When the last flush was stored, epoch seconds. Old: the process is stuck or ClickHouse is away.",
    registry=REGISTRY,
)
gap_offsets = Counter(
    "orgstats_gap_offsets_total",
    "Offsets that retention deleted before they were counted; listed in `gaps`. Raise the topic's retention.",
    ["topic", "partition"],
    registry=REGISTRY,
)
rebalances = Counter(
    "orgstats_rebalances_total",
    "Assignments, revocations and losses. Many: check session.timeout.ms and restarts.",
    ["event"],
    registry=REGISTRY,
)
audited = Counter(
    "orgstats_audited_segments_total",
    "Closed segments that the continuous audit has counted again.",
    registry=REGISTRY,
)
mismatched = Counter(
    "orgstats_audit_mismatched_total",
    "Differences between the log and the stored counts. Above 0: look at the log, run `orgstats audit --recount`.",
    registry=REGISTRY,
)
live_cells = Gauge("orgstats_live_cells", "Cells held in memory, open segments of all partitions.", registry=REGISTRY)


def forget_partitions() -> None:
    """The partitions are somebody else's now: what is known of them here would only grow old."""
    assigned_partitions.set(0)
    next_offset.clear()
    lag_records.clear()


def serve(host: str, port: int) -> None:
    """Serve the metrics as Prometheus text on a port of their own."""
    start_http_server(port, addr=host, registry=REGISTRY)
