"""Traces are asked for by the standard variables; what cannot be done is said, and nothing is done unasked."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orgstats import tracing
from orgstats.errors import ConfigurationError

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


UNASKED = [
    {},
    {"OTEL_SERVICE_NAME": "orgstats"},
    {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
]


def test_nothing_is_imported_unless_it_is_asked_for() -> None:
    """Without a wish for traces the SDK and its exporter are not loaded, and spans do nothing.

    Of the API alone, which other packages may load by themselves, nothing is said.
    """
    program = f"""
import sys, orgstats.query.app, orgstats.consumer.daemon
from orgstats import tracing
for env in {UNASKED!r}:
    tracing.configure("test", env)
    with tracing.request("GET", "/", []), tracing.span("x"):
        tracing.answered(200)
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
def test_what_is_not_supported_is_named(env: dict[str, str], named: str) -> None:
    """Another exporter or protocol is an error of that variable, not silence."""
    with pytest.raises(ConfigurationError, match=named):
        tracing.configure("test", env)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and not installed, it names the extra and the variable that takes the wish back."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"orgstats\[otel\].*OTEL_TRACES_EXPORTER=none"):
        tracing.configure("test", ENDPOINT)


def test_an_error_is_told_by_its_type_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of an exception may quote values, so no span holds it."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    with pytest.raises(ValueError), tracing.span("read series"):
        raise ValueError("hunter2")
    (span,) = exporter.get_finished_spans()
    assert span.status.description == "ValueError"
    assert "hunter2" not in span.to_json()
