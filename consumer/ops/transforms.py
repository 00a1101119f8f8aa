"""Transforms of a dead letter's JSON for the usual mistakes of producers; pure, and never more than was asked for."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from orgstats.errors import ConfigurationError

Event = dict[str, Any]
Transform = Callable[[Event, int], None]
"""Changes an event in place; the number is the record's Kafka timestamp, epoch milliseconds."""

HOPS_HEADER: Final = "orgstats-hops"
ORIGIN_HEADER: Final = "orgstats-origin"
Headers = Sequence[tuple[str, bytes]]


def transforms_of(
    *,
    sets: Sequence[str] = (),
    defaults: Sequence[str] = (),
    renames: Sequence[str] = (),
    numbers: Sequence[str] = (),
    removes: Sequence[str] = (),
    timestamp_from_kafka: bool = False,
) -> list[Transform]:
    """Transforms from command line options, in this order: renames, removes, numbers, sets, defaults, the timestamp.

    `sets` and `defaults` are FIELD=JSON, `renames` OLD=NEW. Raises ConfigurationError naming what is none.
    """
    found: list[Transform] = [_rename(*_halves(text, "OLD=NEW")) for text in renames]
    found += [_remove(field) for field in removes]
    found += [_number(field) for field in numbers]
    found += [_set(*_assignment(text)) for text in sets]
    found += [_default(*_assignment(text)) for text in defaults]
    if timestamp_from_kafka:
        found.append(_timestamp_from_kafka)
    return found


def transform(payload: bytes, kafka_timestamp_ms: int, how: Sequence[Transform]) -> bytes | None:
    """The payload after all transforms; as it is when there are none; None when it is no JSON object."""
    if not how:
        return payload
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    for one in how:
        one(event, kafka_timestamp_ms)
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def origin_of(headers: Headers) -> tuple[int, int] | None:
    """(source_id, offset) of the dead letter that a record was redriven from."""
    for name, value in headers:
        source_id, _, offset = value.decode("ascii", "replace").partition("/")
        if name == ORIGIN_HEADER and source_id.isdecimal() and offset.isdecimal():
            return int(source_id), int(offset)
    return None


def hops_of(headers: Headers) -> int:
    """How often a record was redriven already."""
    hops = [value for name, value in headers if name == HOPS_HEADER]
    return int(hops[-1]) if hops and hops[-1].isdigit() else 0


def redriven_headers(headers: Headers, source_id: int, offset: int) -> list[tuple[str, bytes]]:
    """The record's headers with its origin and one hop more."""
    own = [(name, value) for name, value in headers if name not in (HOPS_HEADER, ORIGIN_HEADER)]
    origin = f"{source_id}/{offset}".encode()
    return [*own, (ORIGIN_HEADER, origin), (HOPS_HEADER, str(hops_of(headers) + 1).encode())]


def _rename(old: str, new: str) -> Transform:
    def change(event: Event, _kafka_ms: int) -> None:
        if old in event:
            event[new] = event.pop(old)

    return change


def _remove(field: str) -> Transform:
    return lambda event, _kafka_ms: event.pop(field, None)


def _number(field: str) -> Transform:
    """A number sent as text becomes a number; other text stays, and is refused by the decoder."""

    def change(event: Event, _kafka_ms: int) -> None:
        value = event.get(field)
        if isinstance(value, float) and value.is_integer():
            event[field] = int(value)
        elif isinstance(value, str):
            try:
                number = json.loads(value.strip())
            except ValueError:
                return
            if type(number) in (int, float):
                event[field] = number

    return change


def _set(field: str, value: Any) -> Transform:
    def change(event: Event, _kafka_ms: int) -> None:
        event[field] = value

    return change


def _default(field: str, value: Any) -> Transform:
    def change(event: Event, _kafka_ms: int) -> None:
        if event.get(field) is None:
            event[field] = value

    return change


def _timestamp_from_kafka(event: Event, kafka_ms: int) -> None:
    event["timestamp"] = kafka_ms / 1000


def _assignment(text: str) -> tuple[str, Any]:
    field, value = _halves(text, "FIELD=JSON")
    try:
        return field, json.loads(value)
    except ValueError as error:
        remedy = f'a text needs quotes: {field}="text"'
        raise ConfigurationError(f"{text!r}: {value!r} is not JSON ({error}); {remedy}") from None


def _halves(text: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals):
        raise ConfigurationError(f"{text!r} is not {form}")
    return left, right
