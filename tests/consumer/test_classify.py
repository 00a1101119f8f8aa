"""Which rules classify an event: those in force at its Kafka timestamp, in every pass over the log."""

import pytest

from orgstats.consumer.counting.rule_history import RuleHistory, RulesEntry
from orgstats.consumer.counting.rules import parse
from orgstats.schemas.event import Event


def entry(effective_from_ms: int, version: int, reason: str) -> RulesEntry:
    """An entry with one rule, which filters organization 1."""
    text = f'[[rule]]\noutcome = "filtered"\nreason = "{reason}"\norg_id = [1]\n'
    return RulesEntry(effective_from_ms, version, parse(text))


HISTORY = RuleHistory([entry(2000, 2, "second"), entry(1000, 1, "first"), entry(2000, 3, "third")], editions=("0", "4"))


@pytest.mark.parametrize(
    ("timestamp_ms", "classification"),
    [
        (-1, (0, "")),
        (999, (0, "")),
        (1000, (1, "first")),
        (1999, (1, "first")),
        (2000, (1, "third")),
        (10**15, (1, "third")),
    ],
)
def test_the_entry_in_force_at_the_kafka_timestamp_classifies(
    timestamp_ms: int, classification: tuple[int, str]
) -> None:
    """The latest entry that is not after the record decides; of two at one time the later version does."""
    assert HISTORY.classify(Event(0, org_id=1), timestamp_ms) == classification


def test_no_match_is_accepted() -> None:
    """An event that no rule matches is accepted without a reason, whatever reason it came with."""
    assert HISTORY.classify(Event(0, org_id=2, reason="mine"), 1000) == (0, "")


def test_the_first_rule_that_matches_wins() -> None:
    """Rules are tried in the order of the file."""
    rules = parse(
        '[[rule]]\noutcome="rate_limited"\nreason="a"\norg_id=[1]\nkey_id=[1]\n'
        '[[rule]]\noutcome="filtered"\nreason="b"\norg_id=[1]\n'
    )
    history = RuleHistory([RulesEntry(0, 1, rules)])
    assert history.classify(Event(0, org_id=1, key_id=1), 5) == (2, "a")
    assert history.classify(Event(0, org_id=1, key_id=2), 5) == (1, "b")


def test_an_outcome_that_came_with_the_event_is_kept() -> None:
    """A classified event keeps its outcome and its reason, cut to 64 characters; no rule looks at it."""
    assert HISTORY.classify(Event(0, org_id=1, outcome=3), 1000) == (3, "")
    assert HISTORY.classify(Event(0, org_id=1, outcome=0, reason="é" * 70), 1000) == (0, "é" * 64)


def test_an_empty_history_is_edition_0_and_accepts() -> None:
    """Before any rules were published every unclassified event is accepted."""
    assert RuleHistory().edition == "0"
    assert RuleHistory().classify(Event(0), 10**15) == (0, "")


def test_entries_that_came_too_late_are_told() -> None:
    """New entries from the time of records that were classified without them, and no others."""
    earlier = RuleHistory([entry(1000, 1, "first")])
    assert [one.version for one in HISTORY.missed_by(earlier, 2000)] == [2, 3]
    assert HISTORY.missed_by(earlier, 1999) == []
    assert HISTORY.missed_by(HISTORY, 9999) == []
