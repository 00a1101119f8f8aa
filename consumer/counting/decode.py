"""From a record's bytes to an event and its bucket, or to a dead letter: a pure function of the record.

Two passes over the log must agree on every record, so nothing here depends on the caller, the clock, the
interpreter's limits or what was decoded before; the memo only remembers what would be computed again.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import floor
from typing import Any, Final, NamedTuple

import msgspec

from orgstats.schemas.dead_letter_reasons import ReasonCode
from orgstats.schemas.event import Event
from orgstats.schemas.outcomes import BUCKET_SECONDS, LAST_BUCKET

MAX_RECORD_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 500


class Undecodable(Exception):
    """The record cannot be counted; `code` is stable, `text` says what was expected, without the payload."""

    def __init__(self, code: ReasonCode, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class AgeLimits(NamedTuple):
    """How far an event's time may be from its Kafka timestamp; a change of these is a change of fingerprint."""

    max_age_seconds: int = 90 * 86_400
    max_ahead_seconds: int = 600


_decode_event: Final = msgspec.json.Decoder(Event).decode
_decode_anything: Final = msgspec.json.Decoder(msgspec.Raw).decode


def decode(value: bytes | None) -> Event:
    """The event in a record's value; raises Undecodable and nothing else.

    A timestamp string is not looked at yet: `event_second` does that, and raises Undecodable too.
    The whole value must be UTF-8 and JSON, also in fields that are ignored. Needs a caller that is less
    than 400 frames deep, or Python's recursion limit could be met before MAX_DEPTH is.
    """
    if not value:
        raise Undecodable(ReasonCode.empty, "the record has no value")
    if len(value) > MAX_RECORD_BYTES:
        raise Undecodable(ReasonCode.too_large, f"the value is longer than {MAX_RECORD_BYTES} bytes")
    if len(value) > MAX_DEPTH and too_deep(value):
        raise Undecodable(ReasonCode.not_json, f"nested deeper than {MAX_DEPTH} levels")
    try:
        if not value.isascii():
            value.decode()  # msgspec does not look into the text of fields it skips
        return _decode_event(value)
    except UnicodeDecodeError as error:
        raise Undecodable(ReasonCode.not_json, f"not UTF-8 at byte {error.start}") from None
    except msgspec.DecodeError:
        return _decode_by_field(value)


NAMED: Final = r'"org_id"[ \t\r\n]*:[ \t\r\n]*"?0*([0-9]{1,20})'
"""How a value that cannot be counted names an organization: anywhere, as a number or as text, be it JSON or not.

`orgstats orgs erase` has ClickHouse look for the same, so it is written as both understand it.
"""
_named: Final = re.compile(NAMED.encode()).findall


def named_organizations(value: bytes | None) -> set[int]:
    """The organizations that a value names which cannot be counted."""
    return set(map(int, _named(value or b"")))


_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")


def too_deep(value: bytes) -> bool:
    """Whether objects and arrays are nested deeper than MAX_DEPTH; exact for JSON, any answer for other text.

    msgspec recurses, and where it gives up depends on how deep its caller stands; that must not decide.
    """
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", value)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


_ABSENT: Final = msgspec.Raw(b"null")
_FIELDS: Final = tuple((field.name, msgspec.json.Decoder(field.type)) for field in msgspec.structs.fields(Event))
_decode_raw_fields: Final = msgspec.json.Decoder(
    msgspec.defstruct("RawFields", [(name, msgspec.Raw, _ABSENT) for name, _ in _FIELDS])
).decode


def _decode_by_field(value: bytes) -> Event:
    """The slow way for what the quick one refused: the first fault in the order of the codes.

    Also the right way when a field stands twice: the last one wins, even if an earlier one is invalid.
    """
    try:
        _decode_anything(value)
    except msgspec.DecodeError as error:
        raise Undecodable(ReasonCode.not_json, str(error)) from None
    if not value.lstrip(b" \t\r\n").startswith(b"{"):
        raise Undecodable(ReasonCode.not_an_object, "the value is JSON, but not an object")
    raw: Any = _decode_raw_fields(value)
    _check_timestamp(raw.timestamp)
    for name, decoder in sorted(_FIELDS, key=lambda field: field[0] != "outcome"):
        try:
            setattr(raw, name, decoder.decode(getattr(raw, name)))
        except msgspec.DecodeError as error:
            code = ReasonCode.outcome_invalid if name == "outcome" else ReasonCode.field_invalid
            raise Undecodable(code, f"{name}: {error}") from None
    return Event(**msgspec.structs.asdict(raw))


def _check_timestamp(raw: msgspec.Raw) -> None:
    if bytes(raw) == b"null":
        raise Undecodable(ReasonCode.timestamp_missing, "timestamp is absent or null")
    try:
        timestamp = msgspec.json.decode(raw, type=str | int | float)
    except msgspec.DecodeError as error:
        raise Undecodable(ReasonCode.timestamp_invalid, f"timestamp: {error}") from None
    event_second(timestamp)


def event_second(timestamp: str | float) -> int:
    """Seconds since the epoch, UTC, fractions cut; raises Undecodable when it is not a time.

    A string is RFC 3339 with any number of fraction digits; without an offset it is UTC. A number is epoch
    seconds as a double holds them. A leap second counts in the second before it, so it stays in its minute.
    """
    if isinstance(timestamp, str):
        if timestamp[19:20] == "." and timestamp[-1] == "Z" and timestamp.isascii() and timestamp[20:-1].isdigit():
            return _whole_second(timestamp[:19])
        return _parse(timestamp)
    try:
        float(timestamp)  # an integer beyond a double is as little finite as 1e400 is
        return floor(timestamp)
    except (OverflowError, ValueError):
        raise Undecodable(ReasonCode.timestamp_invalid, "timestamp: not a finite number") from None


@lru_cache(maxsize=1 << 16)
def _whole_second(text: str) -> int:
    return _parse(text + "Z")


_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))?"
)
_FOUR_CENTURIES_SECONDS: Final = 146_097 * 86_400


def _parse(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise Undecodable(ReasonCode.timestamp_invalid, "timestamp: not RFC 3339")
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    sign, offset_hours, offset_minutes = match.group(7), int(match[8] or 0), int(match[9] or 0)
    # The calendar repeats every 400 years; so the years 0000 and 9999 need no care at datetime's edges.
    centuries, year = divmod(year, 400)
    try:
        civil = datetime(2000 + year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError as error:
        raise Undecodable(ReasonCode.timestamp_invalid, f"timestamp: {error}") from None
    offset = timedelta(hours=offset_hours, minutes=offset_minutes)
    utc = civil + offset if sign == "-" else civil - offset
    if offset_hours > 23 or offset_minutes > 59 or second > 60 or (second == 60 and not _ends_a_month(utc)):
        raise Undecodable(ReasonCode.timestamp_invalid, "timestamp: no such offset or leap second")
    return int(utc.timestamp()) + (centuries - 5) * _FOUR_CENTURIES_SECONDS


def _ends_a_month(utc: datetime) -> bool:
    midnight = utc + timedelta(seconds=1)
    return (midnight.day, midnight.hour, midnight.minute, midnight.second) == (1, 0, 0, 0)


def bucket_of(event_second: int, kafka_timestamp_ms: int, limits: AgeLimits) -> tuple[int, bool]:
    """Start of the 10 s bucket an event counts in, and whether it counts at its Kafka timestamp instead of its own.

    It does when its own time is beyond the limits around the Kafka timestamp, compared in whole seconds. A record
    without a Kafka timestamp (-1) counts at its own time. What a DateTime cannot hold becomes the nearest it can.
    """
    second, moved = event_second, False
    if kafka_timestamp_ms >= 0:
        kafka_second = kafka_timestamp_ms // 1000
        age = kafka_second - event_second
        if age > limits.max_age_seconds or -age > limits.max_ahead_seconds:
            second, moved = kafka_second, True
    return min(max(second - second % BUCKET_SECONDS, 0), LAST_BUCKET), moved
