"""Outcomes, categories and stats: what became of an event, and which stat sums what.

The ids are those of Sentry's `outcomes` topic, so that its producers need no translation.
"""

from enum import IntEnum
from typing import Final, Literal, get_args


class Outcome(IntEnum):
    """What became of an event; the value is the id on the wire and in ClickHouse.

    These have a name. Sentry adds ids now and then: any up to 255 is counted and stored by its number all the same,
    and is part of no stat. So counting works with plain integers, and only what people read asks for a name.
    """

    accepted = 0
    filtered = 1
    rate_limited = 2
    invalid = 3
    abuse = 4
    client_discard = 5
    cardinality_limited = 6


def outcome_name(outcome: int) -> str:
    """The name of an outcome, for people; `outcome 9` for an id without one."""
    return Outcome(outcome).name if outcome in NAMED_OUTCOMES else f"outcome {outcome}"


NAMED_OUTCOMES: Final = frozenset(map(int, Outcome))
"""The ids that have a name."""

Stat = Literal["received", "rejected", "blacklisted", "generated"]
STATS: Final[tuple[Stat, ...]] = get_args(Stat)

STAT_OUTCOMES: Final[dict[Stat, tuple[Outcome, ...]]] = {
    "received": (Outcome.accepted, Outcome.filtered, Outcome.rate_limited),
    "rejected": (Outcome.rate_limited,),
    "blacklisted": (Outcome.filtered,),
    "generated": (Outcome.accepted,),
}
"""The outcomes whose `quantity` a stat sums; received contains the others."""

COMPARED_STATS: Final[tuple[Stat, ...]] = ("received", "rejected", "blacklisted")
"""What operators are shown of a difference; generated is what is left of received."""

FILTER_REASONS: Final = frozenset(
    {
        *("browser-extensions", "error-message", "invalid-csp", "ip-address"),
        *("legacy-browsers", "localhost", "release-version", "web-crawlers"),
    }
)
"""Reasons of Sentry's inbound filters; each is a stat of a project, also where nothing was filtered for it."""

DEFAULT_CATEGORY: Final = 1
STAT_CATEGORIES: Final = (0, 1, 3)
"""The error categories, the only ones the endpoint shows: default, error, security."""

BUCKET_SECONDS: Final = 10
"""Width of the finest stored bucket of event time, aligned to the epoch, UTC."""

LAST_BUCKET: Final = 4_294_967_290
"""The last bucket that a ClickHouse DateTime can hold, in February 2106."""

HOUR_SECONDS: Final = 3_600
"""Width of the other one."""

DAY_SECONDS: Final = 86_400
"""What `chunk_days` tells of."""
