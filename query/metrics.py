"""Every metric of the query side, declared once: name, type, unit, meaning and remedy. docs/metrics.md shows them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

build = Info("orgstats_build", "The program's version. Several at once: an upgrade is under way.", registry=REGISTRY)
requests = Counter(
    "orgstats_requests_total",
    "Requests answered, by route and status. 503: look at ClickHouse; 429: a caller is over its rate.",
    ["route", "status"],
    registry=REGISTRY,
)
request_seconds = Histogram(
    "orgstats_request_seconds",
    "Time from the request to the whole answer. Slow: compare with orgstats_clickhouse_read_seconds.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
read_seconds = Histogram(
    "orgstats_clickhouse_read_seconds",
    "Time of one statement in ClickHouse. Slow: look at its load, at the range asked for and at merges.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
read_failures = Counter(
    "orgstats_clickhouse_read_failures_total",
    "Statements that failed or came too late. Look at the log for ClickHouse's error.",
    registry=REGISTRY,
)
busy_connections = Gauge(
    "orgstats_clickhouse_busy_connections",
    "Connections in use. Always at the maximum: raise ORGSTATS_QUERY_CONNECTIONS or add processes.",
    registry=REGISTRY,
)
connections = Gauge(
    "orgstats_connections",
    "Clients connected at the moment. Near the limit in the log line `started`: raise the limit of open files.",
    registry=REGISTRY,
)
refused_connections = Counter(
    "orgstats_connections_refused_total",
    "Connections closed before a request was answered: full, head_slow, head_large, body_slow, body_large, malformed. "
    "full: raise the limit of open files or put a proxy in front; else: see who sends such requests.",
    ["reason"],
    registry=REGISTRY,
)
for _reason in ("full", "head_slow", "head_large", "body_slow", "body_large", "malformed"):
    refused_connections.labels(_reason)  # a rate needs the 0 before the first one
