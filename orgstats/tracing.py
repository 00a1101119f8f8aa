"""OpenTelemetry traces, when the standard OTEL_* variables ask for them; else nothing of it is even imported."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import structlog

import orgstats
from orgstats.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PROTOCOL: Final = "http/protobuf"
_OFF: Final = nullcontext()
_tracer: "Tracer | None" = None

logger = structlog.get_logger("orgstats.tracing")


def configure(service: str, env: Mapping[str, str]) -> None:
    """Send this process's spans where OTEL_* of the environment say; without such variables do nothing.

    Raises ConfigurationError when they ask for what is not installed or not supported.
    """
    global _tracer  # noqa: PLW0603 - as logs and metrics, traces belong to the process
    if not _asked_for(env):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigurationError(
            "OTEL_* variables ask for traces: install orgstats[otel], or set OTEL_TRACES_EXPORTER=none"
        ) from None
    named = env.get("OTEL_SERVICE_NAME") or "service.name=" in env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    own = {"service.version": orgstats.__version__, **({} if named else {"service.name": service})}
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    sdk_log = logging.getLogger("opentelemetry")
    sdk_log.handlers, sdk_log.propagate = [_OurLog()], False
    _tracer = provider.get_tracer("orgstats")


def _asked_for(env: Mapping[str, str]) -> bool:
    exporter = env.get("OTEL_TRACES_EXPORTER", "")
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if exporter == "none" or env.get("OTEL_SDK_DISABLED", "").lower() == "true" or not (exporter or endpoint):
        return False
    if exporter not in ("", "otlp"):
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER: otlp and none are supported, not {exporter}")
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL") or _PROTOCOL
    if protocol != _PROTOCOL:
        raise ConfigurationError(f"OTEL_EXPORTER_OTLP_PROTOCOL: only {_PROTOCOL} is supported, not {protocol}")
    return True


def span(name: str, attributes: Mapping[str, str | int] | None = None) -> AbstractContextManager[None]:
    """A part of the work under way. Names and attributes must hold no parameters and no secrets."""
    return _OFF if _tracer is None else _recorded(_tracer, name, "CLIENT", attributes, None)


def request(method: str, route: str, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[None]:
    """A request that is answered; it goes on with the trace of a W3C `traceparent` among its headers."""
    if _tracer is None:
        return _OFF
    known = method if method in _METHODS else "HTTP"
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name.startswith(b"trace")}
    return _recorded(
        _tracer, f"{known} {route}", "SERVER", {"http.request.method": known, "http.route": route}, carrier
    )


def answered(status: int) -> None:
    """Say with what the request under way is answered."""
    if _tracer is not None:
        from opentelemetry.trace import StatusCode, get_current_span

        get_current_span().set_attribute("http.response.status_code", status)
        if status >= 500:
            get_current_span().set_status(StatusCode.ERROR)


def carried(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, for another thread: its spans belong to the one under way here."""
    return function if _tracer is None else partial(copy_context().run, function)


@contextmanager
def _recorded(
    tracer: "Tracer",
    name: str,
    kind: str,
    attributes: Mapping[str, str | int] | None,
    carrier: Mapping[str, str] | None,
) -> Iterator[None]:
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(carrier) if carrier else None
    # An exception's text may quote values, so only its type is told.
    options: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(name, context, SpanKind[kind], attributes, **options) as recording:
        try:
            yield
        except BaseException as error:
            recording.set_status(StatusCode.ERROR, type(error).__name__)
            raise


class _OurLog(logging.Handler):
    """What the SDK has to say, as one of our log lines."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.warning("traces", detail=record.getMessage())
