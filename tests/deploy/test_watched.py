"""A real Prometheus and a receiver of traces look at a running consumer and API: what they see is what there is."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from orgstats.clickhouse.connect import connect
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.migrate import migrate
from tests.deploy.test_observability import ALERTS, named, panels
from tests.query.seeding import make_token
from tests.query.serving import running_api
from tests.support.daemon import Daemon
from tests.support.prometheus import Prometheus, free_port, running_prometheus
from tests.support.servers import Kafka
from tests.support.wait import wait_for

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"
ONLY_REAL: Final = {"orgstats_retention_deadline_timestamp_seconds"}
"""What the mock Kafka, which tells no retention, gives no reason to measure."""


@dataclass
class Collector:
    """What an OpenTelemetry collector is sent."""

    url: str
    bodies: list[bytes] = field(repr=False)

    def spans(self, *, trace: str = "") -> dict[str, Any]:
        """The newest span of each name, of one trace if it is given."""
        sent = (ExportTraceServiceRequest.FromString(body) for body in list(self.bodies))
        scopes = (scope for one in sent for resource in one.resource_spans for scope in resource.scope_spans)
        return {span.name: span for scope in scopes for span in scope.spans if trace in ("", span.trace_id.hex())}


@dataclass(frozen=True)
class Stack:
    """Where everything is, and what may be asked of it."""

    kafka: Kafka
    topic: str
    series: str
    token: str
    prometheus: Prometheus
    collector: Collector

    def use(self, **headers: str) -> bool:
        """Ask for a series, and put records on the topic; of ten one is broken and one has an unnamed outcome."""
        answer = httpx.get(self.series, headers={"Authorization": f"Bearer {self.token}", **headers})
        assert answer.status_code == 200, answer.text
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers})
        for i in range(100):
            event = b'{"timestamp":1,"org_id":1,"outcome":%d}' % (9 if i % 10 == 1 else 0)
            producer.produce(self.topic, event if i % 10 else b"[]")
        return producer.flush(30) == 0


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A receiver of OTLP over HTTP."""

    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Collector(f"http://127.0.0.1:{server.server_port}", bodies)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def stack(
    kafka: Kafka,
    clickhouse_server: str,
    collector: Collector,
    prometheus: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """A consumer and an API that send traces, and a Prometheus that looks at both every half second."""
    directory = tmp_path_factory.mktemp("watched")
    topic = kafka.create_topic(4, {"retention.ms": "3600000"} if kafka.real else None)
    own = {"ORGSTATS_METRICS_LISTEN": f"127.0.0.1:{free_port()}"}
    if not kafka.real:
        own["ORGSTATS_TOPIC_ID"] = topic
    with ExitStack() as ending:
        url = ending.enter_context(_database(clickhouse_server))
        with Database(url, size=1) as database:
            Directory(database).add_organization(Wanted("acme", key=1), 1.0)
            token = make_token(database, 1)
        env = ending.enter_context(pytest.MonkeyPatch.context())
        env.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        env.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        daemon = Daemon("consumer", directory, kafka.bootstrap_servers, topic, url, **own)
        ending.callback(daemon.child.kill)
        api = ending.enter_context(running_api(url, directory))
        targets = {"orgstats-consumer": own["ORGSTATS_METRICS_LISTEN"], "orgstats-api": urlsplit(api.url).netloc}
        watching = ending.enter_context(running_prometheus(prometheus, directory, _config(targets)))
        series = f"{api.url}/api/0/organizations/acme/stats/"
        yield Stack(kafka, topic, series, token, watching, collector)
        assert daemon.child.stop() == 0, daemon.child.tail()


@contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with connect(server, client_name="tests") as client:
        client.execute(f"CREATE DATABASE {name}")
        url = urlsplit(server)._replace(path=f"/{name}").geturl()
        migrate(url, retention_days=0)
        yield url
        client.execute(f"DROP DATABASE {name} SYNC")


def _config(targets: dict[str, str]) -> dict[str, Any]:
    """The project's configuration, with other targets."""
    config: dict[str, Any] = yaml.safe_load(ALERTS.with_name("prometheus.yml").read_text(encoding="utf-8"))
    config["rule_files"] = [str(ALERTS)]
    assert {job["job_name"] for job in config["scrape_configs"]} == set(targets)
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    return config


def test_every_panel_has_data(stack: Stack) -> None:
    """Both processes are scraped, and no query of a dashboard comes back empty while they work."""

    left = [panel for panel in panels() if stack.kafka.real or not named(panel[1]) & ONLY_REAL]

    def shown() -> bool:
        stack.use()
        left[:] = [(title, query) for title, query in left if not stack.prometheus.ask("query", query=query)["result"]]
        return not left

    with suppress(AssertionError):
        wait_for(shown, 60, poll_seconds=0.5)
    assert left == []
    targets = stack.prometheus.ask("targets")["activeTargets"]
    assert [(target["labels"]["job"], target["health"], target["lastError"]) for target in targets] == [
        ("orgstats-api", "up", ""),
        ("orgstats-consumer", "up", ""),
    ]


def test_alert_rules_are_evaluated_and_fire(stack: Stack) -> None:
    """Every rule is evaluated without an error; one record in ten is bad, and the alert names the topic."""

    def firing() -> list[dict[str, Any]]:
        stack.use()
        return stack.prometheus.firing()

    alerts = wait_for(firing, 60, poll_seconds=0.5)
    assert [alert["labels"]["alertname"] for alert in alerts] == ["OrgstatsDeadLetters"]
    assert stack.topic in alerts[0]["annotations"]["summary"]
    rules = [rule for group in stack.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []


def test_trace_spans_gateway_request_and_statements(stack: Stack) -> None:
    """A request with a `traceparent` and a statement asked for it are spans of that trace."""
    route = "/api/0/organizations/{organization_slug}/stats/"

    def traced() -> dict[str, Any]:
        stack.use(traceparent=f"00-{TRACE}-{PARENT}-01")
        spans = stack.collector.spans(trace=TRACE)
        return spans if {f"GET {route}", "read series"} <= spans.keys() else {}

    spans = wait_for(traced, 30, poll_seconds=0.5)
    request = spans[f"GET {route}"]
    assert request.parent_span_id.hex() == PARENT
    assert {one.key: one.value.int_value or one.value.string_value for one in request.attributes} == {
        "http.request.method": "GET",
        "http.route": route,
        "http.response.status_code": 200,
    }


def test_traces_hold_no_parameter_values(stack: Stack) -> None:
    """The consumer tells of checkpoints; no span has a token, a slug or SQL in it."""

    def told() -> bool:
        return stack.use() and {"checkpoint", "store", "read tokens_of"} <= stack.collector.spans().keys()

    wait_for(told, 30, poll_seconds=0.5)
    sent = b"".join(stack.collector.bodies)
    assert [name for name in ("orgstats-api", "orgstats-consumer") if name.encode() not in sent] == []
    assert [secret for secret in (stack.token, "acme", "SELECT") if secret.encode() in sent] == []
