"""The stats endpoints: one request becomes one answer, in the order in which a client may learn things."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from orgstats.errors import ConfigurationError, Unavailable
from orgstats.query.access import (
    Caller,
    Forbidden,
    NotFound,
    Organization,
    Unauthenticated,
    bearer,
    caller_of,
    checked_digest,
    permit,
)
from orgstats.query.beside import Beside, CompleteBody
from orgstats.query.completeness import CountedState
from orgstats.query.gateway import Gateway
from orgstats.query.http import (
    NOTHING,
    PREFLIGHT,
    RETRY_AFTER_SECONDS,
    UNAVAILABLE,
    Answer,
    accepts_gzip,
    failure,
    matches,
)
from orgstats.query.limits import Quota, RateLimit, retry_after
from orgstats.query.params import InvalidQuery, Selection, StatsQuery, check_points, parse, parse_selection
from orgstats.query.reader import Reader
from orgstats.query.sql import reads_hourly
from orgstats.schemas.outcomes import FILTER_REASONS, STATS

Question = Callable[[CountedState], Awaitable[CompleteBody]]
METHODS: Final = ("GET", "HEAD", "OPTIONS")
_VARY_GZIPPED: Final = (("Vary", "Accept-Language, Cookie, Accept-Encoding"),)
GATEWAY_HEADER: Final = "x-orgstats-gateway"


@dataclass(frozen=True, slots=True)
class Request:
    """What the endpoints look at of a request; `route` is a name of openapi.ROUTES, header names are in lower case."""

    method: str
    route: str
    organization: str
    project: str | None
    query_string: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class AccessLogEntry:
    """What became known of a request while it was answered, for the access log."""

    caller: str = ""
    org_id: int | None = None
    error: str = ""  # why ClickHouse could not be read


class StatsEndpoint:
    """Answers requests for what was counted of an organization: the documented series, usage, and what is beside it."""

    def __init__(
        self,
        reader: Reader,
        limit: RateLimit,
        *,
        gateway: Gateway | None,
        retention_days: int,
        timeout_seconds: float,
    ) -> None:
        self._reader = reader
        self._limit = limit
        self._gateway = gateway
        self._retention_days = retention_days
        self._timeout_seconds = timeout_seconds
        self._beside = Beside(reader)

    async def answer(self, request: Request, now: float, seen: AccessLogEntry) -> Answer:
        """The whole answer at `now` (epoch seconds); every error that has a meaning for the client is one."""
        if request.method == "OPTIONS":  # asked by browsers before they send a token
            return Answer(200, headers=PREFLIGHT)
        if request.method not in METHODS:
            return failure(405, f'Method "{request.method}" not allowed.')
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._authenticated(request, now, seen)
        except Unauthenticated as error:
            return failure(401, str(error), ("WWW-Authenticate", "Bearer"))
        except (Unavailable, ConfigurationError, TimeoutError) as error:
            seen.error = str(error) or "the time for one request is over"
            return failure(503, UNAVAILABLE, ("Retry-After", str(RETRY_AFTER_SECONDS)))

    async def _authenticated(self, request: Request, now: float, seen: AccessLogEntry) -> Answer:
        caller = await self._caller(request.headers, now)
        seen.caller = caller.name
        quota = self._limit.take(caller.name, now)
        if quota.allowed:
            answer = await self._permitted(request, caller, now, seen)
        else:
            answer = _too_frequent(quota, self._limit.seconds, now)
        return Answer(answer.status, answer.body, (*answer.headers, *_quota_headers(quota)))

    async def _permitted(self, request: Request, caller: Caller, now: float, seen: AccessLogEntry) -> Answer:
        try:
            if request.route == "ops":
                return await self._answered(partial(self._beside.operating, caller), request.headers, now)
            if request.route == "organizations":
                return await self._answered(partial(self._beside.organizations, caller), request.headers, now)
            pairs = parse_qsl(request.query_string, keep_blank_values=True)
            if request.route == "without_slug":
                question: Question = partial(self._beside.without_slug, caller, pairs, now)
                return await self._answered(question, request.headers, now)
            organization = permit(caller, await self._reader.organization(request.organization))
            seen.org_id = organization.org_id
            if request.route not in ("organization", "project"):
                question = partial(self._beside.body, request.route, organization, pairs, now)
            else:
                question = partial(self._series, await self._query(request, organization, pairs, now))
            return await self._answered(question, request.headers, now)
        except InvalidQuery as error:
            return failure(400, str(error))
        except Forbidden as error:
            return failure(403, str(error))
        except NotFound as error:
            return failure(404, str(error))

    async def _caller(self, headers: Mapping[str, str], now: float) -> Caller:
        """Who is asking: the gateway's word if there is a gateway and it spoke, otherwise the bearer token."""
        signed = headers.get(GATEWAY_HEADER)
        if self._gateway is not None and signed is not None:
            return self._gateway.caller(signed, now)
        digest = checked_digest(bearer(headers.get("authorization")))
        return caller_of(await self._reader.token(digest), digest, now)

    async def _query(
        self, request: Request, organization: Organization, pairs: list[tuple[str, str]], now: float
    ) -> StatsQuery | None:
        """What is asked for; None when the parameters leave nobody to count for."""
        grouped, reasons = False, frozenset[str]()
        if request.project is not None:
            project_id = await self._project(organization, request.project)
            projects: tuple[int, ...] | None = (project_id,)
            reasons = await self._reasons(organization.org_id, project_id, dict(pairs).get("stat", ""))
        else:
            selection = parse_selection(pairs)
            grouped = selection.group == "project"
            projects = await self._selected(organization, selection)
        stat, buckets, reason = parse(pairs, now, reasons)
        if projects is not None:
            check_points(buckets, len(projects))
        return None if projects == () else StatsQuery(organization.org_id, stat, buckets, projects, grouped, reason)

    async def _project(self, organization: Organization, name: str) -> int:
        """The id of the project with this slug or numeric id; raises NotFound."""
        for project in await self._reader.projects(organization.org_id):
            if name == (str(project.project_id) if name.isdigit() else project.slug):
                return project.project_id
        raise NotFound

    async def _reasons(self, org_id: int, project_id: int, stat: str) -> frozenset[str]:
        """What a project may be asked for in place of a stat: published reasons, and `stat` if it is one it has."""
        known = not stat or stat in STATS or stat in FILTER_REASONS
        stored = not known and await self._reader.is_filtered_for(org_id, project_id, stat)
        return FILTER_REASONS | {stat} if stored else FILTER_REASONS

    async def _selected(self, organization: Organization, selection: Selection) -> tuple[int, ...] | None:
        """The projects to count for; None for the organization itself, none of them for nobody."""
        if selection.group == "project":
            existing = await self._reader.projects(organization.org_id)
            return selection.projects(project.project_id for project in existing)
        return None if selection.ids is None or organization.org_id in selection.ids else ()

    async def _series(self, query: StatsQuery | None, state: CountedState) -> CompleteBody:
        if query is None:
            return CompleteBody(NOTHING, state.complete_until)
        until = state.hourly_until if reads_hourly(query) else state.complete_until
        return CompleteBody(await self._reader.series(query, state), until)

    async def _answered(self, question: Question, asked: Mapping[str, str], now: float) -> Answer:
        # The state is read before the counts, so what it says is complete is in them.
        state = await self._reader.state()
        body, complete_until = await question(state)
        gzipped = body.is_long and accepts_gzip(asked.get("accept-encoding"))
        headers = (
            # The same series in other bytes has a weak ETag, also in a 304; If-None-Match takes both.
            ("ETag", f"W/{body.etag}" if gzipped else body.etag),
            # Late events and replays may change any bucket: keep it, and ask each time whether it still holds.
            ("Cache-Control", "private, no-cache"),
            *_trust_headers(complete_until, self._retention_days, now),
            *(_VARY_GZIPPED if gzipped else ()),
            *body.headers,
        )
        if matches(asked.get("if-none-match"), body.etag):
            return Answer(304, headers=headers)
        if not gzipped:
            return Answer(200, body.content, headers)
        content = await asyncio.to_thread(lambda: body.gzipped)
        return Answer(200, content, (*headers, ("Content-Encoding", "gzip")))


def _trust_headers(complete_until: int | None, retention_days: int, now: float) -> list[tuple[str, str]]:
    """How far the numbers can be trusted, at both ends of time."""
    headers = []
    if complete_until is not None:
        headers.append(("X-Stats-Complete-Until", str(min(complete_until, int(now)))))
    if retention_days:
        headers.append(("X-Stats-Retained-Since", str(math.ceil(now) - retention_days * 86_400)))
    return headers


def _quota_headers(quota: Quota) -> list[tuple[str, str]]:
    if not quota.limit:
        return []
    return [
        ("X-Sentry-Rate-Limit-Limit", str(quota.limit)),
        ("X-Sentry-Rate-Limit-Remaining", str(quota.remaining)),
        ("X-Sentry-Rate-Limit-Reset", str(quota.reset_at)),
    ]


def _too_frequent(quota: Quota, seconds: int, now: float) -> Answer:
    text = (
        f"You are attempting to use this endpoint too frequently. Limit is {quota.limit} requests in {seconds} seconds"
    )
    return failure(429, text, ("Retry-After", str(retry_after(quota, now))))
