"""The ASGI application: routes, health, metrics, documents, one access log line per request."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response

from orgstats import tracing
from orgstats.errors import OrgstatsError
from orgstats.query import metrics
from orgstats.query.access import TOKEN_PREFIX
from orgstats.query.clickhouse import Database
from orgstats.query.dashboard import add_dashboard
from orgstats.query.docs import page
from orgstats.query.endpoint import GATEWAY_HEADER, AccessLogEntry, Request, StatsEndpoint
from orgstats.query.http import Answer, failure
from orgstats.query.limits import RateLimit
from orgstats.query.openapi import PARAMETERS, ROUTES, document
from orgstats.query.reader import Reader
from orgstats.query.settings import QuerySettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOK_SECONDS: Final = 5.0

_HEADERS: Final = {name.encode() for name in ("authorization", "if-none-match", "accept-encoding", GATEWAY_HEADER)}
_ANY_TOKEN: Final = re.compile(TOKEN_PREFIX + r"[A-Za-z0-9_-]+")

logger = structlog.get_logger("orgstats.query")


class Health:
    """Whether this process should get requests; `drain` once it is about to leave."""

    def __init__(self) -> None:
        self.started = asyncio.Event()  # said so in the log
        self.draining = False

    def drain(self) -> None:
        """From now on readiness says no; requests are still answered."""
        self.draining = True


def create_app(settings: QuerySettings, *, health: Health | None = None) -> Starlette:
    """The whole application over the ClickHouse of `settings`, which is first asked when it starts."""
    health = health or Health()
    database = Database(
        settings.clickhouse_url,
        size=settings.query_connections,
        timeout_seconds=settings.query_timeout_seconds,
        max_rows_to_read=settings.query_max_rows,
        max_threads=settings.query_threads,
    )
    operating = Database(
        settings.ops_clickhouse_url or settings.clickhouse_url, size=1, timeout_seconds=settings.query_timeout_seconds
    )
    metrics.busy_connections.set_function(lambda: database.in_use)
    reader = Reader(
        database,
        timeout_seconds=settings.query_timeout_seconds,
        token_seconds=settings.revocation_seconds,
        integers=settings.integer_timestamps,
        operating=operating,
    )
    endpoint = StatsEndpoint(
        reader,
        RateLimit(settings.rate_limit, settings.rate_window_seconds),
        gateway=settings.gateway(),
        retention_days=settings.retention_days,
        timeout_seconds=settings.query_timeout_seconds,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(_look(reader, health))
        yield
        looking.cancel()
        reader.close()

    app = Starlette(lifespan=lifespan, exception_handlers={HTTPException: _refused, Exception: _failed})
    app.router.redirect_slashes = False
    for route, path in ROUTES.items():
        for spelling in (path, path.removesuffix("/"), path + "/"):
            app.add_route(spelling, StatsRoute(endpoint, route))  # type: ignore[arg-type]  # an ASGI application
    _add_health(app, reader, health)
    _add_documents(app)
    add_dashboard(app)
    if not settings.metrics_listen:
        app.add_route("/metrics", _metrics)
    return app


async def _look(reader: Reader, health: Health) -> None:
    """Say after the start what keeps ClickHouse from being read, once, and on a cluster go on looking at progress.

    What was complete a while ago is known only to who looked then, and requests may be rare.
    """
    await health.started.wait()
    told = False
    while True:
        try:
            await reader.ping()
            await reader.state()
            if not await reader.is_replicated():
                return
        except OrgstatsError as error:
            if not told:
                logger.warning("ClickHouse cannot be read: requests are answered with 503", error=str(error))
            told = True
        await asyncio.sleep(LOOK_SECONDS)


class StatsRoute:
    """One of the stats endpoints as an ASGI application of its own: no framework between request and answer."""

    def __init__(self, endpoint: StatsEndpoint, route: str) -> None:
        self._endpoint = endpoint
        self._route = route

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        started, seen = time.perf_counter(), AccessLogEntry()
        with tracing.request(scope["method"], ROUTES[self._route], scope["headers"]):
            answer = await self._answer(scope, seen)
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
            tracing.answered(answer.status)
        seconds = time.perf_counter() - started
        metrics.requests.labels(self._route, answer.status).inc()
        metrics.request_seconds.labels(self._route).observe(seconds)
        _log(scope, answer, seen, seconds)

    async def _answer(self, scope: Scope, seen: AccessLogEntry) -> Answer:
        try:
            return await self._endpoint.answer(_request(scope, self._route), time.time(), seen)
        except Exception:
            logger.exception("failed", path=_masked(scope["path"]))
            return failure(500, "Internal Error")


def _request(scope: Scope, route: str) -> Request:
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
    return Request(
        method=scope["method"],
        route=route,
        organization=scope["path_params"].get("organization_slug", ""),
        project=scope["path_params"].get("project_slug"),
        query_string=scope["query_string"].decode("latin-1"),
        headers=headers,
    )


def _log(scope: Scope, answer: Answer, seen: AccessLogEntry, seconds: float) -> None:
    parameters = scope["query_string"].decode("latin-1").split("&")
    shown = [parameter for parameter in parameters if parameter.partition("=")[0] in PARAMETERS]
    client = scope.get("client")
    log = logger.warning if seen.error else logger.info
    log(
        "request",
        method=scope["method"],
        path=_masked(scope["path"]),
        query=_masked("&".join(shown))[:500],
        status=answer.status,
        bytes=len(answer.body),
        ms=round(seconds * 1000, 2),
        caller=seen.caller,
        org_id=seen.org_id,
        client=client[0] if client else None,
        **{name: text for name, text in (("error", seen.error), ("request_id", _request_id(scope))) if text},
    )


def _request_id(scope: Scope) -> str:
    """The name that a gateway gave the request, to be found in both logs."""
    named = (value for name, value in scope["headers"] if name == b"x-request-id")
    return _masked(next(named, b"").decode("latin-1"))[:64]


def _masked(text: str) -> str:
    """Text without tokens, for those who put them where they do not belong."""
    return _ANY_TOKEN.sub(f"{TOKEN_PREFIX}…", text)


def _add_health(app: Starlette, reader: Reader, health: Health) -> None:
    async def live(_: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: HttpRequest) -> Response:
        if health.draining:
            return JSONResponse({"detail": "draining"}, 503)
        try:
            await reader.ping()
        except OrgstatsError as error:
            logger.warning("not ready", error=str(error))
            return JSONResponse({"detail": "ClickHouse does not answer as it should"}, 503)
        return JSONResponse({"status": "ok"})

    app.add_route("/healthz/live", live)
    app.add_route("/healthz/ready", ready)


async def _refused(request: HttpRequest, error: Any) -> Response:
    """What no route answers, in the form of every error."""
    texts = {404: "The requested resource does not exist", 405: f'Method "{request.method}" not allowed.'}
    return _error(error.status_code, texts.get(error.status_code, error.detail), dict(error.headers or {}))


async def _failed(request: HttpRequest, _: Any) -> Response:
    """A fault of ours beside the endpoint, which the server writes to the log."""
    logger.error("failed", path=_masked(request.url.path))
    return _error(500, "Internal Error", {})


def _error(status: int, detail: str, headers: dict[str, str]) -> Response:
    told = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "*"}
    return JSONResponse({"detail": detail}, status, {**told, **headers})


def _add_documents(app: Starlette) -> None:
    described = document()
    text, html = json.dumps(described, indent=2), page(described)
    app.add_route("/openapi.json", lambda _: Response(text, media_type="application/json"))
    app.add_route("/docs", lambda _: HTMLResponse(html))


def _metrics(_: HttpRequest) -> Response:
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)
