"""The operators' page as data: what is stored about counting, and what of it needs somebody, with the command for it.

Everything is read from the tables. What only consumers know (where the logs end, when retention would come to what is
not counted, why nothing is read) each of them stores every few seconds in `watched`, for all partitions that it counts.
So the page needs no rights at Kafka and no list of consumers' addresses, and is the same however many there are. What
is shown of a log is as old as it says.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from orgstats.query.ops_rows import Audit, Counted, Erasure, Gap, Json, Letter, Letters, Replay, Rules
from orgstats.times import format_time

RETENTION_SECONDS: Final = 6 * 3_600.0
BEHIND_SECONDS: Final = 120.0
SILENT_SECONDS: Final = 90.0
"""A consumer tells of its partitions every 5 s, and a minute after what could not be stored."""
IDLE_SECONDS: Final = 300.0
"""A replay that has stored nothing for so long has ended."""
SAMPLED_BY: Final = "consumer"
"""Who took an audit that looked at one chunk only."""

_KAFKA: Final = "--bootstrap-server $ORGSTATS_BOOTSTRAP_SERVERS"


class Finding(NamedTuple):
    """Something that is not as it should be: `act` needs a person. The command is ready for a shell."""

    level: Literal["act", "note"]
    what: str
    command: str


@dataclass(frozen=True, slots=True)
class Operating:
    """All that the page shows, as it was read at one moment, epoch ms by ClickHouse's clock."""

    now: int
    partitions: Sequence[Counted] = ()
    gaps: Sequence[Gap] = ()
    replays: Sequence[Replay] = ()
    letters: Sequence[Letters] = ()
    in_full: Mapping[tuple[int, int], Letter] = field(default_factory=dict)
    audits: Sequence[Audit] = ()
    rules: Sequence[Rules] = ()
    erasures: Sequence[Erasure] = ()

    def answer(self) -> Json:
        """As JSON; times are epoch seconds, None for unknown or never."""
        all_gaps, all_offsets = self.gaps[0][-2:] if self.gaps else (0, 0)
        return {
            "now": self.now / 1000,
            "findings": [one._asdict() for one in self.findings()],
            "partitions": [{**one.shown(), "is_silent": self._is_silent(one)} for one in self.partitions],
            "gaps": {"count": all_gaps, "offsets": all_offsets, "last": [one.shown() for one in self.gaps]},
            "replays": [one.shown() for one in self.replays],
            "dead_letters": [self._letters(one) for one in self.letters],
            "audits": [one.shown() for one in self.audits],
            "rules": [one.shown(self._state(one)) for one in self.rules],
        }

    def findings(self) -> list[Finding]:
        """What is to be looked at: what needs somebody first, and of that what is lost soonest."""
        counted = [one for one in self.partitions if not one.retired]
        overtaken = [one for one in counted if self._is_overtaken(one)]
        found = [
            *(self._overtaken(one) for one in overtaken),
            *(finding for one in counted if one not in overtaken for finding in self._behind(one)),
            *(_cut(one) for one in counted if one.is_cut),
            *self._paused(counted),
            *self._audited(),
            *(_erasure(one) for one in self.erasures),
            *(self._replay(one) for one in self.replays if one.step == 0),
            *self._waiting_letters(),
            *self._lost(),
        ]
        return sorted(found, key=lambda one: one.level != "act")

    def _is_silent(self, one: Counted) -> bool:
        return self.now - max(one.seen_at, one.written_at) > SILENT_SECONDS * 1000

    def _is_late(self, one: Counted) -> bool:
        return bool(one.lag) and self.now - one.complete_until > BEHIND_SECONDS * 1000

    def _is_overtaken(self, one: Counted) -> bool:
        """Whether retention comes soon to what is late. Where topics keep little, what is in time is always near it."""
        return self._is_late(one) and 0 < one.retention_deadline < self.now + RETENTION_SECONDS * 1000

    def _overtaken(self, one: Counted) -> Finding:
        left = _length(max(0, one.retention_deadline - self.now))
        return Finding(
            "act",
            f"{one.name} is {one.lag:,} records behind, and retention comes to them in {left}: raise retention.ms, "
            "here to two weeks, then add consumers.",
            f"kafka-configs.sh {_KAFKA} --alter --entity-type topics --entity-name {shlex.quote(one.topic)}"
            " --add-config retention.ms=1209600000",
        )

    def _behind(self, one: Counted) -> Iterator[Finding]:
        doctor = f"orgstats doctor {one.on} --quiet"
        if not one.has_progress:
            yield Finding("act", f"{one.name} is not counted yet.", doctor)
        elif self._is_silent(one):
            silent = _length(self.now - max(one.seen_at, one.written_at))
            yield Finding("act", f"No consumer has told of {one.name} for {silent}.", doctor)
        elif self._is_late(one) and one.lag == one.hidden:
            yield Finding(
                "act",
                f"{one.name}: {one.lag:,} records lie behind a transaction that is not ended, and cannot be counted.",
                f"kafka-transactions.sh {_KAFKA} find-hanging --topic {shlex.quote(one.topic)}"
                f" --partition {one.partition}",
            )
        elif self._is_late(one):
            how_long = f" and {_length(self.now - one.complete_until)}" if one.complete_until else ""
            yield Finding(
                "act", f"{one.name} is {one.lag:,} records{how_long} behind.", f"orgstats lag {one.on} --watch"
            )

    def _paused(self, counted: Sequence[Counted]) -> Iterator[Finding]:
        """Consumers that read nothing, each once."""
        paused: dict[tuple[str, ...], Counted] = {}
        for one in counted:
            if one.pause_reasons and self.now - one.seen_at < SILENT_SECONDS * 1000:
                paused.setdefault((one.consumer, *one.pause_reasons), one)
        for (consumer, *reasons), one in paused.items():
            yield Finding(
                "act",
                f"The consumer on {consumer} reads nothing: {', '.join(reasons)}.",
                f"orgstats doctor {one.on} --quiet",
            )

    def _audited(self) -> Iterator[Finding]:
        """Differences, where no later audit that looked as closely has been there. A sample takes none back."""
        looked: set[str] = set()
        recounted: set[str] = set()
        for one in self.audits:
            if one.differences and not set(one.places) <= (recounted if one.recount else looked):
                what = f"An audit at {_at(one.at)} found {one.differences:,} differences. {one.first}"
                yield Finding("act", what, one.command)
            if one.by != SAMPLED_BY:
                looked.update(one.places)
                recounted.update(one.places if one.recount else ())

    def _replay(self, one: Replay) -> Finding:
        if self.now - one.active_at < IDLE_SECONDS * 1000:
            return Finding("note", f"Replay {one.replay_id} of {one.by} is running.", "orgstats replay ls")
        begun = _at(one.at)
        return Finding(
            "act", f"Replay {one.replay_id} of {one.by}, begun {begun}, is not done. This goes on with it.", one.command
        )

    def _waiting_letters(self) -> Iterator[Finding]:
        for one in self.letters:
            if waiting := one.records - one.sent:
                letter = self.in_full.get(one.newest)
                command = letter.command if letter else "orgstats dead-letters ls"
                yield Finding("act", f"Dead letters of {one.topic}: {waiting:,} for {one.reason}.", command)

    def _lost(self) -> Iterator[Finding]:
        for one in self.gaps[:1]:
            yield Finding(
                "note",
                f"{one.all_offsets:,} offsets are lost, in {one.all_gaps:,} gap{'s' * (one.all_gaps != 1)}; "
                f"the last was seen {_at(one.seen_at)}.",
                one.command,
            )

    def _letters(self, one: Letters) -> Json:
        letter = self.in_full.get(one.newest)
        found: Json = {"topic": one.topic, "reason": one.reason, "records": one.records, "sent": one.sent}
        return found | ({"one": letter.shown(), "command": letter.command} if letter else {})

    def _state(self, one: Rules) -> str:
        if one.effective_from > self.now:
            return "to come"
        return "in force" if one is next(e for e in self.rules if e.effective_from <= self.now) else "before"


def _cut(one: Counted) -> Finding:
    return Finding(
        "note",
        f"{one.name}: its log was cut back to {one.cut_at:,}; up to {one.cut_to:,} it is counted again.",
        f"orgstats lag {one.on} --watch",
    )


def _erasure(one: Erasure) -> Finding:
    return Finding(
        "act",
        f"The erasure of organization {one.org_id}, begun {_at(one.at)}, is not done.",
        f"orgstats orgs erase {one.org_id} --execute",
    )


def _at(milliseconds: int) -> str:
    return format_time(milliseconds / 1000).replace("T", " ").replace("Z", " UTC")


def _length(milliseconds: float) -> str:
    seconds = milliseconds / 1000
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} s"
