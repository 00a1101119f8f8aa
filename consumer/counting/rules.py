"""The rules file: which unclassified events are filtered or rate limited, read and compiled, all faults with lines.

    [[rule]]
    outcome = "filtered"                 # or "rate_limited"
    reason = "crawlers"                  # 1 to 64 characters, stored with the counts
    user_agent = ["*bot*", "*crawler*"]  # conditions: all of a rule must hold, one value of each is enough

Conditions: `remote_addr` (CIDR), `org_id`, `project_id`, `key_id` (integers), and globs, which ignore case,
for `user_agent`, `release`, `environment`, `error_message`, `url`. In a glob `*` is any run of characters,
`?` one character, `[a-z]` and `[!a-z]` one of a set, and `\\` takes the next character as it is. A field that
an event lacks meets no condition, but a missing org is 0. The first rule that matches wins.
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from operator import attrgetter
from typing import Any, Final, NamedTuple

from orgstats.consumer.counting.globs import matcher
from orgstats.consumer.counting.toml_lines import Lines
from orgstats.errors import ConfigurationError
from orgstats.schemas.event import REASON_CHARACTERS, Event
from orgstats.schemas.outcomes import Outcome

OUTCOMES: Final = {"filtered": Outcome.filtered, "rate_limited": Outcome.rate_limited}
MAX_FILE_CHARACTERS: Final = 1_000_000


class Fault(NamedTuple):
    """One thing that is wrong with a rules file."""

    line: int
    text: str


class RulesError(ConfigurationError):
    """A rules file cannot be used; the text lists every fault with its line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults)
        super().__init__("\n".join(f"line {line}: {text}" for line, text in self.faults))


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule: the event's `field` meets one of `values`."""

    field: str
    values: tuple[str | int, ...]
    holds: Callable[[Event], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """An outcome and a reason for the events that meet every condition."""

    line: int
    outcome: Outcome
    reason: str
    conditions: tuple[Condition, ...]

    def matches(self, event: Event) -> bool:
        """Whether every condition holds for the event."""
        for condition in self.conditions:  # noqa: SIM110 - a generator would double the time
            if not condition.holds(event):
                return False
        return True


class Finding(NamedTuple):
    """What one condition said of an event; `met` is the value that was met."""

    field: str
    met: str | int | None


def explain(rules: Sequence[Rule], event: Event) -> list[tuple[Rule, list[Finding]]]:
    """What each rule said of an event, up to the first that matches; for people, not for speed."""
    told = []
    for rule in rules:
        told.append((rule, [Finding(c.field, _met(c, event)) for c in rule.conditions]))
        if rule.matches(event):
            break
    return told


def _met(condition: Condition, event: Event) -> str | int | None:
    single = (_condition(condition.field, [value]) for value in condition.values)
    return next((one.values[0] for one in single if one.holds(event)), None)


def parse(text: str) -> tuple[Rule, ...]:
    """The rules of a file, in order; raises RulesError with every fault."""
    if len(text) > MAX_FILE_CHARACTERS:
        raise RulesError([Fault(1, f"the file is longer than {MAX_FILE_CHARACTERS} characters")])
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError([_syntax_fault(error, text)]) from None
    lines, faults = Lines(text, "rule"), []
    faults += [Fault(lines.of(key), _unknown(key, ["rule"])) for key in document if key != "rule"]
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RulesError([*faults, Fault(lines.of("rule"), "rule: write each rule under a [[rule]] line")])
    rules = [_rule(table, index, lines, faults) for index, table in enumerate(tables)]
    if faults:
        raise RulesError(faults)
    return tuple(rules)


def _syntax_fault(error: tomllib.TOMLDecodeError, text: str) -> Fault:
    where = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
    line = int(where[1] or text.count("\n") + 1) if where else 1
    return Fault(line, f"not TOML: {str(error)[: where.start() if where else None]}")


def _unknown(key: str, known: Sequence[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"{key}: unknown" + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}")


def _rule(table: dict[str, Any], index: int, lines: Lines, faults: list[Fault]) -> Rule:
    """The rule of one table; appends what is wrong with it to `faults`."""

    def fault(key: str, text: str) -> None:
        faults.append(Fault(lines.of(key, index), f"rule {index + 1}: {text}"))

    outcome, reason = table.get("outcome"), table.get("reason")
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        fault("outcome", f"outcome: must be one of {', '.join(OUTCOMES)}")
    if not isinstance(reason, str) or not 1 <= len(reason) <= REASON_CHARACTERS:
        fault("reason", f"reason: must be a text of 1 to {REASON_CHARACTERS} characters")
    for key in table.keys() - {"outcome", "reason", *_CONDITIONS}:
        fault(key, _unknown(key, ["outcome", "reason", *_CONDITIONS]))
    conditions = []
    for key in _CONDITIONS.keys() & table.keys():
        try:
            conditions.append(_condition(key, table[key]))
        except ValueError as error:
            fault(key, f"{key}: {error}")
    if not _CONDITIONS.keys() & table.keys():
        fault("", "has no condition, so it would match every event")
    conditions.sort(key=lambda condition: list(_CONDITIONS).index(condition.field))
    known = OUTCOMES.get(str(outcome), Outcome.filtered)
    return Rule(lines.of("", index), known, str(reason), tuple(conditions))


def _condition(field: str, values: Any) -> Condition:
    """One compiled condition; raises ValueError saying what is wrong with the values."""
    kind, compiled = _CONDITIONS[field]
    if not isinstance(values, list) or not values:
        raise ValueError("must be a list with at least one value")
    if not all(type(value) is kind for value in values):
        raise ValueError(f"must be a list of {'integers' if kind is int else 'texts'}")
    return Condition(field, tuple(values), compiled(field, values))


def _ids(field: str, values: list[int]) -> Callable[[Event], bool]:
    if not all(0 <= value < 2**63 for value in values):
        raise ValueError("ids are 0 to 9223372036854775807")
    wanted: frozenset[int | None] = frozenset(values) | ({None} if field == "org_id" and 0 in values else set())
    get = attrgetter(field)
    return lambda event: get(event) in wanted


def _networks(_field: str, values: list[str]) -> Callable[[Event], bool]:
    """Addresses are compared as integers, cut to each prefix length that occurs."""
    by_shift: dict[tuple[int, int], set[int]] = {}
    for value in values:
        version, shift, prefix = _network(value)
        by_shift.setdefault((version, shift), set()).add(prefix)
    wanted = [(version, shift, frozenset(found)) for (version, shift), found in by_shift.items()]

    def holds(event: Event) -> bool:
        if event.remote_addr is None or (address := address_number(event.remote_addr)) is None:
            return False
        version, number = address
        for v, shift, prefixes in wanted:  # noqa: SIM110 - a generator would double the time
            if version == v and number >> shift in prefixes:
                return True
        return False

    return holds


def _network(text: str) -> tuple[int, int, int]:
    """(IP version, bits to cut, what is left) of a CIDR; an IPv4 network mapped into IPv6 is an IPv4 network."""
    try:
        network: IPv4Network | IPv6Network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an address or network") from None
    if "/" in text and ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{text!r} has bits set beyond its prefix; write {network}")
    shift = network.max_prefixlen - network.prefixlen
    number = int(network.network_address)
    if network.version == 6 and network.prefixlen >= 96 and number >> 32 == 0xFFFF:
        return 4, shift, (number & 0xFFFF_FFFF) >> shift
    return network.version, shift, number >> shift


_LONGEST_ADDRESS: Final = 64
"""Longer texts are no addresses, and are not worth remembering."""


def address_number(text: str) -> tuple[int, int] | None:
    """(IP version, number) of an address; None when it is none. An IPv4 address mapped into IPv6 is IPv4."""
    return _address_number(text) if len(text) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=1 << 16)
def _address_number(text: str) -> tuple[int, int] | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return 4, int(address.ipv4_mapped)
    return address.version, int(address)


def _globs(field: str, values: list[str]) -> Callable[[Event], bool]:
    get, meets = attrgetter(field), matcher(values)

    def holds(event: Event) -> bool:
        text = get(event)
        return text is not None and meets(text)

    return holds


_CONDITIONS: Final[dict[str, tuple[type, Callable[[str, Any], Callable[[Event], bool]]]]] = {
    "org_id": (int, _ids),  # cheapest first: conditions are tried in this order
    "project_id": (int, _ids),
    "key_id": (int, _ids),
    "remote_addr": (str, _networks),
    "environment": (str, _globs),
    "release": (str, _globs),
    "user_agent": (str, _globs),
    "url": (str, _globs),
    "error_message": (str, _globs),
}
CONDITION_FIELDS: Final = tuple(_CONDITIONS)
"""Fields that conditions may ask for, the cheapest first."""
