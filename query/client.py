"""The endpoint from Python: typed, patient with a busy server, and honest about what a number means.

with StatsClient("https://stats.example.com", token) as client:
    stats = client.organization_stats("the-interstellar-jurisdiction", stat="rejected")
    print(sum(count for _, count in stats.points), stats.complete_until)
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from orgstats.errors import OrgstatsError, Unavailable
from orgstats.schemas.outcomes import Stat

Points = tuple[tuple[float, int], ...]

_RETRIED: Final = frozenset({429, 502, 503, 504})


class RequestRefused(OrgstatsError):
    """The server will not answer this request, however often it is asked: 400, 401, 403, 404 and the like."""

    exit_code = 2

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Stats:
    """A series of (start of bucket in epoch seconds, count), and how far it can be trusted."""

    points: Points
    complete_until: int | None  # all acknowledged before is counted; None: unknown
    retained_since: int | None  # counts before may have been deleted; None: never deleted


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a question is asked again, and the longest wait before one of these, in seconds."""

    retries: int = 4
    longest_wait_seconds: float = 30.0


USUAL_PATIENCE: Final = Patience()


class StatsClient:
    """A client of one server, for one thread at a time; close it, or use it in a `with`.

    Failure semantics: only GETs are sent, so each may be repeated. What is busy or away (429, 502, 503, 504,
    no connection, no answer) is tried again as `patience` says, after the time the server names or a growing
    one with chance in it; then Unavailable.
    Everything else is RequestRefused at once.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout_seconds: float = 30.0,
        patience: Patience = USUAL_PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._patience = patience
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}", "User-Agent": "orgstats-client"},
            timeout=timeout_seconds,
            transport=transport,
        )

    def organization_stats(
        self,
        organization: str | int,
        *,
        stat: Stat = "received",
        since: float | None = None,
        until: float | None = None,
        resolution: str | None = None,
    ) -> Stats:
        """The series of an organization (slug or id); times in epoch seconds, the server's defaults for None."""
        path = f"/api/0/organizations/{_quoted(organization)}/stats/"
        response = self._get(path, _parameters(stat, since, until, resolution))
        return _stats(response, response.json())

    def project_stats(
        self,
        organization: str | int,
        project: str | int,
        *,
        stat: Stat = "received",
        since: float | None = None,
        until: float | None = None,
        resolution: str | None = None,
    ) -> Stats:
        """The series of one project (slug or id), as organization_stats."""
        path = f"/api/0/projects/{_quoted(organization)}/{_quoted(project)}/stats/"
        response = self._get(path, _parameters(stat, since, until, resolution))
        return _stats(response, response.json())

    def stats_by_project(
        self,
        organization: str | int,
        *,
        projects: Sequence[int] = (),
        stat: Stat = "received",
        since: float | None = None,
        until: float | None = None,
        resolution: str | None = None,
    ) -> dict[int, Stats]:
        """The series of each project of an organization, or of these ids, by the project's id."""
        parameters = _parameters(stat, since, until, resolution) | {"group": "project", "projectID": list(projects)}
        response = self._get(f"/api/0/organizations/{_quoted(organization)}/stats/", parameters)
        series = response.json() or {}  # without any project the answer is an empty array
        return {int(project): _stats(response, points) for project, points in series.items()}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, path: str, parameters: dict[str, Any]) -> httpx.Response:
        for attempt in range(self._patience.retries + 1):
            answer = self._try(path, parameters)
            if isinstance(answer, httpx.Response) and answer.status_code not in _RETRIED:
                return _accepted(answer)
            if attempt < self._patience.retries:
                self._sleep(min(_wait_seconds(answer, attempt), self._patience.longest_wait_seconds))
        raise Unavailable(
            f"the server did not answer after {self._patience.retries + 1} attempts: {_described(answer)}"
        )

    def _try(self, path: str, parameters: dict[str, Any]) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.get(path, params=parameters)
        except httpx.TransportError as error:
            return error


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.status_code == 200:
        return response
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase
    raise RequestRefused(response.status_code, detail)


def _wait_seconds(answer: httpx.Response | httpx.TransportError, attempt: int) -> float:
    """What the server asks for, else 0.5 s doubling, half of it by chance so that clients do not come at once."""
    if isinstance(answer, httpx.Response) and (asked := _retry_after(answer)) is not None:
        return asked
    return 0.5 * math.pow(2, attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that a Retry-After header asks to wait, given as a number or a date."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _described(answer: httpx.Response | httpx.TransportError) -> str:
    return f"status {answer.status_code}" if isinstance(answer, httpx.Response) else type(answer).__name__


def _quoted(name: str | int) -> str:
    return quote(str(name), safe="")


def _parameters(stat: str, since: float | None, until: float | None, resolution: str | None) -> dict[str, Any]:
    given = {"stat": stat, "since": since, "until": until, "resolution": resolution}
    return {name: value for name, value in given.items() if value is not None}


def _stats(response: httpx.Response, points: list[tuple[float, int]]) -> Stats:
    def seconds(name: str) -> int | None:
        text = response.headers.get(name)
        return None if text is None else int(text)

    return Stats(
        tuple((float(start), int(count)) for start, count in points),
        seconds("X-Stats-Complete-Until"),
        seconds("X-Stats-Retained-Since"),
    )
