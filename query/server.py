"""The process around the application: listening, signals, draining."""

import os
import socket
import time
from collections.abc import Mapping
from types import FrameType

import structlog
import uvicorn
from prometheus_client import start_http_server

import orgstats
from orgstats import logs, tracing
from orgstats.errors import ConfigurationError
from orgstats.query import metrics
from orgstats.query.app import Health, create_app
from orgstats.query.guard import Gate, connection_limit, guarded
from orgstats.query.settings import QuerySettings, split_address

logger = structlog.get_logger("orgstats.query")


def run(settings: QuerySettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain: readiness says no, after `drain_seconds` no new connections
    are taken, and requests under way are answered. A second signal ends the process at once.
    """
    logs.configure(settings.log_level)
    tracing.configure("orgstats-api", os.environ)
    metrics.build.info({"version": orgstats.__version__})
    listener = _listen("ORGSTATS_LISTEN", settings.listen)
    if settings.metrics_listen:
        _serve_metrics(settings.metrics_listen)
    health = Health()
    gate = Gate(connection_limit(settings.query_connections))
    config = uvicorn.Config(
        create_app(settings, health=health),
        log_config=None,
        access_log=False,
        server_header=False,
        http=guarded(gate),
        ws="none",
        timeout_graceful_shutdown=int(settings.query_timeout_seconds) + 1,
    )
    host, port = listener.getsockname()[:2]
    started = {**settings.masked(), "listen": f"{host}:{port}", "connection_limit": gate.limit}
    Server(config, health, settings.drain_seconds, started).run(sockets=[listener])
    logger.info("stopped")


def _listen(variable: str, address: str) -> socket.socket:
    """A listening socket; raises ConfigurationError when it cannot be had."""
    host, port = split_address(address)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(f"{variable}: cannot listen on {address}: {error.strerror}") from None


def _serve_metrics(address: str) -> None:
    host, port = split_address(address)
    try:
        start_http_server(port, host, registry=metrics.REGISTRY)
    except OSError as error:
        raise ConfigurationError(f"ORGSTATS_METRICS_LISTEN: cannot listen on {address}: {error.strerror}") from None


class Server(uvicorn.Server):
    """uvicorn, leaving in two steps, and with exit code 0 when it was asked to leave."""

    def __init__(
        self, config: uvicorn.Config, health: Health, drain_seconds: float, started: Mapping[str, object]
    ) -> None:
        super().__init__(config)
        self._started = started
        self._health = health
        self._drain_seconds = drain_seconds
        self._leave_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it has started once requests are answered and signals heard."""
        await super().startup(sockets)
        logger.info("started", **self._started)
        self._health.started.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as it is called
        """The first signal starts to drain, a second one ends the process at once."""
        if self._health.draining:
            os._exit(130)
        self._health.drain()
        self._leave_at = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether it is time to leave."""
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)
