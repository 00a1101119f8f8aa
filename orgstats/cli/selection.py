"""Which dead letters a command is about: the options that its commands share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops

if TYPE_CHECKING:
    from orgstats.consumer.ops.dead_letters import Filter


@dataclass(frozen=True)
class Selection:
    """Which dead letters."""

    topic: ops.Topics = None
    reason: Annotated[list[str] | None, ops.option("--reason", help="Reason code, as not_json; may be repeated.")] = (
        None
    )
    since: ops.Since = None
    until: ops.Until = None
    org: Annotated[int | None, ops.option(help="Organization id that the payload tells.", show_default=False)] = None

    def filter(self, place: str | None = None, *, handled: bool = False) -> "Filter":
        """As the store takes it; with a `place` only that one. Raises BadParameter."""
        from orgstats.consumer.ops.dead_letters import Filter
        from orgstats.schemas.dead_letter_reasons import ReasonCode

        for reason in self.reason or ():
            if reason not in list(ReasonCode):
                raise typer.BadParameter(f"{reason!r} is none of {', '.join(ReasonCode)}", param_hint="--reason")
        topics = tuple(self.topic or ())
        at: tuple[int, int] | None = None
        if place is not None:
            topic, partition, offset = _place(place)
            topics, at = (topic,), (partition, offset)
        since_ms, until_ms = ops.epoch_ms(self.since, "--since"), ops.epoch_ms(self.until, "--until")
        return Filter(topics, tuple(self.reason or ()), since_ms, until_ms, self.org, at, handled)


def _place(text: str) -> tuple[str, int, int]:
    topic, _, offset = text.rpartition("/")
    topic, _, partition = topic.rpartition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not topic/partition/offset")
    return topic, int(partition), int(offset)
