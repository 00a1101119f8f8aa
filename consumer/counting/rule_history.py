"""The rules through time: those in force at a record's Kafka timestamp classify it, in every pass alike."""

from bisect import bisect_right
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from orgstats.consumer.counting.first_match import FirstMatch
from orgstats.consumer.counting.rules import Rule
from orgstats.schemas.event import REASON_CHARACTERS, Event
from orgstats.schemas.outcomes import Outcome

ERASED: Final = "+"
"""In an edition it comes before what tells who is erased."""


class RulesEntry(NamedTuple):
    """Rules that are in force from a Kafka timestamp on, until the next entry's."""

    effective_from_ms: int
    version: int
    rules: tuple[Rule, ...]


class RuleHistory:
    """All rules there ever were but for voided ones; so that a second pass classifies each record as the first did.

    `erased` are the organizations whose events are to be forgotten. The edition says which entries are voided and which
    organizations erased; of `editions` it is the last, before it stand those that there were.

    Before the first entry, and for a record without a Kafka timestamp (-1), no rule matches.
    """

    def __init__(
        self,
        entries: Iterable[RulesEntry] = (),
        editions: tuple[str, ...] = ("0",),
        erased: Collection[int] = frozenset(),
    ) -> None:
        self.entries = tuple(sorted(entries, key=lambda entry: entry[:2]))
        self.editions = editions
        self.edition = editions[-1]
        self.erased = frozenset(erased)
        self._starts = [entry.effective_from_ms for entry in self.entries]
        self.first_matches = [FirstMatch(entry.rules) for entry in self.entries]

    @property
    def alike(self) -> list[str]:
        """Those editions that differ from this one at most in who was erased.

        Once an erasure is done, a closed chunk that was counted by one of them holds what this one would count.
        """
        voided = self.edition.partition(ERASED)[0]
        return [edition for edition in self.editions if edition.partition(ERASED)[0] == voided]

    def in_force(self, kafka_timestamp_ms: int) -> RulesEntry | None:
        """The entry with the latest `effective_from_ms` that is not after the timestamp."""
        place = self._place(kafka_timestamp_ms)
        return self.entries[place] if place >= 0 else None

    def classify(self, event: Event, kafka_timestamp_ms: int) -> tuple[int, str]:
        """(outcome, reason) of an event: its own, or those of the first rule that matches, or accepted."""
        if event.outcome is not None:
            return event.outcome, (event.reason or "")[:REASON_CHARACTERS]
        place = self._place(kafka_timestamp_ms)
        rule = self.first_matches[place].of(event) if place >= 0 else None
        return (int(Outcome.accepted), "") if rule is None else (int(rule.outcome), rule.reason)

    def missed_by(self, earlier: "RuleHistory", classified_ms: int) -> list[RulesEntry]:
        """Entries that an earlier copy did not have when records up to this Kafka timestamp were classified by it."""
        known = {entry[:2] for entry in earlier.entries}
        return [entry for entry in self.entries if entry[:2] not in known and entry.effective_from_ms <= classified_ms]

    def _place(self, kafka_timestamp_ms: int) -> int:
        return bisect_right(self._starts, kafka_timestamp_ms) - 1
