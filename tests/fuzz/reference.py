"""What becomes of a record, decided slowly and plainly: the standard library's json, integers, explicit checks.

Independent on purpose: it imports nothing of the code it classifies, and takes other ways where there are any.
"""

import ipaddress
import json
import math
from typing import Any, NamedTuple


class Dead(Exception):
    """The record is a dead letter with this code."""


class Classification(NamedTuple):
    """An event: its fields as on the wire (None when absent), then what was concluded."""

    org_id: int | None
    project_id: int | None
    key_id: int | None
    category: int | None
    quantity: int | None
    bucket: int
    moved: bool
    outcome: int
    reason: str


def tally(found: Classification) -> tuple[object, ...]:
    """What the batch counter keeps of an event."""
    return (
        found.org_id,
        found.project_id,
        found.key_id,
        found.bucket,
        found.category,
        found.outcome,
        found.reason,
        found.quantity,
    )


def classification(
    value: bytes | None, kafka_ms: int, age: int, ahead: int, history: list[tuple[int, Any]]
) -> Classification | str:
    """The event, or the code of the dead letter; `history` holds (effective from, rules as TOML reads them)."""
    try:
        event = read(value)
        second = second_of(event["timestamp"])
        check(event)
    except Dead as dead:
        return str(dead)
    bucket, moved = bucket_of(second, kafka_ms, age, ahead)
    outcome, reason = classify(event, kafka_ms, history)
    return Classification(
        event.get("org_id"),
        event.get("project_id"),
        event.get("key_id"),
        event.get("category"),
        event.get("quantity"),
        bucket,
        moved,
        outcome,
        reason[:64],
    )


def read(value: bytes | None) -> dict[str, Any]:
    """The object with a timestamp that a record holds."""
    if value is None or len(value) == 0:
        raise Dead("empty")
    if len(value) > 1024 * 1024:
        raise Dead("too_large")
    try:
        text = value.decode("utf-8", "strict")
        if deepest(text) > 500:
            raise Dead("not_json")
        found = json.loads(text, parse_constant=refuse, parse_int=whole, object_pairs_hook=last_wins)
    except ValueError:
        raise Dead("not_json") from None
    if has_surrogate(found):
        raise Dead("not_json")
    if not isinstance(found, dict):
        raise Dead("not_an_object")
    if "timestamp" not in found or found["timestamp"] is None:
        raise Dead("timestamp_missing")
    return found


def refuse(constant: str) -> None:
    """NaN and its friends are Python, not JSON."""
    raise ValueError(constant)


def whole(digits: str) -> int | float:
    """An integer, or infinity where a double would overflow; Python itself refuses very long ones."""
    return int(digits) if len(digits) < 400 else float(digits)


def last_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a lone surrogate in a value that is overwritten is a fault as well."""
    if any(has_surrogate(item) for pair in pairs for item in pair):
        raise ValueError("surrogate")
    return dict(pairs)


def has_surrogate(found: object) -> bool:
    """Whether a text, or one in a list, holds half a surrogate pair; objects were looked at when made."""
    if isinstance(found, str):
        return any(0xD800 <= ord(character) <= 0xDFFF for character in found)
    return isinstance(found, list) and any(map(has_surrogate, found))


def deepest(text: str) -> int:
    """How deep objects and arrays are nested, brackets in strings apart."""
    depth = most = place = 0
    while place < len(text):
        if text[place] == '"':
            place += 1
            while place < len(text) and text[place] != '"':
                place += 2 if text[place] == "\\" else 1
        elif text[place] in "[{":
            depth += 1
            most = max(most, depth)
        elif text[place] in "]}":
            depth -= 1
        place += 1
    return most


def check(event: dict[str, Any]) -> None:
    """The fields beside the timestamp."""
    outcome = event.get("outcome")
    if outcome is not None and not (type(outcome) is int and outcome in range(256)):
        raise Dead("outcome_invalid")
    for name, most in (("org_id", 63), ("project_id", 63), ("key_id", 63), ("quantity", 63), ("category", 8)):
        number = event.get(name)
        if number is not None and not (type(number) is int and 0 <= number < 2**most):
            raise Dead("field_invalid")
    for name in ("reason", "remote_addr", "user_agent", "release", "environment", "error_message", "url"):
        if not isinstance(event.get(name), str | None):
            raise Dead("field_invalid")


def second_of(timestamp: object) -> int:
    """Seconds since 1970, cut towards the past."""
    if isinstance(timestamp, str):
        return second_of_text(timestamp)
    if type(timestamp) in (int, float):
        try:
            if math.isfinite(float(timestamp)):  # type: ignore[arg-type]
                return math.floor(timestamp)  # type: ignore[call-overload, no-any-return]
        except OverflowError:
            pass
    raise Dead("timestamp_invalid")


def second_of_text(text: str) -> int:
    """RFC 3339, read from left to right."""
    digits = "0123456789"
    shape = "".join("0" if character in digits else character for character in text[:19])
    if shape not in ("0000-00-00T00:00:00", "0000-00-00t00:00:00", "0000-00-00 00:00:00"):
        raise Dead("timestamp_invalid")
    rest = text[19:]
    if rest.startswith("."):
        end = next((i for i, character in enumerate(rest[1:], 1) if character not in digits), len(rest))
        if end == 1:
            raise Dead("timestamp_invalid")
        rest = rest[end:]
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    if not (1 <= month <= 12 and 1 <= day <= month_length(year, month) and hour < 24 and minute < 60 and second < 61):
        raise Dead("timestamp_invalid")
    at = days_before(year, month, day) * 86_400 + hour * 3600 + minute * 60 + min(second, 59) - offset_of(rest)
    if second == 60 and (at + 1) % 86_400 != 0:
        raise Dead("timestamp_invalid")
    if second == 60 and not is_first_of_a_month((at + 1) // 86_400):
        raise Dead("timestamp_invalid")
    return at


def offset_of(text: str) -> int:
    """Seconds that a zone is ahead of UTC."""
    if text in ("", "Z", "z"):
        return 0
    shape = "".join("0" if character in "0123456789" else character for character in text)
    if shape not in ("+00:00", "-00:00") or int(text[1:3]) > 23 or int(text[4:6]) > 59:
        raise Dead("timestamp_invalid")
    return (int(text[1:3]) * 60 + int(text[4:6])) * (60 if text[0] == "+" else -60)


def month_length(year: int, month: int) -> int:
    """Days of a month."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]


def days_before(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01; a year is counted from March on, so that the leap day comes last."""
    shifted = year - 1 if month <= 2 else year
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719_468


def is_first_of_a_month(days: int) -> bool:
    """Whether the day that many days after 1970-01-01 is the first of its month."""
    year = 1970 + days // 366 - 30
    return any(days_before(y, month, 1) == days for y in range(year, year + 70) for month in range(1, 13))


def bucket_of(second: int, kafka_ms: int, age: int, ahead: int) -> tuple[int, bool]:
    """The start of the 10 s that count, and whether Kafka's time chose them."""
    chosen, moved = second, False
    if kafka_ms >= 0:
        kafka_second = kafka_ms // 1000
        if second < kafka_second - age or second > kafka_second + ahead:
            chosen, moved = kafka_second, True
    bucket = chosen // 10 * 10
    return (0 if bucket < 0 else min(bucket, 4_294_967_290)), moved


def classify(event: dict[str, Any], kafka_ms: int, history: list[tuple[int, Any]]) -> tuple[int, str]:
    """The event's own outcome, or what the rules in force say."""
    if event.get("outcome") is not None:
        return event["outcome"], event.get("reason") or ""
    in_force: list[dict[str, Any]] = []
    for effective_from, rules in sorted(history, key=lambda entry: entry[0]):
        if effective_from <= kafka_ms:
            in_force = rules
    for rule in in_force:
        if all(holds(name, rule[name], event.get(name)) for name in rule if name not in ("outcome", "reason")):
            return {"filtered": 1, "rate_limited": 2}[rule["outcome"]], rule["reason"]
    return 0, ""


def holds(name: str, wanted: list[Any], found: Any) -> bool:
    """Whether a field meets one of a condition's values."""
    if name == "org_id":
        return (found or 0) in wanted
    if found is None:
        return False
    if name in ("project_id", "key_id"):
        return found in wanted
    if name == "remote_addr":
        return any(contains(network, found) for network in wanted)
    return any(glob(pattern.casefold(), found.casefold()) for pattern in wanted)


def contains(network: str, address: str) -> bool:
    """Whether a network holds an address; IPv4 within IPv6 is IPv4."""
    if len(address) > 64:
        return False
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip in ipaddress.ip_network(network)


def glob(pattern: str, text: str) -> bool:
    """`*` and `?` only, by a table of which prefixes match which."""
    row = [True] + [False] * len(text)
    for character in pattern:
        if character == "*":
            row = [any(row[: end + 1]) for end in range(len(text) + 1)]
        else:
            row = [False] + [row[end] and character in ("?", text[end]) for end in range(len(text))]
    return row[-1]
