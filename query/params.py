"""Raw query parameters as one checked value, with the error texts that clients of the original match on."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, cast, get_args

from orgstats.errors import OrgstatsError
from orgstats.query.series import LAST_SECOND, RESOLUTIONS, Buckets, buckets_of, default_width
from orgstats.schemas.outcomes import HOUR_SECONDS, STATS, Stat
from orgstats.times import UNIT_SECONDS

MAX_BUCKETS: Final = 10_000
"""Most buckets in one series; more is an error, never a cut series."""

LARGEST_ID: Final = 2**64 - 1
"""Of an organization or a project."""

MAX_POINTS: Final = 100_000
"""Most points in one answer with a series per project or group."""

Group = Literal["organization", "project"]

_RESOLUTION: Final = re.compile(r"([0-9]{1,20})([smhd])")
_PERIOD: Final = re.compile(r"([0-9]{1,10})([smhdw])")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")


class InvalidQuery(OrgstatsError):
    """The request asks for something that has no answer; the text is what the client is told (status 400)."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class StatsQuery:
    """Which series is asked for: everything the SQL needs, and equal when the answers are equal."""

    org_id: int
    stat: Stat
    buckets: Buckets
    projects: tuple[int, ...] | None = None  # of these projects; None: the organization's own
    grouped: bool = False  # a series for each project, by its id, instead of the one of the only project
    reason: str = ""  # of what was blacklisted in projects only this reason's

    @property
    def keys(self) -> tuple[int, ...]:
        """Whose series these are: ids of projects, or the organization's own."""
        return (self.org_id,) if self.projects is None else self.projects


class Parameters(NamedTuple):
    """The checked stat and window of a request; the reason as in StatsQuery."""

    stat: Stat
    buckets: Buckets
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose series a request of an organization asks for; None where a parameter is absent."""

    group: Group = "organization"
    project_ids: frozenset[int] | None = None  # `projectID`: these projects instead of all
    ids: frozenset[int] | None = None  # `id`: of the organization or projects asked for keep only these

    def projects(self, existing: Iterable[int]) -> tuple[int, ...]:
        """The ids asked for among the existing projects, ascending."""
        wanted = (self.project_ids, self.ids)
        return tuple(sorted(key for key in existing if all(ids is None or key in ids for ids in wanted)))


def parse(pairs: Iterable[tuple[str, str]], now: float, reasons: Collection[str] = ()) -> Parameters:
    """The stat and window that the query string's (name, value) pairs spell; `now` in epoch seconds.

    `reasons` are those that may stand in place of a stat.
    The last of a repeated parameter counts, an empty value is an absent one, unknown names are ignored.
    Raises InvalidQuery for the first fault in the order of the original: stat, resolution, until, since, statsPeriod,
    the order of the two, and the number of buckets.
    """
    last = dict(pairs)
    asked = last.get("stat") or "received"
    reason = asked if asked in reasons and asked not in STATS else ""
    stat = "blacklisted" if reason else parse_stat(asked)
    buckets = parse_window(
        last.get("since", ""), last.get("until", ""), last.get("resolution", ""), last.get("statsPeriod", ""), now
    )
    return Parameters(stat, buckets, reason)


def parse_selection(pairs: Iterable[tuple[str, str]]) -> Selection:
    """What `group` (the last one) and all values of `id` and `projectID` select; raises InvalidQuery."""
    pairs = list(pairs)
    group = _group(dict(pairs).get("group") or "organization")
    return Selection(group, _ids("projectID", pairs), _ids("id", pairs))


def check_points(buckets: Buckets, series: int) -> None:
    """Raise InvalidQuery when so many series of these buckets are more than one answer may hold."""
    if buckets.length * series > MAX_POINTS:
        raise InvalidQuery(
            f"{series:,} projects with {buckets.length:,} buckets each are more than the limit of {MAX_POINTS:,} "
            "points; ask for a shorter range, a coarser resolution, or fewer projects with projectID."
        )


def parse_stat(text: str) -> Stat:
    """The stat of that name; raises InvalidQuery."""
    for stat in STATS:
        if text == stat:
            return stat
    raise InvalidQuery(f"Invalid stat: {text}")


def parse_window(since: str, until: str, resolution: str, period: str, now: float) -> Buckets:
    """The buckets of a window given as text, each part empty when absent; `since` goes before a period.

    Raises InvalidQuery.
    """
    width = _resolution(resolution) if resolution else None
    end = parse_timestamp(until, "until must be a numeric timestamp.") if until else now
    start = parse_timestamp(since, "since must be a numeric timestamp") if since else None
    if start is None and period:
        start = end - parse_period(period) + 1
    return window(start, end, width)


def window(since: float | None, until: float, width: int | None) -> Buckets:
    """The buckets from `since` to `until` (epoch seconds), the original's defaults in place of None.

    Raises InvalidQuery when the window runs backwards or has more than MAX_BUCKETS buckets.
    """
    if since is None:
        since = until - 86_400 + 1
    if since > until:
        raise InvalidQuery("start must be before or equal to end")
    buckets = buckets_of(since, until, width or default_width(since, until))
    if buckets.length > MAX_BUCKETS:
        raise InvalidQuery(_too_many(since, until, buckets))
    return buckets


def parse_timestamp(text: str, fault: str) -> float:
    """Epoch seconds from a decimal number, or InvalidQuery with the text `fault`.

    ASCII digits with an optional sign, fraction and exponent, and blanks around them, as `+5` in a query
    string arrives as ` 5`. Python's own float() would also take `1_0`, `nan`, `infinity` and the digits of
    other scripts; none of these is a number to a client.
    """
    text = text.strip(" \t\r\n")
    value = float(text) if _NUMBER.fullmatch(text) else -1.0
    if not 0 <= value <= LAST_SECOND:
        raise InvalidQuery(fault)
    return value


def _resolution(text: str) -> int:
    """Seconds of `<integer><s|m|h|d>`, when that is the width of a kind of bucket."""
    match = _RESOLUTION.fullmatch(text)
    seconds = int(match[1]) * UNIT_SECONDS[match[2]] if match else 0
    if seconds not in RESOLUTIONS.values():
        raise InvalidQuery("Invalid resolution")
    return seconds


def parse_period(text: str) -> int:
    """Seconds of `<integer><s|m|h|d|w>`, at least 1."""
    match = _PERIOD.fullmatch(text)
    seconds = int(match[1]) * UNIT_SECONDS[match[2]] if match else 0
    if not seconds:
        raise InvalidQuery("Invalid statsPeriod; a whole number and one of s, m, h, d, w, as in 24h")
    return seconds


def _group(text: str) -> Group:
    for group in get_args(Group):
        if text == group:
            return cast(Group, group)
    raise InvalidQuery(f"Invalid group: {text}; organization or project")


def _ids(name: str, pairs: Iterable[tuple[str, str]]) -> frozenset[int] | None:
    """The integers given for a parameter that may be repeated; None when there is none."""
    texts = [value for given, value in pairs if given == name and value]
    if not all(_INTEGER.fullmatch(text) for text in texts):
        raise InvalidQuery(f"{name} must be an integer")
    return frozenset(map(int, texts)) or None


def _too_many(since: float, until: float, asked: Buckets) -> str:
    fitting = [name for name, width in RESOLUTIONS.items() if buckets_of(since, until, width).length <= MAX_BUCKETS]
    remedy = f"the finest resolution that would fit is {fitting[0]}" if fitting else "no resolution would fit"
    name = next(name for name, width in RESOLUTIONS.items() if width == asked.width)
    return (
        f"This range has {asked.length:,} buckets of {name}, more than the limit of {MAX_BUCKETS:,}; {remedy}. "
        f"With {name} ask for a shorter range, of at most {_longest(asked.width)}."
    )


def _longest(width: int) -> str:
    """The longest range of so many buckets as one series may have, in the largest unit that it has whole ones of."""
    hours = width * (MAX_BUCKETS - 1) // HOUR_SECONDS
    return f"{hours} hours" if hours < 72 else f"{hours // 24:,} days"
