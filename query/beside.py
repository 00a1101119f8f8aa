"""What clients of the original ask for beside the documented series: usage, a summary, lists, metrics.

Each answer is a body made for one organization that the caller may read, or for the caller alone.
"""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from orgstats.query.access import Caller, Forbidden, Organization, Project, permit_listing, permit_operating
from orgstats.query.completeness import CountedState
from orgstats.query.http import Body, body_of_json, body_of_text
from orgstats.query.reader import Reader
from orgstats.query.usage import Usage, UsageQuery, parse_summary, parse_usage, parse_window, summary_of
from orgstats.schemas.outcomes import HOUR_SECONDS

Pairs = list[tuple[str, str]]
MINUTE: Final = 60
STRAGGLING_SECONDS: Final = 10
"""An event reaches Kafka some moments after it happened, so a minute is shown so long after it is complete.

Prometheus keeps the first value that it reads of a moment; what comes later still is only in the other answers.
"""
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class CompleteBody(NamedTuple):
    """An answer, and up to when what it was made of is complete, epoch seconds; None when that is unknown."""

    body: Body
    complete_until: int | None


class Beside:
    """Answers the routes that have an organization and are no series, by their names in openapi.ROUTES."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def organizations(self, caller: Caller, state: CountedState) -> CompleteBody:
        """What the caller may read, by slug; raises Forbidden."""
        permit_listing(caller)
        found = await self._reader.organizations(caller.org_id)
        return CompleteBody(body_of_json([_listed(one) for one in found]), state.complete_until)

    async def without_slug(self, caller: Caller, pairs: Pairs, now: float, state: CountedState) -> CompleteBody:
        """What organizations received that nobody can ask about by name; raises Forbidden and InvalidQuery.

        Only a token for every organization sees them: a token of one learns nothing about others.
        """
        permit_listing(caller)
        if caller.org_id is not None:
            raise Forbidden
        return CompleteBody(await self._reader.without_slug(parse_window(pairs, now), state), state.complete_until)

    async def operating(self, caller: Caller, state: CountedState) -> CompleteBody:
        """How counting goes on; raises Forbidden for all but operators."""
        permit_operating(caller)
        return CompleteBody(await self._reader.operating(), state.complete_until)

    async def body(
        self, route: str, organization: Organization, pairs: Pairs, now: float, state: CountedState
    ) -> CompleteBody:
        """The answer of one route; raises InvalidQuery."""
        if route in ("usage", "summary"):
            read = parse_usage if route == "usage" else parse_summary
            query = read(organization.org_id, pairs, now)
            until = state.hourly_until if query.stored_width == HOUR_SECONDS else state.complete_until
            if route == "usage":
                return CompleteBody(await self._reader.usage_body(query, state), until)
            usage = await self._reader.usage(query, state)
            return CompleteBody(await self._summary(organization, usage, dict(pairs)), until)
        if route == "metrics":
            body = await self._metrics(organization, state)
        elif route == "projects":
            body = body_of_json([_listed(one) for one in await self._reader.projects(organization.org_id)])
        else:
            body = body_of_json(_listed(organization))
        return CompleteBody(body, state.complete_until)

    async def _summary(self, organization: Organization, usage: Usage, given: dict[str, str]) -> Body:
        summary = summary_of(usage, await self._slugs(organization))
        if given.get("download", "").lower() not in ("true", "1"):
            return body_of_json(summary)
        name = f"{organization.slug}-stats-summary.csv"
        return body_of_text(
            _csv(summary),
            (("Content-Type", "text/csv; charset=utf-8"), ("Content-Disposition", f'attachment; filename="{name}"')),
        )

    async def _metrics(self, organization: Organization, state: CountedState) -> Body:
        """The last minute that is complete, if one is known."""
        lines = ["# TYPE orgstats_events gauge", "# HELP orgstats_events Events of the last complete minute."]
        if state.complete_until is not None and state.complete_until >= MINUTE + STRAGGLING_SECONDS:
            end = (state.complete_until - STRAGGLING_SECONDS) // MINUTE * MINUTE
            query = UsageQuery(
                organization.org_id, ("sum(quantity)",), ("project", "outcome", "category"), end - MINUTE, end, MINUTE
            )
            found = (await self._reader.usage(query, state)).answer["groups"]
            slugs = await self._slugs(organization)
            for group in found:
                by = group["by"]
                labels = {
                    "organization": organization.slug,
                    "project": slugs.get(by["project"], str(by["project"])),
                    "outcome": by["outcome"],
                    "category": by["category"],
                }
                lines.append(f"orgstats_events{_labels(labels)} {group['totals']['sum(quantity)']} {end}")
        lines += [
            "# TYPE orgstats_complete_until_timestamp_seconds gauge",
            "# HELP orgstats_complete_until_timestamp_seconds All that Kafka acknowledged before is counted.",
        ]
        if state.complete_until is not None:
            labels = {"organization": organization.slug}
            lines.append(f"orgstats_complete_until_timestamp_seconds{_labels(labels)} {state.complete_until}")
        return body_of_text("\n".join([*lines, "# EOF\n"]), (("Content-Type", OPENMETRICS),))

    async def _slugs(self, organization: Organization) -> dict[int, str]:
        return {one.project_id: one.slug for one in await self._reader.projects(organization.org_id)}


def _listed(one: Organization | Project) -> dict[str, str]:
    """As the original lists organizations and projects. `dateCreated` is the time of the last change, which is kept."""
    return {
        "id": str(one.project_id if isinstance(one, Project) else one.org_id),
        "slug": one.slug,
        "name": one.name or one.slug,
        "dateCreated": f"{datetime.fromtimestamp(one.changed_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
    }


def _labels(labels: dict[str, str]) -> str:
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


def _csv(summary: dict[str, Any]) -> str:
    """One row a project: a column for each category and outcome that any project has, and one for each total."""
    projects: Sequence[dict[str, Any]] = summary["projects"]
    columns = sorted({column for project in projects for column in _columns(project)})
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["project_id", "project_slug", *(f"{category} {what}" for category, what in columns)])
    for project in projects:
        values = _columns(project)
        writer.writerow([project["id"], project["slug"], *(values.get(column, 0) for column in columns)])
    return out.getvalue()


def _columns(project: dict[str, Any]) -> dict[tuple[str, str], int]:
    found = {}
    for stat in project["stats"]:
        for what, quantity in [*stat["outcomes"].items(), *stat["totals"].items()]:
            found[stat["category"], what] = quantity
    return found
