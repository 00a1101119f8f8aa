"""The dashboard and the operators' page: pages and files as they were installed; nothing is fetched from elsewhere."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from orgstats.query.http import matches

PAGES: Final = {"/": "index.html", "/ops": "ops.html"}
PLOTLY: Final = "plotly.min.js"

_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
    "Cache-Control": "no-cache",  # keep it, and ask each time: the files of two releases must never mix
}


class Content(NamedTuple):
    """The bytes of a file as they are sent, and their ETag."""

    body: bytes
    etag: str


def add_dashboard(app: Starlette) -> None:
    """Serve the pages at `/` and `/ops`, and their files under `/dashboard/`."""
    names = {path.name for path in Path(__file__).parent.iterdir() if path.suffix in _MEDIA_TYPES} | {PLOTLY}

    # No coroutines: compressing plotly takes a moment, and a thread of its own can have it.
    def page(request: Request) -> Response:
        return _answer(request.headers, PAGES[request.url.path])

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        return _answer(request.headers, name) if name in names else Response(status_code=404)

    for path in PAGES:
        app.add_route(path, page)
    app.add_route("/dashboard/{name}", file)


def _answer(request: Mapping[str, str], name: str) -> Response:
    encoding = "gzip" if "gzip" in request.get("accept-encoding", "") else None
    content = _content(name, encoding)
    headers = {**_HEADERS, "ETag": content.etag}
    if matches(request.get("if-none-match"), content.etag):
        return Response(status_code=304, headers=headers)
    if encoding:
        headers["Content-Encoding"] = encoding
    return Response(content.body, headers=headers, media_type=_MEDIA_TYPES[Path(name).suffix])


@cache
def _content(name: str, encoding: str | None) -> Content:
    """A file's bytes in an encoding, read and compressed once."""
    body = (_plotly() if name == PLOTLY else Path(__file__).with_name(name)).read_bytes()
    if encoding == "gzip":
        body = gzip.compress(body, mtime=0)
    return Content(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _plotly() -> Path:
    """The browser's part of the installed plotly; the package itself is not imported, which would take a second."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package plotly is not installed")
    return Path(spec.origin).with_name("package_data") / PLOTLY
