"""What a topic's counts must be: read once from first to last, classified by the plain words of the design.

Independent on purpose: nothing from consumer/ or schemas/ is imported, plain json and datetime do the work, and
clarity goes before speed. `python -m tests.support.oracle --bootstrap ... --topic ...` prints JSON lines.
"""

import argparse
import json
import math
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

CHUNK: Final = int(os.environ.get("ORGSTATS_CHUNK_LENGTH", str(1 << 17)))
ACCEPTED, FILTERED, RATE_LIMITED = 0, 1, 2
SHOWN_CATEGORIES: Final = (0, 1, 3)
SUMMED_OUTCOMES: Final = {
    "received": (ACCEPTED, FILTERED, RATE_LIMITED),
    "rejected": (RATE_LIMITED,),
    "blacklisted": (FILTERED,),
}


class Record(NamedTuple):
    """One record as Kafka holds it."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


class Cell(NamedTuple):
    """What is counted together."""

    org_id: int
    bucket: int
    project_id: int
    key_id: int
    category: int
    outcome: int
    reason: str


class Total(NamedTuple):
    """What the endpoint shows together; a width of 10 or 3600 seconds."""

    org_id: int
    width: int
    bucket: int


Classify = Callable[[dict[str, Any], int], tuple[int, str]]
"""From an event without an outcome and its Kafka timestamp to an outcome and a reason."""


def accept_all(_event: dict[str, Any], _kafka_ms: int) -> tuple[int, str]:
    """The classification when no rules are published."""
    return ACCEPTED, ""


class Dead(Exception):
    """The record is a dead letter; the argument is its reason code."""


@dataclass
class Truth:
    """Everything that the stored counts are compared with."""

    quantity: Counter[Cell] = field(default_factory=Counter)
    events: Counter[Cell] = field(default_factory=Counter)
    dead_letters: set[tuple[int, int, str]] = field(default_factory=set)
    """(partition, offset, reason code)."""
    at_kafka_time: int = 0
    """Events whose own time was out of bounds."""
    end: dict[int, int] = field(default_factory=dict)
    """Of each partition the offset after the last record."""

    def counts(self) -> dict[Cell, tuple[int, int]]:
        """(quantity, events) of each cell of `counts`."""
        return {cell: (self.quantity[cell], events) for cell, events in self.events.items()}

    def hourly(self) -> dict[Cell, tuple[int, int]]:
        """The same of each cell of `hourly`, which is of all keys: of key 0 here."""
        quantity: Counter[Cell] = Counter()
        events: Counter[Cell] = Counter()
        for cell in self.events:
            hour = cell._replace(bucket=cell.bucket // 3600 * 3600, key_id=0)
            quantity[hour] += self.quantity[cell]
            events[hour] += self.events[cell]
        return {hour: (quantity[hour], events[hour]) for hour in events}

    def totals(self) -> dict[Total, tuple[int, int, int]]:
        """(accepted, filtered, rate limited) of each cell of `totals` that is not zero."""
        sums: defaultdict[Total, list[int]] = defaultdict(lambda: [0, 0, 0])
        for cell, quantity in self.quantity.items():
            if cell.category in SHOWN_CATEGORIES and cell.outcome in SUMMED_OUTCOMES["received"]:
                for width in (10, 3600):
                    sums[Total(cell.org_id, width, cell.bucket // width * width)][cell.outcome] += quantity
        return {total: (found[0], found[1], found[2]) for total, found in sums.items() if any(found)}

    def series(self, org_id: int, stat: str, since: float, until: float, width: int) -> list[tuple[int, int]]:
        """The points of the stats endpoint: backwards from `until` while not before `since`."""
        sums: Counter[int] = Counter()
        for cell, quantity in self.quantity.items():
            shown = cell.category in SHOWN_CATEGORIES and cell.outcome in SUMMED_OUTCOMES[stat]
            if cell.org_id == org_id and shown:
                sums[cell.bucket // width * width] += quantity
        starts = []
        at = until
        while at >= since:
            starts.append(int(at // width) * width)
            at -= width
        return [(start, sums[start]) for start in reversed(starts)]


def count(
    records: Iterable[Record],
    classify: Classify = accept_all,
    *,
    max_age_seconds: int = 90 * 86_400,
    max_ahead_seconds: int = 600,
    projects: bool = True,
) -> Truth:
    """Count records, which must come in offset order within their partition; without `projects` both ids are 0."""
    truth = Truth()
    reasons: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for record in records:
        truth.end[record.partition] = record.offset + 1
        try:
            event, second = parse(record.value)
        except Dead as dead:
            truth.dead_letters.add((record.partition, record.offset, str(dead)))
            continue
        bucket = second
        if record.timestamp_ms >= 0:
            kafka_second = record.timestamp_ms // 1000
            if not kafka_second - max_age_seconds <= second <= kafka_second + max_ahead_seconds:
                bucket = kafka_second
                truth.at_kafka_time += 1
        bucket = min(max(bucket // 10 * 10, 0), 4_294_967_290)
        outcome, reason = event["outcome"], event["reason"]
        if outcome is None:
            outcome, reason = classify(event, record.timestamp_ms)
        reason = (reason or "")[:64]
        seen = reasons[record.partition, record.offset // CHUNK]
        if reason and reason not in seen:
            if len(seen) < 1000:
                seen.add(reason)
            else:
                reason = "other"
        org_id = event["org_id"] or 0
        category = 1 if event["category"] is None else event["category"]
        quantity = 1 if event["quantity"] is None else event["quantity"]
        project_id = (event["project_id"] or 0) if projects else 0
        key_id = (event["key_id"] or 0) if projects else 0
        cell = Cell(org_id, bucket, project_id, key_id, category, outcome, reason)
        truth.quantity[cell] += quantity
        truth.events[cell] += 1
    return truth


_LIMITS: Final = {
    "org_id": 2**63 - 1,
    "project_id": 2**63 - 1,
    "key_id": 2**63 - 1,
    "category": 255,
    "quantity": 2**63 - 1,
}
_TEXTS: Final = ("reason", "remote_addr", "user_agent", "release", "environment", "error_message", "url")


def parse(value: bytes | None) -> tuple[dict[str, Any], int]:
    """The known fields of an event (None when absent) and its second; raises Dead."""
    if not value:
        raise Dead("empty")
    if len(value) > 1024 * 1024:
        raise Dead("too_large")
    found = _json(value)
    if not isinstance(found, dict):
        raise Dead("not_an_object")
    if found.get("timestamp") is None:
        raise Dead("timestamp_missing")
    second = _second(found["timestamp"])
    outcome = found.get("outcome")
    if outcome is not None and not _whole(outcome, 255):
        raise Dead("outcome_invalid")
    event = {name: found.get(name) for name in ("outcome", *_LIMITS, *_TEXTS)}
    for name, limit in _LIMITS.items():
        if event[name] is not None and not _whole(event[name], limit):
            raise Dead("field_invalid")
    for name in _TEXTS:
        if event[name] is not None and not isinstance(event[name], str):
            raise Dead("field_invalid")
    return event, second


def _whole(value: object, limit: int) -> bool:
    return type(value) is int and 0 <= value <= limit


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    """Digits beyond any range we know need not be exact, and Python refuses thousands of them."""
    return int(digits) if len(digits) < 300 else float(digits)


_DECODER: Final = json.JSONDecoder(parse_constant=_constant, parse_int=_integer)


def _json(value: bytes) -> object:
    try:
        text = value.decode("utf-8")
        if _depth(text) > 500 or _has_half_a_surrogate_pair(text):
            raise Dead("not_json")
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise Dead("not_json") from None


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= 500:
        return 0
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _has_half_a_surrogate_pair(text: str) -> bool:
    if "\\u" not in text:
        return False
    escapes = re.sub(r"\\[^u]", " ", text)  # also takes the \\ of a "\\ud800" that is no escape
    paired = re.sub(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}", "", escapes)
    return re.search(r"\\u[dD][89a-fA-F]", paired) is not None


_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FOUR_CENTURIES: Final = timedelta(days=146_097)


def _second(timestamp: object) -> int:
    """Epoch seconds, fractions cut; raises Dead."""
    if isinstance(timestamp, str):
        return _second_of_text(timestamp)
    if type(timestamp) is int or (isinstance(timestamp, float) and math.isfinite(timestamp)):
        return math.floor(timestamp)
    raise Dead("timestamp_invalid")


def _second_of_text(text: str) -> int:
    match = _TIME.fullmatch(text)
    if not match:
        raise Dead("timestamp_invalid")
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    offset = timedelta(hours=int(match[8] or 0), minutes=int(match[9] or 0))
    if int(match[8] or 0) > 23 or int(match[9] or 0) > 59 or second > 60:
        raise Dead("timestamp_invalid")
    try:  # years 0 and 9999 with an offset leave datetime's range, so count in a later or earlier 400 years
        local = datetime(year % 400 + 2000, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        raise Dead("timestamp_invalid") from None
    instant = local + offset if match[7] == "-" else local - offset
    if second == 60:  # a leap second: only ever the last one of a month in UTC, counted with the one before it
        after = instant + timedelta(seconds=1)
        if after.day != 1 or after.hour or after.minute or after.second:
            raise Dead("timestamp_invalid")
    return (instant - _EPOCH + (year // 400 - 5) * _FOUR_CENTURIES) // timedelta(seconds=1)


def read(bootstrap_servers: str, topic: str) -> Iterable[Record]:
    """Every record of a topic that is there now, committed ones only, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "orgstats-oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "check.crcs": True,
        }
    )
    try:
        for partition in sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions):
            low, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            consumer.assign([TopicPartition(topic, partition, low)])
            yield from _until_the_end(consumer, partition)
    finally:
        consumer.close()


def _until_the_end(consumer: Consumer, partition: int) -> Iterable[Record]:
    silent_since = time.monotonic()
    while time.monotonic() - silent_since < 30:
        for message in consumer.consume(10_000, 0.05):  # it waits for so many, also past the end
            silent_since = time.monotonic()
            error = message.error()
            if error is None:
                offset = message.offset()
                if offset is not None:
                    yield Record(partition, offset, message.timestamp()[1], message.value())
            elif error.code() == KafkaError._PARTITION_EOF:
                return
            else:
                raise RuntimeError(str(error))
    raise TimeoutError("the broker sent nothing for 30 s")


def main() -> None:
    """Print the truth of a topic as JSON lines: cells, dead letters, then the ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    arguments = parser.parse_args()
    truth = count(read(arguments.bootstrap, arguments.topic))
    for cell in sorted(truth.quantity):
        line = {**cell._asdict(), "quantity": truth.quantity[cell], "events": truth.events[cell]}
        print(json.dumps({"cell": line}))
    for partition, offset, code in sorted(truth.dead_letters):
        print(json.dumps({"dead_letter": {"partition": partition, "offset": offset, "code": code}}))
    print(json.dumps({"end": truth.end, "at_kafka_time": truth.at_kafka_time}))


if __name__ == "__main__":
    main()
