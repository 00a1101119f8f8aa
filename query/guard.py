"""What a connection may cost before anybody is known to be asking: bytes, headers, time, and its place.

uvicorn's parser keeps a header until it ends, and an open connection until its client leaves. So one client without a
token could fill the memory, and a few hundred half requests the table of open files. Here every part of a request has
a limit and a time, and when places run out the connection that has waited longest without a request gives its own up.
"""

import asyncio
import json
import resource
import time
from collections import Counter
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orgstats.query import metrics

LONGEST_TARGET: Final = 16_384
"""Bytes of a path with its query string: room for a thousand ids of projects."""
LARGEST_HEAD: Final = 32_768
"""Bytes of all headers together."""
MOST_HEADERS: Final = 100
LARGEST_BODY: Final = 65_536
"""Nothing here reads a body; one that a client sends all the same is thrown away."""
HEAD_SECONDS: Final = 10.0
"""Time for the request line and all headers, also for the first byte of a new connection."""
BODY_SECONDS: Final = 10.0
LEAVE_SECONDS: Final = 10.0
"""Time to take the rest of an answer once the connection is to be closed."""
RESERVED_FILES: Final = 64
"""Open files that are not clients: logs, libraries, the listener, ClickHouse."""
MOST_CONNECTIONS: Final = 10_000
_LOG_SECONDS: Final = 10.0

logger = structlog.get_logger("orgstats.query")


def connection_limit(own_connections: int) -> int:
    """Clients that may be connected at once: what the limit of open files leaves, at least 16."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = MOST_CONNECTIONS if files == resource.RLIM_INFINITY else files - RESERVED_FILES - own_connections
    return max(16, min(left, MOST_CONNECTIONS))


class Gate:
    """The places of one process: who waits for a request, and what was turned away."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting: dict[GuardedProtocol, None] = {}  # without a whole head, the longest first
        self._told_at = -_LOG_SECONDS
        self._untold: Counter[str] = Counter()

    def enter(self, taken: int) -> bool:
        """Whether there is a place for one more beside `taken`; makes one if somebody only waits."""
        if taken < self.limit:
            return True
        self.refused("full")
        oldest = next(iter(self.waiting), None)
        if oldest is None:
            return False
        oldest.leave()
        return True

    def refused(self, reason: str) -> None:
        """Count it, and say so in the log, at most one line each 10 s however many there are."""
        metrics.refused_connections.labels(reason).inc()
        self._untold[reason] += 1
        now = time.monotonic()
        if now - self._told_at >= _LOG_SECONDS:
            logger.warning("connections refused", limit=self.limit, **self._untold)
            self._told_at, self._untold = now, Counter()


class _Refusal(Exception):
    """The parser is to stop."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; made by `guarded`."""

    gate: ClassVar[Gate]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """A new client: it has `HEAD_SECONDS` for its first request."""
        self._in_head, self._began_now = True, True
        self._head_bytes = self._header_bytes = self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: tuple[HTTPStatus, str, str] | None = None
        place = self.gate.enter(len(self.connections))
        super().connection_made(transport)
        metrics.connections.set(len(self.connections))
        if place:
            self._wait_for_head()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "full", "Too many connections. Please try again.", told=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Its place is free."""
        self._stop_timer()
        self.gate.waiting.pop(self, None)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        metrics.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        """Some of a request. A head that goes on counts by what arrives, since the parser shows only whole headers."""
        if self.transport.is_closing():
            return
        self._began_now = False
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # to another protocol, which there is none of: an ordinary request
            pass
        except httptools.HttpParserError:
            self._refuse(*(self._refusal or (HTTPStatus.BAD_REQUEST, "malformed", "Invalid HTTP request received.")))
        if self.transport.is_closing():
            return
        if not self._in_head:
            self._start_timer(BODY_SECONDS, self._body_is_late)
            return
        if not self._began_now:
            self._head_bytes += len(data)
        if self._head_bytes > LONGEST_TARGET + LARGEST_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_large", _HEAD_TOO_LARGE)
        elif self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """The first byte of a request line."""
        self._in_head, self._began_now = True, True
        self._head_bytes = self._header_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the path and query string."""
        super().on_url(url)
        if len(self.url) > LONGEST_TARGET:
            text = f"The address is longer than {LONGEST_TARGET:,} bytes."
            self._stop_parser(HTTPStatus.REQUEST_URI_TOO_LONG, "head_large", text)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > LARGEST_HEAD or len(self.headers) > MOST_HEADERS:
            self._stop_parser(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_large", _HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """From here on the request is answered, and its body may still come."""
        length = next((value for name, value in self.headers if name == b"content-length"), b"0")
        if len(length) > 10 or int(length) > LARGEST_BODY:
            self._stop_parser(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_large", _BODY_TOO_LARGE)
        self._stop_timer()
        self.gate.waiting.pop(self, None)
        super().on_headers_complete()
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._body_bytes += len(body)
        if self._body_bytes > LARGEST_BODY:
            self._stop_parser(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_large", _BODY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request has arrived."""
        super().on_message_complete()
        self._in_head = True
        self._stop_timer()

    def on_response_complete(self) -> None:
        """The connection is kept for a while, or closed as soon as the client has taken the answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()
        elif self._in_head and not self.pipeline:
            self.gate.waiting[self] = None

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        self.leave()

    def leave(self) -> None:
        """Close it without a word, giving the client some time to take what was already sent."""
        self.gate.waiting.pop(self, None)
        if not self.transport.is_closing():
            self.transport.close()
            self._abort_later()

    def _wait_for_head(self) -> None:
        self.gate.waiting.setdefault(self)
        self._start_timer(HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "head_slow", f"No request within {HEAD_SECONDS:.0f} seconds.")

    def _body_is_late(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "body_slow", f"No whole body within {BODY_SECONDS:.0f} seconds.")

    def _stop_parser(self, status: HTTPStatus, reason: str, detail: str) -> None:
        self._refusal = status, reason, detail
        raise _Refusal

    def _refuse(self, status: HTTPStatus, reason: str, detail: str, *, told: bool = False) -> None:
        """Answer, unless another answer is under way, and close."""
        if not told:
            self.gate.refused(reason)
        cycle = self.cycle
        silent = cycle is not None and (not cycle.response_complete or not self._in_head) and cycle.response_started
        if cycle is not None:
            cycle.disconnected = True
        if not silent and not self.transport.is_closing():
            self.transport.write(_answer(status, detail))
        self.leave()

    def _start_timer(self, seconds: float, late: Any) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort_later(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(LEAVE_SECONDS, self.transport.abort)


_HEAD_TOO_LARGE: Final = f"The headers are more than {LARGEST_HEAD:,} bytes or more than {MOST_HEADERS}."
_BODY_TOO_LARGE: Final = f"The body is larger than {LARGEST_BODY:,} bytes."


def guarded(gate: Gate) -> type[GuardedProtocol]:
    """The protocol for the connections of one process."""
    return type("Guarded", (GuardedProtocol,), {"gate": gate})


def _answer(status: HTTPStatus, detail: str) -> bytes:
    body = json.dumps({"detail": detail}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "cache-control: no-store\r\nx-content-type-options: nosniff\r\naccess-control-allow-origin: *\r\n"
        f"{'retry-after: 2' + chr(13) + chr(10) if status == HTTPStatus.SERVICE_UNAVAILABLE else ''}"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
