"""Usage of an organization by outcome, category, reason, project and key: for `stats_v2` and `stats-summary`."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from orgstats.query.params import LARGEST_ID, MAX_POINTS, InvalidQuery, parse_period
from orgstats.schemas.categories import ATTACHMENT, categories_named, category_name
from orgstats.schemas.outcomes import BUCKET_SECONDS, DAY_SECONDS, HOUR_SECONDS, outcome_name
from orgstats.times import UNIT_SECONDS, format_time, parse_time

MAX_INTERVALS: Final = 1_000
"""Most intervals in one answer."""
FIELDS: Final = ("sum(quantity)", "sum(times_seen)")
"""What is summed: the quantity, and the records."""
GROUPS: Final = ("outcome", "category", "reason", "project", "key_id")
ALL_PROJECTS: Final = -1

_INTERVAL: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}")
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?|\d{5,10}(\.\d{1,9})?", re.ASCII
)
_SHOWN_REASONS: Final = {"": "none", "smart_rate_limit": "spike_protection"}
_STORED_REASONS: Final = {shown: stored for stored, shown in _SHOWN_REASONS.items()}

Row = Sequence[Any]
"""Values of the groups as they are stored, the start of an interval, quantity, records."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked for, equal when the answers are equal. Times in epoch seconds; filters None where all is wanted."""

    org_id: int
    fields: tuple[str, ...]
    groups: tuple[str, ...]
    start: int
    end: int
    interval: int
    projects: tuple[int, ...] | None = None
    categories: tuple[int, ...] | None = None
    outcomes: tuple[int, ...] | None = None
    reasons: tuple[str, ...] | None = None
    keys: tuple[int, ...] | None = None

    @property
    def by_project(self) -> bool:
        """Then groups have totals alone."""
        return "project" in self.groups

    @property
    def stored_width(self) -> int:
        """Of the stored buckets that can be added up to intervals, the widest: 10 s or an hour.

        Those of an hour are of all keys together.
        """
        by_key = "key_id" in self.groups or self.keys is not None
        return BUCKET_SECONDS if by_key or self.interval % HOUR_SECONDS else HOUR_SECONDS


def parse_usage(org_id: int, pairs: Iterable[tuple[str, str]], now: float) -> UsageQuery:
    """The query that a query string's (name, value) pairs spell; `now` in epoch seconds.

    Empty values count as absent, unknown names are ignored. Raises InvalidQuery for the first fault.
    """
    given = _given(pairs)
    fields = _each("field", given["field"], FIELDS)
    if not fields:
        raise InvalidQuery('At least one "field" is required.')
    groups = _each("groupBy", given["groupBy"], GROUPS)
    query = _filtered(org_id, fields, groups, given, now)
    if "category" not in groups and query.categories is None:
        raise InvalidQuery("Query must have category as groupby or filter")
    return query


def parse_summary(org_id: int, pairs: Iterable[tuple[str, str]], now: float) -> UsageQuery:
    """The query of a summary: always by project, category and outcome; raises InvalidQuery."""
    given = _given(pairs)
    fields = _each("field", given["field"], FIELDS) or (FIELDS[0],)
    return _filtered(org_id, fields, ("project", "category", "outcome"), given, now)


def parse_window(pairs: Iterable[tuple[str, str]], now: float) -> range:
    """The window that is asked for as in `stats_v2`, in steps of the stored buckets it is made of; raises InvalidQuery.

    No interval shorter than an hour, except in windows of a day at most: finer buckets of all organizations are many.
    """
    start, end, interval = _window(_given(pairs), now)
    if interval % HOUR_SECONDS == 0:
        return range(start, end, HOUR_SECONDS)
    if end - start > DAY_SECONDS:
        raise InvalidQuery("With an interval that is not of whole hours, the range is a day at most.")
    return range(start, end, BUCKET_SECONDS)


def without_slug(window: range, rows: Iterable[tuple[int, int, int]]) -> dict[str, Any]:
    """The answer about organizations without a slug, the largest first, of rows as of `sql.without_slug`."""
    return {
        "start": format_time(window.start),
        "end": format_time(window.stop),
        "organizations": [{"id": str(one), "received": now, "before": before} for one, now, before in rows],
    }


@dataclass(frozen=True)
class Usage:
    """What was read for a query. Its groups are made once, in the thread that reads."""

    query: UsageQuery
    rows: Sequence[Row]

    @cached_property
    def answer(self) -> dict[str, Any]:
        """As groups_of makes it; raises InvalidQuery when it would be too large."""
        return groups_of(self.query, self.rows)


def groups_of(query: UsageQuery, rows: Iterable[Row]) -> dict[str, Any]:
    """The answer of `stats_v2`; without rows it has intervals and no groups. Raises InvalidQuery when it is too large.

    Reasons are what producers write, so there may be any number of groups.
    """
    totals: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
    series: defaultdict[tuple[Any, ...], defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for *stored, start, quantity, records in rows:
        key = tuple(_SHOWN[group](value) for group, value in zip(query.groups, stored, strict=True))
        for sums in (totals[key], series[key][start]):
            sums[0] += quantity
            sums[1] += records
    intervals = range(query.start, query.end, query.interval)
    answer: dict[str, Any] = {"start": format_time(query.start), "end": format_time(query.end)}
    if not query.by_project:
        answer["intervals"] = [format_time(start) for start in intervals]
    answer["groups"] = []
    keys = sorted(key for key, sums in totals.items() if any(sums))
    points = len(keys) * len(query.fields) * (1 if query.by_project else len(intervals))
    if points > MAX_POINTS:
        raise InvalidQuery(
            f"{len(keys):,} groups would have {points:,} points, more than the limit of {MAX_POINTS:,}; ask for a "
            "shorter range, a longer interval, fewer groups, or filter."
        )
    for key in keys:
        group = {"by": dict(zip(query.groups, key, strict=True)), "totals": _by_field(query, totals[key])}
        if not query.by_project:
            found, nothing = series[key], (0, 0)
            group["series"] = {
                field: [found.get(start, nothing)[FIELDS.index(field)] for start in intervals] for field in query.fields
            }
        answer["groups"].append(group)
    return answer


def summary_of(usage: Usage, slugs: Mapping[int, str]) -> dict[str, Any]:
    """The answer of `stats-summary`: each project that has anything, with its categories, and their outcomes."""
    projects: defaultdict[int, defaultdict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    query = usage.query
    for group in usage.answer["groups"]:
        by = group["by"]
        projects[by["project"]][by["category"]][by["outcome"]] = group["totals"]
    return {
        "start": format_time(query.start),
        "end": format_time(query.end),
        "projects": [
            {
                "id": str(project),
                "slug": slugs.get(project, ""),
                "stats": [
                    {
                        "category": category,
                        "outcomes": {outcome: totals[query.fields[0]] for outcome, totals in outcomes.items()},
                        "totals": {field: sum(totals[field] for totals in outcomes.values()) for field in query.fields},
                    }
                    for category, outcomes in categories.items()
                ],
            }
            for project, categories in projects.items()
        ],
    }


def _given(pairs: Iterable[tuple[str, str]]) -> defaultdict[str, list[str]]:
    given: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        if value:
            given[name].append(value)
    return given


def _each(name: str, given: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """The values given, each once and in the order in which they are known."""
    for value in given:
        if value not in known:
            raise InvalidQuery(f'Invalid {name}: "{value}"')
    return tuple(value for value in known if value in set(given))


def _filtered(
    org_id: int,
    fields: tuple[str, ...],
    groups: tuple[str, ...],
    given: Mapping[str, Sequence[str]],
    now: float,
) -> UsageQuery:
    categories = _ids("category", given, categories_named)
    outcomes = _ids("outcome", given, _outcomes_named)
    keys = _ids("key", {"key": given.get("key_id", ())}, _id)
    if categories and ATTACHMENT in categories and len(categories) > 1:
        raise InvalidQuery("if filtering by attachment no other category may be present")
    projects = _ids("project", given, _project)
    reasons = {stored for reason in given.get("reason", ()) for stored in (reason, _STORED_REASONS.get(reason, reason))}
    start, end, interval = _window(given, now)  # last, as faults are told in that order
    return UsageQuery(
        org_id,
        fields,
        groups,
        start,
        end,
        interval,
        None if projects is None or ALL_PROJECTS in projects else projects,
        categories,
        outcomes,
        tuple(sorted(reasons)) or None,
        keys,
    )


def _ids(
    name: str, given: Mapping[str, Sequence[str]], ids_of: Callable[[str], Sequence[int]]
) -> tuple[int, ...] | None:
    found: set[int] = set()
    for text in given.get(name, ()):
        ids = ids_of(text)
        if not ids:
            raise InvalidQuery(f'Invalid {name}: "{text}"')
        found.update(ids)
    return tuple(sorted(found)) or None


def _outcomes_named(name: str) -> list[int]:
    return [outcome for outcome in range(256) if outcome_name(outcome) == name]


def _id(text: str) -> list[int]:
    return [number for number in _project(text) if number >= 0]


def _project(text: str) -> list[int]:
    number = int(text) if _NUMBER.fullmatch(text) else -2
    return [number] if ALL_PROJECTS <= number <= LARGEST_ID else []


def _window(given: Mapping[str, Sequence[str]], now: float) -> tuple[int, int, int]:
    """Start, end and interval."""
    interval = _interval(given["interval"][-1] if given.get("interval") else "1h")
    since, until = _range(given, now)
    start, end = int(since // interval) * interval, int(-(-until // interval)) * interval
    length = (end - start) // interval
    if length > MAX_INTERVALS:
        raise InvalidQuery(_too_many(start, end, length))
    return start, end, interval


def _range(given: Mapping[str, Sequence[str]], now: float) -> tuple[float, float]:
    periods, starts, ends = (given.get(name) or [""] for name in ("statsPeriod", "start", "end"))
    if periods[-1] or not (starts[-1] or ends[-1]):
        return max(0.0, now - parse_period(periods[-1] or "24h")), now
    if not (starts[-1] and ends[-1]):
        raise InvalidQuery("start and end are both required")
    start, end = _moment("start", starts[-1]), _moment("end", ends[-1])
    if start >= end:
        raise InvalidQuery("start must be before end")
    return start, end


def _moment(name: str, text: str) -> float:
    """Epoch seconds of such a number, or of an RFC 3339 time, in UTC where it has no zone.

    A `+` in a query string may arrive as a blank. A number of up to four digits is more likely a year, and is refused.
    """
    try:
        if _TIME.fullmatch(text := text.strip().replace(" ", "+")):
            return parse_time(text, 0.0)
    except ValueError:
        pass
    raise InvalidQuery(f'Invalid {name}: "{text}"; a time as in 2021-03-14T15:00:00Z, from 1970 to 2106')


def _interval(text: str) -> int:
    """Seconds of an interval."""
    match = _INTERVAL.fullmatch(text)
    seconds = int(match[1]) * UNIT_SECONDS[match[2]] if match else 0
    if not 0 < seconds <= DAY_SECONDS or DAY_SECONDS % seconds:
        raise InvalidQuery(f'Invalid interval: "{text}"; from 1m to 1d, in whole minutes that divide a day')
    return seconds


def _too_many(start: int, end: int, length: int) -> str:
    divisors = [n for n in range(1, 1_441) if 1_440 % n == 0 and (n < 60 or n % 60 == 0)]
    fitting = [minutes for minutes in divisors if (end - start) // (60 * minutes) + 2 <= MAX_INTERVALS]
    remedy = f"the finest interval that would fit is {_spelled(fitting[0])}" if fitting else "no interval would fit"
    return f"This range has {length:,} intervals, more than the limit of {MAX_INTERVALS:,}; {remedy}."


def _spelled(minutes: int) -> str:
    if minutes % 1_440 == 0:
        return f"{minutes // 1_440}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def _by_field(query: UsageQuery, sums: Sequence[int]) -> dict[str, int]:
    return {field: sums[FIELDS.index(field)] for field in query.fields}


def _shown_reason(reason: str) -> str:
    return _SHOWN_REASONS.get(reason, reason)


_SHOWN: Final[dict[str, Callable[[Any], Any]]] = {
    "outcome": outcome_name,
    "category": category_name,
    "reason": _shown_reason,
    "project": int,
    "key_id": int,
}
"""How a stored value is shown."""
