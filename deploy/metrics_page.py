"""Renders docs/metrics.md from the declared metrics: python -m orgstats.deploy.metrics_page > docs/metrics.md."""

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from orgstats.consumer import metrics as consumer_metrics
from orgstats.query import metrics as query_metrics

_UNITS = {
    "_timestamp_seconds": "epoch seconds",
    "_seconds": "seconds",
    "_offset": "offset",
    "_offsets_total": "offsets",
    "_lag_records": "offsets",
    "_transaction_records": "offsets",
    "_info": "1",
    "_paused": "0 or 1",
}
_PAGE = """\
# Metrics

Made of the declarations in `consumer/metrics.py` and `query/metrics.py` by `python -m orgstats.deploy.metrics_page`.
Dashboards are in `deploy/grafana`, alerts in `deploy/prometheus`; the alerts point to [operations.md](operations.md).
Dashboards and alerts on an organization's own counts are in [api.md](api.md#an-organization-in-grafana).

## The consumer

At `/metrics` of the address in `ORGSTATS_METRICS_LISTEN`; without one nothing is served.

{consumer}

## The API

At `/metrics` beside the endpoint; with `ORGSTATS_METRICS_LISTEN` at that address instead.

{query}

Both also give the standard `process_` metrics: memory, CPU seconds, start time, open files.

## Traces

With the extra `orgstats[otel]`, both send OpenTelemetry traces where the standard variables ask for it, as in
`OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318`; only OTLP over HTTP is supported. A request and the statements
asked for it are spans of the trace that a gateway's `traceparent` names, a checkpoint and its store are spans of the
consumer. No span holds a token, an organization, a parameter or SQL. Without such variables nothing is loaded.
"""


class Declared(NamedTuple):
    """One metric as its declaration has it; `meaning` and `remedy` are one sentence or more each."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str
    remedy: str


def declared(module: ModuleType) -> Iterator[Declared]:
    """The metrics of a module, in its order."""
    for metric in vars(module).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        (described,) = metric.describe()
        kind = "gauge" if described.type == "info" else described.type
        name = described.name + {"counter": "_total", "info": "_info"}.get(described.type, "")
        meaning, _, remedy = described.documentation.partition(". ")
        labels = metric._labelnames  # noqa: SLF001 - told nowhere else
        yield Declared(name, kind, _unit(name), labels or ("version",) * (described.type == "info"), meaning, remedy)


def _unit(name: str) -> str:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "count")


def page() -> str:
    """The whole of docs/metrics.md."""
    return _PAGE.format(consumer=_table(consumer_metrics), query=_table(query_metrics))


def _table(module: ModuleType) -> str:
    rows = (
        f"| `{one.name}` | {one.kind} | {one.unit} | {', '.join(one.labels)} | {one.meaning} | {one.remedy} |"
        for one in declared(module)
    )
    return "\n".join(("| name | type | unit | labels | meaning | remedy |", "|---|---|---|---|---|---|", *rows))


if __name__ == "__main__":
    print(page(), end="")
