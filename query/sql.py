"""Each question to ClickHouse as a value: the statement, its bound parameters, its own limits.

Values reach the server only as typed parameters; the text of a statement holds nothing but names and ids from
this project's own enumerations. A series always names one organization and a range of time, because a
statement cannot be made without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orgstats.query.params import LARGEST_ID, MAX_POINTS, StatsQuery
from orgstats.query.usage import UsageQuery
from orgstats.schemas.outcomes import (
    BUCKET_SECONDS,
    HOUR_SECONDS,
    LAST_BUCKET,
    STAT_CATEGORIES,
    STAT_OUTCOMES,
    Outcome,
    Stat,
)

QUIET_SECONDS: Final = 60
"""A topic whose progress was written within this time is being counted: even without records it is every 5 s."""


MAX_WITHOUT_SLUG: Final = 200
"""Organizations without a slug that are told of at a time."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Text with `{name:Type}` places, the values for them, settings for this statement only, a name for traces."""

    text: str
    parameters: Mapping[str, int | str | Sequence[int] | Sequence[str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = "statement"


# Filters stand on key columns only: others may not be applied below FINAL. PREWHERE says so to the engine, which
# then merges only rows that pass. A sum is taken in 128 bits because one count may already be 2^64 - 1, and a sum of
# UInt64 wraps around without a word.
_SERIES: Final = """\
SELECT org_id, {start} AS start, {total} AS total
FROM totals FINAL
PREWHERE org_id {orgs} AND width = {{width:UInt16}}
  AND bucket BETWEEN toDateTime({{first:UInt32}}, 'UTC') AND toDateTime({{last:UInt32}}, 'UTC')
GROUP BY org_id, start"""
"""Of organizations, whatever the resolution: days are made of hours."""
_STEP: Final = "toUInt32(toStartOfInterval(bucket, INTERVAL {step:UInt32} SECOND))"
_CELLS: Final = """\
SELECT {groups}{start} AS start, {sums}
FROM {table} FINAL
PREWHERE org_id = {{org:UInt64}}
  AND bucket BETWEEN toDateTime({{first:UInt32}}, 'UTC') AND toDateTime({{last:UInt32}}, 'UTC'){filters}
GROUP BY {groups}start"""
"""Of one organization by what a cell has beside it: series of projects, and usage."""


_WITHOUT_SLUG: Final = """\
SELECT org_id, {now} AS received, {before} AS before
FROM totals FINAL
PREWHERE width = {{width:UInt16}}
  AND bucket >= toDateTime({{first:UInt32}}, 'UTC') AND bucket < toDateTime({{end:UInt32}}, 'UTC')
WHERE org_id GLOBAL NOT IN (SELECT org_id FROM organizations FINAL WHERE slug != '')
GROUP BY org_id HAVING received + before > 0
ORDER BY received DESC, before DESC, org_id LIMIT {{most:UInt32}}"""


def _total(stat: Stat, when: str = "") -> str:
    """The sum of a stat over rows of `totals`; if `when` is given, over those that meet it."""
    sums = f"sumIf(toUInt128({{}}), {when})" if when else "sum(toUInt128({}))"
    return " + ".join(sums.format(outcome.name) for outcome in STAT_OUTCOMES[stat])


def _text(query: StatsQuery, *, several: bool) -> str:
    outcomes = STAT_OUTCOMES[query.stat]
    if query.projects is not None:
        filters = f" AND category IN {STAT_CATEGORIES} AND outcome IN ({', '.join(str(int(one)) for one in outcomes)})"
        filters += " AND project_id IN {projects:Array(UInt64)}" + " AND reason = {reason:String}" * bool(query.reason)
        table = "hourly" if reads_hourly(query) else "counts"
        sums = "sum(toUInt128(quantity))"
        return _CELLS.format(groups="project_id, ", start=_STEP, sums=sums, table=table, filters=filters)
    return _SERIES.format(
        start=_STEP, total=_total(query.stat), orgs="IN {orgs:Array(UInt64)}" if several else "= {org:UInt64}"
    )


def reads_hourly(query: StatsQuery) -> bool:
    """Whether the series is made of the table `hourly`, which is complete later than the others."""
    return query.projects is not None and _stored_width(query.buckets.width) == HOUR_SECONDS


def _stored_width(width: int) -> int:
    """The width of the stored buckets that buckets of this width are made of."""
    return BUCKET_SECONDS if width < HOUR_SECONDS else HOUR_SECONDS


# A partition is a week of buckets, which are part of the key, so no cell has rows in two. The same for every
# series: a server that keeps the settings of a connection need not set any from one to the next.
_PROJECT_SERIES_SETTINGS: Final = {
    "max_result_rows": MAX_POINTS,
    "do_not_merge_across_partitions_select_final": 1,
    "enable_multiple_prewhere_read_steps": 0,  # each step opens every part once more
}
# Under FINAL each thread opens every part, which for as few rows as an organization has here is most of the work.
_SERIES_SETTINGS: Final = {**_PROJECT_SERIES_SETTINGS, "max_threads": 1}


def series(query: StatsQuery, *others: StatsQuery) -> Statement:
    """Rows (organization or project id, start of bucket, count) of the buckets that have any, in no order.

    Others must have the stat and width of the first and be for no projects. Then the rows are of every organization of
    them, from the first bucket of all to the last.
    """
    windows = [one.buckets for one in (query, *others)]
    stored = _stored_width(query.buckets.width)
    last = max(window.last for window in windows) + query.buckets.width - stored
    parameters: dict[str, int | str | Sequence[int] | Sequence[str]] = {
        "step": query.buckets.width,
        "first": max(0, min(window.first for window in windows)),
        "last": max(0, min(last, LAST_BUCKET)),
    }
    if query.projects is None:
        parameters["width"] = stored
    else:
        parameters["projects"] = list(query.projects)
    if query.reason:
        parameters["reason"] = query.reason
    if others:
        parameters["orgs"] = sorted({one.org_id for one in (query, *others)})
    else:
        parameters["org"] = query.org_id
    settings = _SERIES_SETTINGS if query.projects is None else _PROJECT_SERIES_SETTINGS
    return Statement(_text(query, several=bool(others)), parameters, settings, "series")


_USAGE_COLUMNS: Final = {
    "outcome": ("outcome", "UInt8"),
    "category": ("category", "UInt8"),
    "reason": ("reason", "String"),
    "project": ("project_id", "UInt64"),
    "key_id": ("key_id", "UInt64"),
}


def usage(query: UsageQuery) -> Statement:
    """Rows (stored values of the groups, start of interval, quantity, records) of the intervals that have any.

    Grouped by project, all is of the first interval.
    """
    wanted: dict[str, Sequence[int] | Sequence[str] | None] = {
        "outcome": query.outcomes,
        "category": query.categories,
        "reason": query.reasons,
        "project": query.projects,
        "key_id": query.keys,
    }
    filters, parameters = "", dict[str, int | str | Sequence[int] | Sequence[str]]()
    for name, values in wanted.items():
        if values is not None:
            column, kind = _USAGE_COLUMNS[name]
            filters += f" AND {column} IN {{{name}:Array({kind})}}"
            parameters[name] = [*values]
    text = _CELLS.format(
        groups="".join(f"{_USAGE_COLUMNS[group][0]}, " for group in query.groups),
        start="{first:UInt32}" if query.by_project else _STEP,
        sums="sum(toUInt128(quantity)), sum(toUInt128(events))",
        table="counts" if query.stored_width == BUCKET_SECONDS else "hourly",
        filters=filters,
    )
    parameters |= {
        "step": query.interval,
        "org": query.org_id,
        "first": min(query.start, LAST_BUCKET),
        "last": min(query.end - 1, LAST_BUCKET),
    }
    return Statement(text, parameters, _PROJECT_SERIES_SETTINGS, "usage")


def organization(name: str) -> Statement:
    """The organization with this slug or numeric id, a row as of `organizations`, or none."""
    if name.isascii() and name.isdigit() and len(name) <= 20 and int(name) <= LARGEST_ID:
        text = (
            "SELECT org_id, slug, name, toUnixTimestamp64Milli(updated_at) FROM organizations FINAL"
            " WHERE org_id = {org:UInt64} AND slug != ''"
        )
        return Statement(text, {"org": int(name)}, name="organization")
    # The index finds every organization that ever had this slug; of these the newest row says who has it now. FINAL
    # could not do it: an index must not leave out a row that replaces another.
    text = (
        "SELECT org_id, argMax(slug, updated_at) AS newest, argMax(name, updated_at),"
        " toUnixTimestamp64Milli(max(updated_at)) FROM organizations"
        " WHERE org_id IN (SELECT org_id FROM organizations WHERE slug = {slug:String})"
        " GROUP BY org_id HAVING newest = {slug:String} ORDER BY org_id LIMIT 1"
    )
    return Statement(text, {"slug": name}, name="organization")


def filtered_for(org_id: int, project_id: int, reason: str) -> Statement:
    """A row if any event of a project was filtered for this reason."""
    text = (
        "SELECT 1 FROM hourly WHERE org_id = {org:UInt64} AND project_id = {project:UInt64}"
        " AND outcome = {filtered:UInt8} AND reason = {reason:String} LIMIT 1"
    )
    ids = {"org": org_id, "project": project_id, "filtered": int(Outcome.filtered)}
    return Statement(text, {**ids, "reason": reason}, name="filtered_for")


def organizations() -> Statement:
    """Every organization's (org_id, slug, name, time of its last change in ms); a removed one has an empty slug."""
    return Statement(
        "SELECT org_id, slug, name, toUnixTimestamp64Milli(updated_at) FROM organizations FINAL ORDER BY org_id"
    )


def without_slug(window: range) -> Statement:
    """Rows (org_id, events received in the window, events received in as long a time before it) of the largest.

    Of organizations that have events and no slug. The window is of whole stored buckets, epoch seconds.
    """
    now, before = (_total("received", f"bucket {sign} toDateTime({{{{since:UInt32}}}}, 'UTC')") for sign in (">=", "<"))
    text = _WITHOUT_SLUG.format(now=now, before=before)
    parameters = {
        "since": min(window.start, LAST_BUCKET),
        "first": max(0, min(2 * window.start - window.stop, LAST_BUCKET)),
        "end": min(window.stop, LAST_BUCKET + BUCKET_SECONDS),
        "width": window.step,
        "most": MAX_WITHOUT_SLUG,
    }
    return Statement(text, parameters, {"do_not_merge_across_partitions_select_final": 1}, "without_slug")


def erasures(org_id: int) -> Statement:
    """(org_id) of an organization that is erased; nothing otherwise."""
    text = "SELECT org_id FROM erasures FINAL WHERE org_id = {org:UInt64}"
    return Statement(text, {"org": org_id}, name="erasures")


def projects(org_id: int) -> Statement:
    """Each (project_id, slug, name, time of its last change in ms) of one organization."""
    text = (
        "SELECT project_id, slug, name, toUnixTimestamp64Milli(updated_at) FROM projects FINAL"
        " WHERE org_id = {org:UInt64} ORDER BY project_id"
    )
    return Statement(text, {"org": org_id}, name="projects")


def ids_with_events(ids: Sequence[int]) -> Statement:
    """Which of these organizations have counts, or are erased."""
    text = (
        "SELECT DISTINCT org_id FROM hourly WHERE org_id IN {ids:Array(UInt64)}"
        " UNION ALL SELECT org_id FROM erasures WHERE org_id IN {ids:Array(UInt64)}"
    )
    return Statement(text, {"ids": list(ids)}, name="ids_with_events")


def projects_with_events(org_id: int, ids: Sequence[int]) -> Statement:
    """Which of these projects of an organization have counts."""
    text = "SELECT DISTINCT project_id FROM hourly WHERE org_id = {org:UInt64} AND project_id IN {ids:Array(UInt64)}"
    return Statement(text, {"org": org_id, "ids": list(ids)}, name="projects_with_events")


_TOKENS: Final = (
    "SELECT token_sha256, token_id, name, org_id, all_orgs, scopes, toUnixTimestamp64Milli(expires_at),"
    " toUnixTimestamp64Milli(created_at), revoked, toUnixTimestamp64Milli(updated_at) FROM tokens FINAL"
)


def tokens_of(digests: Sequence[str]) -> Statement:
    """The row of each token with one of these SHA-256 in hexadecimal."""
    text = _TOKENS + " WHERE token_sha256 IN {digests:Array(String)}"
    return Statement(text, {"digests": list(digests)}, name="tokens_of")


def tokens() -> Statement:
    """Every token's row, oldest first."""
    return Statement(_TOKENS + " ORDER BY created_at, token_id")


def topics() -> Statement:
    """Each (topic, partitions, complete until in ms, last progress, retired, when to retire it, counted just now)."""
    return Statement(
        "SELECT s.topic, uniqExact(s.partition), min(toUnixTimestamp64Milli(p.complete_until)), max(p.written_at),"
        " any(r.retired AND r.at >= s.newest), greatest(any(s.newest), any(r.at), now64(3)) + toIntervalMillisecond(1),"
        " max(p.written_at) > now64(3) - toIntervalSecond({quiet:UInt32})"
        " FROM (SELECT source_id, topic, topic_id, partition,"
        " max(registered_at) OVER (PARTITION BY topic) AS newest,"
        " argMax(topic_id, registered_at) OVER (PARTITION BY topic) AS current FROM sources FINAL) AS s"
        " LEFT JOIN (SELECT * FROM progress FINAL) AS p ON p.source_id = s.source_id"
        " LEFT JOIN (SELECT * FROM retired_topics FINAL) AS r ON r.topic = s.topic"
        " WHERE s.topic_id = s.current GROUP BY s.topic ORDER BY s.topic",
        {"quiet": QUIET_SECONDS},
        {"join_use_nulls": 0},
        name="topics",
    )


def sources() -> Statement:
    """One row per source: where it belongs and how far it is counted (see completeness.SourceState).

    Whatever a clock said that was ahead, nothing is complete beyond the present.
    """
    return Statement(
        "SELECT s.source_id, s.topic, s.topic_id, s.partition, toUnixTimestamp64Milli(s.registered_at),"
        " p.version, p.partitions, toUnixTimestamp64Milli(least(p.complete_until, now64(3))),"
        " toUnixTimestamp64Milli(least(p.hourly_complete_until, now64(3))), p.hourly_offset,"
        " r.retired AND r.at >= s.registered_at"
        " FROM (SELECT * FROM sources FINAL) AS s"
        " LEFT JOIN (SELECT * FROM progress FINAL) AS p ON p.source_id = s.source_id"
        " LEFT JOIN (SELECT * FROM retired_topics FINAL) AS r ON r.topic = s.topic",
        settings={"join_use_nulls": 0},
        name="progress",
    )


def is_replicated() -> Statement:
    """A row if counts may be read from one of several replicas: then its table is not that of a single server."""
    return Statement(
        "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'counts'"
        " AND engine != 'ReplacingMergeTree'",
        settings={"max_rows_to_read": 0},
        name="is_replicated",
    )
