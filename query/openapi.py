"""The one description of what the process answers, in OpenAPI: routes, parameters, statuses, examples.

Written by hand, because the texts of the contract are exact: what typed models could derive are the few schemas at
its end, and not the order of faults, the headers, or an answer that is no object.
"""

from collections.abc import Sequence
from typing import Any, Final

import orgstats
from orgstats.query.http import UNAVAILABLE
from orgstats.query.params import MAX_BUCKETS, MAX_POINTS
from orgstats.query.series import LAST_SECOND
from orgstats.query.usage import FIELDS, GROUPS, MAX_INTERVALS
from orgstats.schemas.outcomes import FILTER_REASONS, STATS

Json = dict[str, Any]

ROUTES: Final = {
    "organization": "/api/0/organizations/{organization_slug}/stats/",
    "project": "/api/0/projects/{organization_slug}/{project_slug}/stats/",
    "usage": "/api/0/organizations/{organization_slug}/stats_v2/",
    "summary": "/api/0/organizations/{organization_slug}/stats-summary/",
    "metrics": "/api/0/organizations/{organization_slug}/metrics/",
    "projects": "/api/0/organizations/{organization_slug}/projects/",
    "organization_details": "/api/0/organizations/{organization_slug}/",
    "organizations": "/api/0/organizations/",
    "without_slug": "/api/0/organizations-without-slug/",
    "ops": "/api/0/ops/",
}
"""Paths of what a token is needed for, by their names in metrics; the last slash may be missing, or doubled."""

_EXAMPLE: Final = [[1584824400.0, 6090], [1584828000.0, 6096], [1584831600.0, 5775]]

_HEADERS: Final = {
    "ETag": "hash of the body; sent back as If-None-Match it gives a 304 while nothing has changed",
    "X-Stats-Complete-Until": (
        "every record that Kafka acknowledged before this time (epoch seconds) is counted; absent when unknown"
    ),
    "X-Stats-Retained-Since": (
        "counts before this time (epoch seconds) may have been deleted; absent when none ever is"
    ),
    "X-Sentry-Rate-Limit-Limit": "requests per window; beside it -Remaining, and -Reset in epoch seconds",
}

_ERRORS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "400": (
        "A parameter is wrong.",
        (
            "Invalid resolution",
            "until must be a numeric timestamp.",
            "since must be a numeric timestamp",
            "start must be before or equal to end",
            "Invalid stat: x",
        ),
    ),
    "401": ("Nobody is known to be asking.", ("Authentication credentials were not provided.", "Invalid token")),
    "403": (
        "The token is for another organization or lacks the scope: `org:read`, or `ops` for operators.",
        ("You do not have permission to perform this action.",),
    ),
    "404": ("There is no such organization or project.", ("The requested resource does not exist",)),
    "405": ("Another method than GET, HEAD and OPTIONS.", ('Method "POST" not allowed.',)),
    "429": (
        "Over the caller's rate; see Retry-After.",
        ("You are attempting to use this endpoint too frequently. Limit is 1000 requests in 1 seconds",),
    ),
    "503": ("ClickHouse is away or too slow; see Retry-After. Never a part of a series.", (UNAVAILABLE,)),
}


def document() -> Json:
    """The OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "orgstats",
            "version": orgstats.__version__,
            "description": "How many events an organization had, per 10 seconds, hour or day.",
        },
        "paths": {
            ROUTES["organization"]: _stats(
                "Event counts of an organization", [_path("organization_slug"), *_window(), *_selection()]
            ),
            ROUTES["project"]: _stats(
                "Event counts of a project",
                [_path("organization_slug"), _path("project_slug"), _PROJECT_STAT, *_window()[1:]],
            ),
            **_beside(),
            "/healthz/live": _plain("Whether the process serves", "application/json"),
            "/healthz/ready": _plain("Whether it should get requests", "application/json", "503"),
            "/metrics": _plain("Prometheus metrics, unless they have a port of their own", "text/plain"),
            "/openapi.json": _plain("This document", "application/json"),
            "/docs": _plain("This document as a page", "text/html"),
        },
        "components": {"securitySchemes": _credentials(), "schemas": _schemas()},
    }


def _beside() -> Json:
    organization, usage, summary = _path("organization_slug"), _usage(), _usage()[2:]
    download = _query("download", {"type": "boolean"}, "`true`: as CSV, one row a project")
    listed = {"type": "array", "items": {"$ref": "#/components/schemas/Listed"}}
    text, table = {"type": "string"}, {"$ref": "#/components/schemas/Summary"}
    details: Json = {"$ref": "#/components/schemas/Listed"}
    return {
        ROUTES["usage"]: _authenticated(
            "Usage by outcome, category, reason, project and key",
            [organization, *usage],
            {"application/json": {"$ref": "#/components/schemas/Usage"}},
        ),
        ROUTES["summary"]: _authenticated(
            "Usage of each project, by category and outcome",
            [organization, download, *summary],
            {"application/json": table, "text/csv": text},
        ),
        ROUTES["metrics"]: _authenticated(
            "The last complete minute, for Prometheus", [organization], {"application/openmetrics-text": text}
        ),
        ROUTES["projects"]: _authenticated("Projects of an organization", [organization], {"application/json": listed}),
        ROUTES["organization_details"]: _authenticated(
            "An organization", [organization], {"application/json": details}
        ),
        ROUTES["organizations"]: _authenticated(
            "The organizations that the token may read", [], {"application/json": listed}
        ),
        ROUTES["without_slug"]: _authenticated(
            "What organizations without a slug received, and in as long a time before; for all organizations only",
            [one for one in usage if one["name"] in ("statsPeriod", "start", "end", "interval")],
            {"application/json": {"$ref": "#/components/schemas/WithoutSlug"}},
        ),
        ROUTES["ops"]: _authenticated(
            "How counting goes on, and what needs somebody; with the scope `ops` only",
            [],
            {"application/json": {"type": "object"}},
        ),
    }


def _usage() -> list[Json]:
    texts = {"type": "array", "items": {"type": "string"}}
    moment = {"type": "string", "examples": ["2021-03-14T15:00:00Z", "1615734000"]}
    return [
        {
            **_query("field", {"type": "array", "items": {"enum": list(FIELDS)}}, "what to sum; may be repeated"),
            "required": True,
        },
        _query("groupBy", {"type": "array", "items": {"enum": list(GROUPS)}}, "by what; may be repeated"),
        _query("statsPeriod", {"type": "string", "default": "24h"}, "length of the range up to now, as in 14d"),
        _query("start", moment, "with end, instead of statsPeriod: RFC 3339, UTC without a zone, or epoch seconds"),
        _query("end", moment, "see start"),
        _query(
            "interval",
            {"type": "string", "default": "1h", "examples": ["10m", "1h", "1d"]},
            f"from 1m to 1d, in whole minutes that divide a day; at most {MAX_INTERVALS:,} in the range",
        ),
        _query("project", {"type": "array", "items": {"type": "integer"}}, "only these; -1 is all; may be repeated"),
        _query("key_id", {"type": "array", "items": {"type": "integer"}}, "only these; may be repeated"),
        _query("category", texts, "only these; error, default and security are all `error`; may be repeated"),
        _query("outcome", texts, "only these; may be repeated"),
        _query("reason", texts, "only these; `none` is an empty one; may be repeated"),
    ]


def _credentials() -> Json:
    return {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "a token from `orgstats tokens create`, with the scope `org:read`",
        },
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "the same token as the user, with an empty password",
        },
        "gateway": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Orgstats-Gateway",
            "description": "a JWT signed by a gateway (HS256, audience `orgstats`), where a key for it is set",
        },
    }


def _schemas() -> Json:
    point = [
        {"type": "number", "description": "start of the bucket, seconds since the UNIX epoch"},
        {"type": "integer", "minimum": 0, "description": "events in the bucket"},
    ]
    series = {"$ref": "#/components/schemas/Series"}
    text, count, group = {"type": "string"}, {"type": "integer"}, {"$ref": "#/components/schemas/UsageGroup"}
    return {
        "Point": {"type": "array", "prefixItems": point, "minItems": 2, "maxItems": 2},
        "Series": {"type": "array", "items": {"$ref": "#/components/schemas/Point"}, "examples": [_EXAMPLE]},
        "SeriesByProject": {"type": "object", "additionalProperties": series, "examples": [{"4501": _EXAMPLE}]},
        "Listed": _object(**dict.fromkeys(("id", "slug", "name", "dateCreated"), text)),
        "WithoutSlug": _object(
            start=text, end=text, organizations=_array(_object(id=text, received=count, before=count))
        ),
        "Usage": _object(("intervals",), start=text, end=text, intervals=_array(text), groups=_array(group)),
        "UsageGroup": _object(
            ("series",),
            by=_object(),
            totals={"type": "object", "additionalProperties": count},
            series={"type": "object", "additionalProperties": _array(count)},
        ),
        "Summary": _object(start=text, end=text, projects=_array(_object())),
        "Error": _object(detail=text),
    }


def _object(optional: Sequence[str] = (), /, **properties: Json) -> Json:
    """All but the optional ones are always there."""
    required = [name for name in properties if name not in optional]
    return {"type": "object"} | ({"properties": properties, "required": required} if properties else {})


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


def _path(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "slug or numeric id",
    }


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _window() -> list[Json]:
    timestamp = {"type": "number", "minimum": 0, "maximum": LAST_SECOND}
    return [
        _query("stat", {"type": "string", "enum": list(STATS), "default": "received"}, "what to count"),
        _query("since", timestamp, "start of the window, seconds since the UNIX epoch; default: until - 1 day + 1 s"),
        _query("until", timestamp, "end of the window, in the last bucket; default: now"),
        _query(
            "statsPeriod",
            {"type": "string", "examples": ["24h", "14d"]},
            "without since: the length of the window up to until, a whole number and one of s, m, h, d, w",
        ),
        _query(
            "resolution",
            {"type": "string", "examples": ["10s", "1h", "1d"]},
            "width of a bucket: 10 s, 1 h or 1 d in any spelling `<integer><s|m|h|d>`; default: 10 s up to an hour, "
            f"1 h up to a week, otherwise 1 d. At most {MAX_BUCKETS:,} buckets",
        ),
    ]


_PROJECT_STAT: Final = _query(
    "stat",
    {"type": "string", "examples": [*STATS, *sorted(FILTER_REASONS)], "default": "received"},
    f"what to count: {', '.join(STATS)}, or what was filtered for a reason, one of {', '.join(sorted(FILTER_REASONS))} "
    "or any other that is stored",
)


def _selection() -> list[Json]:
    integers = {"type": "array", "items": {"type": "integer"}}
    return [
        _query(
            "group",
            {"type": "string", "enum": ["organization", "project"], "default": "organization"},
            f"`project`: a series for each project, by its id; at most {MAX_POINTS:,} points in all",
        ),
        _query("projectID", integers, "with `group=project`: only these projects; may be repeated"),
        _query("id", integers, "keep only these ids of what is asked for; may be repeated"),
    ]


def _stats(summary: str, parameters: list[Json]) -> Json:
    return _answered(summary, parameters, _series())


def _authenticated(summary: str, parameters: list[Json], schemas: Json) -> Json:
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    return _answered(summary, parameters, {"description": summary, "headers": _headers(), "content": content})


def _answered(summary: str, parameters: list[Json], good: Json) -> Json:
    responses = {
        "200": good,
        "304": {"description": "The series is still the one with the ETag in If-None-Match."},
        **{status: _error(*described) for status, described in _ERRORS.items()},
    }
    credentials: list[Json] = [{"token": []}, {"basic": []}, {"gateway": []}]
    return {"get": {"summary": summary, "security": credentials, "parameters": parameters, "responses": responses}}


def _series() -> Json:
    kinds = [{"$ref": f"#/components/schemas/{name}"} for name in ("Series", "SeriesByProject")]
    return {
        "description": "Every bucket of the window, ascending; one without events is there with 0.",
        "headers": _headers(),
        "content": {"application/json": {"schema": {"anyOf": kinds}, "example": _EXAMPLE}},
    }


def _headers() -> Json:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()}


def _error(description: str, texts: tuple[str, ...]) -> Json:
    content = {
        "schema": {"$ref": "#/components/schemas/Error"},
        "examples": {text: {"value": {"detail": text}} for text in texts},
    }
    return {"description": description, "content": {"application/json": content}}


def _plain(summary: str, media_type: str, *other_statuses: str) -> Json:
    responses: Json = {"200": {"description": summary, "content": {media_type: {}}}}
    responses |= {status: {"description": "not now"} for status in other_statuses}
    return {"get": {"summary": summary, "security": [], "responses": responses}}


PARAMETERS: Final = frozenset(parameter["name"] for parameter in (*_window(), *_selection(), *_usage())) | {"download"}
"""Names of all query parameters."""
