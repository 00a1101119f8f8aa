"""Finds the first rule that matches an event without trying all of them: values of fields come again and again."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from orgstats.consumer.counting.rules import CONDITION_FIELDS, Rule
from orgstats.schemas.event import Event

_REMEMBERED: Final = 8_192
"""Values of a field that are remembered; then it starts anew."""
_LONGEST: Final = 256
"""Longer texts are classified each time: they seldom come again, and would fill the memory."""


class FirstMatch:
    """The first of some rules that matches an event; the same as trying one after the other.

    Each value of a field leaves some rules possible, one bit a rule. Of those that all fields leave, the lowest bit
    is the first rule that matches.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._all = (1 << len(rules)) - 1
        used = {condition.field for rule in rules for condition in rule.conditions}
        self.fields = tuple(field for field in CONDITION_FIELDS if field in used)
        self._left_by = {field: _Possible(field, rules) for field in self.fields}
        self._fields = [(attrgetter(field), left_by) for field, left_by in self._left_by.items()]

    def of(self, event: Event) -> Rule | None:
        """The rule, or None when none matches."""
        possible = self._all
        for value_of, left_by in self._fields:
            if not possible:
                break
            possible &= left_by[value_of(event)]
        return self._rules[(possible & -possible).bit_length() - 1] if possible else None

    def left_by(self, field: str, value: str | int | None) -> int:
        """The rules that a value of one of `fields` leaves possible, one bit a rule."""
        return self._left_by[field].of(value)


class _Possible(dict[str | int | None, int]):
    """The rules that a value of one field leaves possible: those that it meets, and those that do not ask for it."""

    def __init__(self, field: str, rules: Sequence[Rule]) -> None:
        super().__init__()
        self._field = field
        self._asking = [(1 << n, c) for n, rule in enumerate(rules) for c in rule.conditions if c.field == field]
        asking = sum(bit for bit, _ in self._asking)
        self._others = ((1 << len(rules)) - 1) & ~asking

    def of(self, value: str | int | None) -> int:
        """The same, and not remembered."""
        event = Event(0)
        setattr(event, self._field, value)
        return self._others + sum(bit for bit, condition in self._asking if condition.holds(event))

    def __missing__(self, value: str | int | None) -> int:
        possible = self.of(value)
        if not isinstance(value, str) or len(value) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[value] = possible
        return possible
