"""When a topic's retention would come to what is not counted yet. Pure."""

from dataclasses import dataclass
from typing import Final

RATE_SECONDS: Final = 60
"""The producers' rate is taken over this long."""


@dataclass(frozen=True, slots=True)
class Retention:
    """A topic's limits; None for none."""

    milliseconds: int | None
    bytes: int | None


def retention_deadline(
    retention: Retention, complete_until: float, now: float, headroom: int, produced_rate: float
) -> float | None:
    """When retention comes to the position if counting stands still, epoch seconds; None for never.

    By time: when the records at the position are too old. By size: when as many records have come as still stand
    before the position, which is never too late a guess.
    """
    ends = []
    if retention.milliseconds is not None:
        ends.append(complete_until + retention.milliseconds / 1000)
    if retention.bytes is not None and produced_rate > 0:
        ends.append(now + headroom / produced_rate)
    return min(ends, default=None)


def retention_of(settings: dict[str, str]) -> Retention:
    """Limits from a topic's settings; a topic that is only compacted deletes by neither."""
    if "delete" not in settings.get("cleanup.policy", "delete"):
        return Retention(None, None)

    def limit(name: str) -> int | None:
        text = settings.get(name, "-1")
        return int(text) if text.isdecimal() else None

    return Retention(limit("retention.ms"), limit("retention.bytes"))
