"""The endpoint from Python: typed, patient with a busy server, and honest about what a number means.

with StatsClient("https://stats.example.com", token) as client:
    stats = client.organization_stats("the-interstellar-jurisdiction", stat="rejected", period="7d")
    print(sum(count for _, count in stats.points), stats.complete_until)

AsyncStatsClient is the same with `async with` and `await`.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import httpx

from orgstats.errors import OrgstatsError, Unavailable
from orgstats.times import format_time, parse_time

Points = tuple[tuple[float, int], ...]
Answer = TypeVar("Answer")

_RETRIED: Final = frozenset({429, 502, 503, 504})


class RequestRefused(OrgstatsError):
    """The server will not answer this request, however often it is asked: 400, 401, 403, 404 and the like."""

    exit_code = 2

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class Asked(TypedDict, total=False):
    """Which events, and when; for what is absent or None the server's defaults hold.

    Times are epoch seconds, or text as on the command line: `2020-03-21T21:00:00Z`, or `-7d` by this machine's clock.
    Text that is no time is a ValueError.
    """

    stat: str  # received, rejected, blacklisted, generated; of one project also a reason of a filter
    since: float | str | None
    until: float | str | None
    period: str | None  # without since: the length of the window up to until, a whole number and s, m, h, d or w
    resolution: str | None  # 10s, 1h or 1d


@dataclass(frozen=True, slots=True)
class Stats:
    """A series of (start of bucket in epoch seconds, count), and how far it can be trusted."""

    points: Points
    complete_until: int | None  # all acknowledged before is counted; None: unknown
    retained_since: int | None  # counts before may have been deleted; None: never deleted


class UsageAsked(TypedDict, total=False):
    """Which usage, and when; for what is absent or None the server's defaults hold, and times are as in Asked.

    The server wants `category` among the groups, or a filter for categories; and start and end, or a period.
    """

    groups: Sequence[str]  # outcome, category, reason, project, key_id
    fields: Sequence[str]  # sum(quantity), sum(times_seen); when absent the quantity
    start: float | str | None  # start and end to the second
    end: float | str | None
    period: str | None  # the length of the window up to now, instead of start and end
    interval: str | None  # from 1m to 1d
    outcomes: Sequence[str]  # from here on filters
    categories: Sequence[str]
    reasons: Sequence[str]
    projects: Sequence[int]
    keys: Sequence[int]


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """What one group sums up to by field, in all and in each interval."""

    by: Mapping[str, str | int]  # the id of a project is a number
    totals: Mapping[str, int]
    series: Mapping[str, tuple[int, ...]]  # as long as the intervals; grouped by project there is none


@dataclass(frozen=True, slots=True)
class Usage:
    """Groups that have anything; times in epoch seconds, start and end of whole intervals."""

    start: int
    end: int
    intervals: tuple[int, ...]  # the start of each; grouped by project there is none
    groups: tuple[UsageGroup, ...]
    complete_until: int | None  # as in Stats
    retained_since: int | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a question is asked again, and the longest wait before one of these, in seconds."""

    retries: int = 4
    longest_wait_seconds: float = 30.0


USUAL_PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class _Question(Generic[Answer]):
    """A GET, and what its answer means."""

    path: str
    parameters: Mapping[str, Any]
    read: Callable[[httpx.Response], Answer]


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
            base_url=base_url, headers=_headers(token), timeout=timeout_seconds, transport=transport
        )

    def organization_stats(self, organization: str | int, **asked: Unpack[Asked]) -> Stats:
        """The series of an organization (slug or id)."""
        return self._ask(_organization_stats(organization, asked))

    def project_stats(self, organization: str | int, project: str | int, **asked: Unpack[Asked]) -> Stats:
        """The series of one project (slug or id)."""
        return self._ask(_project_stats(organization, project, asked))

    def stats_by_project(
        self, organization: str | int, *, projects: Sequence[int] = (), **asked: Unpack[Asked]
    ) -> dict[int, Stats]:
        """The series of each project of an organization, or of these ids, by the project's id."""
        return self._ask(_stats_by_project(organization, projects, asked))

    def usage(self, organization: str | int, **asked: Unpack[UsageAsked]) -> Usage:
        """Usage of an organization (slug or id) by outcome, category, reason, project or key_id."""
        return self._ask(_usage_question(organization, asked))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: _Question[Answer]) -> Answer:
        attempt = 0
        while True:
            try:
                answer = self._http.get(question.path, params=question.parameters)
            except httpx.TransportError as error:
                wait = _wait_seconds(error, attempt, self._patience)
            else:
                if answer.status_code not in _RETRIED:
                    return question.read(_accepted(answer))
                wait = _wait_seconds(answer, attempt, self._patience)
            self._sleep(wait)
            attempt += 1


class AsyncStatsClient:
    """The same for asyncio, for any number of tasks of one event loop; close it, or use it in an `async with`."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout_seconds: float = 30.0,
        patience: Patience = USUAL_PATIENCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=_headers(token), timeout=timeout_seconds, transport=transport
        )

    async def organization_stats(self, organization: str | int, **asked: Unpack[Asked]) -> Stats:
        """The series of an organization (slug or id)."""
        return await self._ask(_organization_stats(organization, asked))

    async def project_stats(self, organization: str | int, project: str | int, **asked: Unpack[Asked]) -> Stats:
        """The series of one project (slug or id)."""
        return await self._ask(_project_stats(organization, project, asked))

    async def stats_by_project(
        self, organization: str | int, *, projects: Sequence[int] = (), **asked: Unpack[Asked]
    ) -> dict[int, Stats]:
        """The series of each project of an organization, or of these ids, by the project's id."""
        return await self._ask(_stats_by_project(organization, projects, asked))

    async def usage(self, organization: str | int, **asked: Unpack[UsageAsked]) -> Usage:
        """Usage of an organization (slug or id) by outcome, category, reason, project or key_id."""
        return await self._ask(_usage_question(organization, asked))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, question: _Question[Answer]) -> Answer:
        attempt = 0
        while True:
            try:
                answer = await self._http.get(question.path, params=question.parameters)
            except httpx.TransportError as error:
                wait = _wait_seconds(error, attempt, self._patience)
            else:
                if answer.status_code not in _RETRIED:
                    return question.read(_accepted(answer))
                wait = _wait_seconds(answer, attempt, self._patience)
            await self._sleep(wait)
            attempt += 1


def _organization_stats(organization: str | int, asked: Asked) -> _Question[Stats]:
    return _Question(f"/api/0/organizations/{_quoted(organization)}/stats/", _parameters(asked), _stats)


def _project_stats(organization: str | int, project: str | int, asked: Asked) -> _Question[Stats]:
    path = f"/api/0/projects/{_quoted(organization)}/{_quoted(project)}/stats/"
    return _Question(path, _parameters(asked), _stats)


def _stats_by_project(organization: str | int, projects: Sequence[int], asked: Asked) -> _Question[dict[int, Stats]]:
    parameters = _parameters(asked) | {"group": "project", "projectID": list(projects)}
    return _Question(f"/api/0/organizations/{_quoted(organization)}/stats/", parameters, _by_project)


def _usage_question(organization: str | int, asked: UsageAsked) -> _Question[Usage]:
    return _Question(f"/api/0/organizations/{_quoted(organization)}/stats_v2/", usage_parameters(asked), _usage)


def usage_parameters(asked: UsageAsked) -> dict[str, Any]:
    """What the query string says; a sequence is its name repeated with each value."""
    parameters = {"field": ["sum(quantity)"]} | _parameters(asked)
    for name in ("start", "end"):
        if name in parameters:
            parameters[name] = format_time(parameters[name])
    return parameters


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "User-Agent": "orgstats-client"}


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.status_code == 200:
        return response
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase
    raise RequestRefused(response.status_code, detail)


def _wait_seconds(answer: httpx.Response | httpx.TransportError, attempt: int, patience: Patience) -> float:
    """What the server asks for, else 0.5 s doubling, half of it by chance so that clients do not come at once.

    Raises Unavailable after the last attempt; the first is 0.
    """
    if attempt >= patience.retries:
        raise Unavailable(f"the server did not answer after {attempt + 1} attempts: {_described(answer)}")
    asked = _retry_after(answer) if isinstance(answer, httpx.Response) else None
    if asked is None:
        asked = 0.5 * math.pow(2, attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
    return min(asked, patience.longest_wait_seconds)


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


def _parameters(asked: Asked | UsageAsked) -> dict[str, Any]:
    now = time.time()
    times = {name: parse_time(value, now) for name, value in asked.items() if name in _TIMES and isinstance(value, str)}
    given = {_NAMES.get(name, name): value for name, value in {**asked, **times}.items()}
    return {name: value for name, value in given.items() if value is not None}


_TIMES: Final = frozenset({"since", "until", "start", "end"})
_NAMES: Final = {
    "period": "statsPeriod",
    "fields": "field",
    "groups": "groupBy",
    "outcomes": "outcome",
    "categories": "category",
    "reasons": "reason",
    "projects": "project",
    "keys": "key_id",
}


def _by_project(response: httpx.Response) -> dict[int, Stats]:
    series = response.json() or {}  # without any project the answer is an empty array
    return {int(project): _series(response, points) for project, points in series.items()}


def _stats(response: httpx.Response) -> Stats:
    return _series(response, response.json())


def _usage(response: httpx.Response) -> Usage:
    return read_usage(response.json(), *_trusted(response))


def read_usage(
    answer: Mapping[str, Any], complete_until: int | None = None, retained_since: int | None = None
) -> Usage:
    """What the body of a `stats_v2` says."""
    start, end, *intervals = (
        int(parse_time(text, 0.0)) for text in (answer["start"], answer["end"], *answer.get("intervals", ()))
    )
    groups = tuple(
        UsageGroup(one["by"], one["totals"], {field: tuple(sums) for field, sums in one.get("series", {}).items()})
        for one in answer["groups"]
    )
    return Usage(start, end, tuple(intervals), groups, complete_until, retained_since)


def _series(response: httpx.Response, points: list[tuple[float, int]]) -> Stats:
    return Stats(tuple((float(start), int(count)) for start, count in points), *_trusted(response))


def _trusted(response: httpx.Response) -> tuple[int | None, int | None]:
    """Complete until, and retained since."""

    def seconds(name: str) -> int | None:
        text = response.headers.get(name)
        return None if text is None else int(text)

    return seconds("X-Stats-Complete-Until"), seconds("X-Stats-Retained-Since")
