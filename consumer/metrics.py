"""Every metric of the daemon, declared once: name, type, unit, meaning and remedy. docs/metrics.md shows them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

import orgstats

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

build = Info("orgstats_build", "The program's version. Several at once: an upgrade is under way.", registry=REGISTRY)
records = Counter(
    "orgstats_records_total",
    "Records read and classified, recounts included. 0 a second with a lag: look at the log.",
    ["topic"],
    registry=REGISTRY,
)
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
unnamed_outcomes = Counter(
    "orgstats_unnamed_outcomes_total",
    "Events whose outcome has no name here, recounts included: stored by number, in no stat. Upgrade orgstats.",
    ["topic", "outcome"],
    registry=REGISTRY,
)
rows_written = Counter(
    "orgstats_rows_written_total",
    "Rows inserted into ClickHouse. Nearly as many as records: raise ORGSTATS_FLUSH_SECONDS.",
    ["table"],
    registry=REGISTRY,
)
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
    "1 while consumption is paused because ClickHouse or the rules cannot be reached. Look at ClickHouse.",
    registry=REGISTRY,
)
halted = Gauge(
    "orgstats_halted",
    "1 for a partition that is counted no further, a limit on dead letters being reached. Look at its dead letters.",
    ["topic", "partition"],
    registry=REGISTRY,
)
not_opened = Gauge(
    "orgstats_not_opened",
    "1 for a partition of which it cannot be found out where to go on; it is tried again, the others are counted. "
    "Look at the log for why.",
    ["topic", "partition"],
    registry=REGISTRY,
)
end_unknown = Gauge(
    "orgstats_end_unknown",
    "1 for a partition that does not tell where its log ends, having no leader; its completeness stands still, the "
    "others are stored. Look for it with `kafka-topics.sh --describe --unavailable-partitions`.",
    ["topic", "partition"],
    registry=REGISTRY,
)
assigned_partitions = Gauge(
    "orgstats_assigned_partitions",
    "Partitions that this process counts. 0 everywhere: nothing is counted, run `orgstats doctor`.",
    registry=REGISTRY,
)
next_offset = Gauge(
    "orgstats_next_offset",
    "Position stored and committed. Standing still with a lag: look at the log for what is refused.",
    ["topic", "partition"],
    registry=REGISTRY,
)
lag_records = Gauge(
    "orgstats_lag_records",
    "Offsets between the stored position and the end of the log. Growing: add consumers or partitions.",
    ["topic", "partition"],
    registry=REGISTRY,
)
open_transaction_records = Gauge(
    "orgstats_open_transaction_records",
    "Offsets behind the first one of a transaction that is not ended, which nobody may read yet; part of the lag. "
    "For long: find its producer with `kafka-transactions.sh find-hanging`.",
    ["topic", "partition"],
    registry=REGISTRY,
)
complete_until_timestamp_seconds = Gauge(
    "orgstats_complete_until_timestamp_seconds",
    "Every record acknowledged before this moment is counted, epoch seconds; absent while unknown. "
    "Old: see `orgstats lag`.",
    ["topic", "partition"],
    registry=REGISTRY,
)
retention_deadline_timestamp_seconds = Gauge(
    "orgstats_retention_deadline_timestamp_seconds",
    "When retention would delete uncounted records if counting stood still, epoch seconds; absent: never. "
    "Near: raise the topic's retention.",
    ["topic", "partition"],
    registry=REGISTRY,
)
last_flush_timestamp_seconds = Gauge(
    "orgstats_last_flush_timestamp_seconds",
    "When the last flush was stored, epoch seconds. Old: the process is stuck or ClickHouse is away.",
    registry=REGISTRY,
)
rules_read_timestamp_seconds = Gauge(
    "orgstats_rules_read_timestamp_seconds",
    "When the rules were last read, epoch seconds. Older than 25 s: counting waits for ClickHouse.",
    registry=REGISTRY,
)
topic_gone = Gauge(
    "orgstats_topic_gone",
    "1 for a topic that was deleted, or made again, while this process counted it. Look at the log, start it again.",
    ["topic"],
    registry=REGISTRY,
)
gap_offsets = Counter(
    "orgstats_gap_offsets_total",
    "Offsets that retention deleted before they were counted; listed in `gaps`. Raise the topic's retention.",
    ["topic", "partition"],
    registry=REGISTRY,
)
log_cuts = Counter(
    "orgstats_log_cuts_total",
    "Logs that were cut back below what was counted (an unclean election, a restored broker); what vanished is listed"
    " in `gaps` and taken back. Find out what the cluster lost.",
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
    "orgstats_audited_chunks_total",
    "Chunks that the continuous audit has counted again, as far as they are stored. None: set ORGSTATS_AUDIT_SECONDS.",
    registry=REGISTRY,
)
mismatched = Counter(
    "orgstats_audit_mismatched_total",
    "Differences between the log and the stored counts. Above 0: look at the log, run `orgstats audit --recount`.",
    registry=REGISTRY,
)
live_cells = Gauge(
    "orgstats_live_cells",
    "Cells held in memory, open chunks of all partitions. Memory grows with it: spread over more processes.",
    registry=REGISTRY,
)

_OF_PARTITIONS = (
    next_offset,
    lag_records,
    open_transaction_records,
    complete_until_timestamp_seconds,
    retention_deadline_timestamp_seconds,
    halted,
    not_opened,
    end_unknown,
)


def forget(tps: Iterable[tuple[str, int]]) -> None:
    """These (topic, partition) are somebody else's now: what is known of them here would only grow old."""
    for topic, partition in tps:
        for metric in _OF_PARTITIONS:
            metric.remove(topic, partition)


def name_build() -> None:
    """Say which version runs."""
    build.info({"version": orgstats.__version__})
