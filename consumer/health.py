"""Whether this process counts, and whether its loop still turns: what Kubernetes and Docker ask for.

Ready is latched: it says that settings, Kafka, ClickHouse and rights were good enough to store a checkpoint once,
so a rollout stops at the first process that cannot. Later outages take no process out of anything, because
a restart would only make it count its open chunks again. Live is the age of the loop: a loop that is paused,
or waits for ClickHouse, still turns.
"""

import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app

from orgstats.consumer import metrics

STUCK_SECONDS: Final = 300.0
"""max.poll.interval.ms of librdkafka: Kafka takes the partitions away from a loop that did not turn for so long."""


class Health:
    """Set by the loop, asked by another thread; `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_at = clock()
        self._ready = False

    def turned(self) -> None:
        """The loop has begun another turn."""
        self._turned_at = self._clock()

    def counts(self) -> None:
        """A checkpoint was stored, or the group left this process without a partition."""
        self._ready = True

    def answer(self, path: str) -> tuple[str, str] | None:
        """Status and text for a path; None for one that is not about health."""
        if path == "/healthz/ready":
            return ("200 OK", "ready") if self._ready else ("503 Service Unavailable", "no checkpoint is stored yet")
        if path == "/healthz/live":
            seconds = self._clock() - self._turned_at
            status = "200 OK" if seconds <= STUCK_SECONDS else "503 Service Unavailable"
            return status, f"the loop turned {seconds:.1f} s ago"
        return None


HEALTH: Final = Health()
"""That of this process; like the metrics, there is one."""


def application(health: Health) -> WSGIApplication:
    """Health at /healthz/ready and /healthz/live, the metrics everywhere else."""
    page: WSGIApplication = make_wsgi_app(metrics.REGISTRY)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = health.answer(environ["PATH_INFO"])
        if found is None:
            return page(environ, start_response)
        status, text = found
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """A probe every few seconds is no news."""


def serve(host: str, port: int, health: Health = HEALTH) -> WSGIServer:
    """Serve metrics and health on a port of their own, on a thread that does not keep the process from ending."""
    server = make_server(host, port, application(health), server_class=_Server, handler_class=_Silent)
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
