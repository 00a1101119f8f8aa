"""Answers of the stats endpoints as values: status, headers and body, before any server sees them."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from orgstats.query.series import Point

RETRY_AFTER_SECONDS: Final = 5
LONG_BYTES: Final = 4_096
UNAVAILABLE: Final = "The counts cannot be read at the moment. Please try again in a few seconds."

_EVERY_ANSWER: Final = (
    (b"content-type", b"application/json"),
    (b"x-xss-protection", b"1; mode=block"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"deny"),
    (b"content-language", b"en"),
    (b"vary", b"Accept-Language, Cookie"),
    (b"allow", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-allow-headers",
        b"X-Sentry-Auth, X-Requested-With, Origin, Accept, Content-Type, Authentication, Authorization",
    ),
    (
        b"access-control-expose-headers",
        b"X-Sentry-Error, Retry-After, ETag, X-Stats-Complete-Until, X-Stats-Retained-Since",
    ),
)
PREFLIGHT: Final = (
    ("Access-Control-Max-Age", "3600"),
    (
        "Access-Control-Allow-Headers",
        (
            "X-Sentry-Auth, X-Requested-With, Origin, Accept, Content-Type, Authentication, Authorization, "
            "Content-Encoding, sentry-trace, baggage"
        ),
    ),
)
"""What a preflight is told beside: the headers of pages with Sentry's SDK, too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `headers` are those beside the ones that every answer has."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers as ASGI wants them. A 304 has no length of its own: it speaks of a body not sent."""
        own = [(name.lower().encode(), value.encode()) for name, value in self.headers]
        replaced = {name for name, _ in own}
        headers = [*(header for header in _EVERY_ANSWER if header[0] not in replaced), *own]
        if self.status != 304:
            headers.append((b"content-length", str(len(self.body)).encode()))
        return headers


@dataclass(frozen=True)
class Body:
    """The bytes of an answer and their ETag, which is a hash of them and so never wrong; headers that go with them."""

    content: bytes
    etag: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether it is worth being compressed."""
        return len(self.content) >= LONG_BYTES

    @cached_property
    def gzipped(self) -> bytes:
        """The content compressed, once for as long as the body is cached."""
        return gzip.compress(self.content, 1, mtime=0)


def failure(status: int, detail: str, *headers: tuple[str, str]) -> Answer:
    """An error in the original's form; no cache may keep it."""
    body = json.dumps({"detail": detail}).encode()
    return Answer(status, body, (("Cache-Control", "no-store"), *headers))


def body_of_series(points: Sequence[Point], *, integers: bool = False) -> Body:
    """`[[1584824400.0, 6090], …]`: the timestamp with a fraction unless `integers`, the count of any size."""
    return _body(_array(points, integers))


def body_of_projects(series: Mapping[int, Sequence[Point]], *, integers: bool = False) -> Body:
    """`{"<project id>": [[1584824400.0, 6090], …], …}`."""
    arrays = (f'"{project}": {_array(points, integers)}' for project, points in series.items())
    return _body("{" + ", ".join(arrays) + "}")


def body_of_json(answer: Any) -> Body:
    """Any other answer."""
    return _body(json.dumps(answer))


def body_of_text(text: str, headers: tuple[tuple[str, str], ...]) -> Body:
    """What is no JSON; `headers` name its type."""
    return replace(_body(text), headers=headers)


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether a client takes gzip: it is named, or everything is, and not refused with q=0."""
    wanted = {}
    for coding in (accept_encoding or "").lower().split(","):
        name, _, parameters = coding.partition(";")
        wanted[name.strip()] = not _REFUSED.fullmatch(parameters.strip())
    return wanted.get("gzip", wanted.get("*", False))


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether a conditional request already has the answer with this ETag."""
    if if_none_match is None:
        return False
    candidates = [candidate.strip() for candidate in if_none_match.split(",")]
    return "*" in candidates or etag in [candidate.removeprefix("W/") for candidate in candidates]


_REFUSED: Final = re.compile(r"q\s*=\s*0(\.0*)?")


def _array(points: Iterable[Point], integers: bool) -> str:
    fraction = "" if integers else ".0"
    return "[" + ", ".join([f"[{start}{fraction}, {count}]" for start, count in points]) + "]"


def _body(text: str) -> Body:
    content = text.encode()
    return Body(content, '"' + hashlib.sha256(content).hexdigest()[:32] + '"')


NOTHING: Final = _body("[]")
"""What the original answers when the parameters select no project."""
