"""Rules that operators publish and void while consumers run: one entry filters what has one release."""

from dataclasses import dataclass, field
from functools import lru_cache

from orgstats.consumer.counting.rule_history import ERASED, RuleHistory, RulesEntry
from orgstats.consumer.counting.rules import parse

LEAD_MS = 90_000
"""Between publishing and taking effect."""


@lru_cache(maxsize=64)
def rules_without(rules: RuleHistory, erased: tuple[int, ...]) -> RuleHistory:
    """The same once organizations were erased, one after the other. Some editions there never were."""
    ever = [f"{ERASED}{','.join(map(str, erased[:n]))}" if n else "" for n in range(len(erased) + 1)]
    editions = tuple(edition + suffix for edition in rules.editions for suffix in ever)
    return RuleHistory(rules.entries, editions, erased)


@dataclass
class SimRules:
    """Entries as (effective from, epoch ms; version), and versions that are voided."""

    entries: list[tuple[int, int]] = field(default_factory=list)
    voided: list[int] = field(default_factory=list)

    def publish(self, now_ms: int) -> None:
        """Another entry, which takes effect after the lead."""
        self.entries.append((now_ms + LEAD_MS, len(self.entries) + 1))

    def void(self, which: int) -> bool:
        """Take one back; whether there was any."""
        left = self.in_force()
        if left:
            self.voided.append(left[which % len(left)][1])
        return bool(left)

    def in_force(self) -> list[tuple[int, int]]:
        """Those that are not voided."""
        return [entry for entry in self.entries if entry[1] not in self.voided]

    def history(self) -> RuleHistory:
        """As consumers read it."""
        rules = {
            v: parse(f'[[rule]]\noutcome = "filtered"\nreason = "rule {v}"\nrelease = ["bad"]\n')
            for _, v in self.entries
        }
        editions = [",".join(map(str, sorted(self.voided[:n]))) or "0" for n in range(len(self.voided) + 1)]
        return RuleHistory((RulesEntry(at, v, rules[v]) for at, v in self.in_force()), tuple(editions))

    def classify(self, event: dict[str, object], kafka_ms: int) -> tuple[int, str]:
        """(outcome, reason) of an event without an outcome, worked out anew."""
        known = sorted(entry for entry in self.in_force() if entry[0] <= kafka_ms)
        return (1, f"rule {known[-1][1]}") if known and event.get("release") == "bad" else (0, "")
