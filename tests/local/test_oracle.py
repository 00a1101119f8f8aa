"""The oracle against counts made by hand, and against the real decoder on odd values."""

import json
from typing import Any

import pytest

from orgstats.consumer.counting.decode import Undecodable, decode, event_second
from tests.support.oracle import CHUNK, Cell, Dead, Record, Total, count, parse

DAY = 1_584_835_200  # 2020-03-22T00:00:00Z


def record(offset: int, partition: int = 0, kafka_second: int = DAY, **event: Any) -> Record:
    """A record whose event time is its Kafka time, unless said otherwise."""
    return Record(partition, offset, kafka_second * 1000, json.dumps({"timestamp": kafka_second, **event}).encode())


def test_events_of_one_key_add_up() -> None:
    """Quantity sums, events count, absent fields take their defaults."""
    truth = count([record(0, org_id=7), record(1, org_id=7, quantity=5), record(2, org_id=7, outcome=2, reason="r")])
    assert truth.quantity == {Cell(7, DAY, 0, 0, 1, 0, ""): 6, Cell(7, DAY, 0, 0, 1, 2, "r"): 1}
    assert truth.events[Cell(7, DAY, 0, 0, 1, 0, "")] == 2


def test_a_cell_is_of_a_project_and_a_key_an_hour_and_its_totals() -> None:
    """The three tables of one record each of two projects, one with a key, of categories that are shown or not."""
    events: list[dict[str, Any]] = [{"project_id": 5, "key_id": 9}, {"project_id": 6, "outcome": 2}, {"category": 2}]
    truth = count(record(n, kafka_second=DAY + 3690, org_id=7, **event) for n, event in enumerate(events))
    assert truth.counts() == {
        Cell(7, DAY + 3690, 5, 9, 1, 0, ""): (1, 1),
        Cell(7, DAY + 3690, 6, 0, 1, 2, ""): (1, 1),
        Cell(7, DAY + 3690, 0, 0, 2, 0, ""): (1, 1),
    }
    assert truth.hourly() == {
        cell._replace(bucket=DAY + 3600, key_id=0): found for cell, found in truth.counts().items()
    }
    assert truth.totals() == {Total(7, 10, DAY + 3690): (1, 0, 1), Total(7, 3600, DAY + 3600): (1, 0, 1)}
    without = count([record(0, project_id=5, key_id=9)], projects=False).quantity
    assert {(cell.project_id, cell.key_id) for cell in without} == {(0, 0)}


def test_a_far_event_counts_at_its_kafka_time() -> None:
    """91 days early or 601 s late is out of bounds; 600 s ahead is not."""
    times = [DAY - 91 * 86_400, DAY + 601, DAY + 600]
    truth = count(record(n, timestamp=time) for n, time in enumerate(times))
    assert {cell.bucket: quantity for cell, quantity in truth.quantity.items()} == {DAY: 2, DAY + 600: 1}
    assert truth.at_kafka_time == 2


def test_a_chunk_keeps_a_thousand_reasons() -> None:
    """Later reasons become `other`; the next chunk starts anew; the empty reason is not one of them."""
    records = [record(n, outcome=1, reason=f"reason {n}" if n else "") for n in range(1003)]
    records.append(record(CHUNK, outcome=1, reason="fresh"))
    reasons = {cell.reason: quantity for cell, quantity in count(records).quantity.items()}
    assert reasons["other"] == 2
    assert reasons["fresh"] == reasons["reason 1000"] == reasons[""] == 1
    assert "reason 1001" not in reasons


def test_the_series_goes_backwards_from_until() -> None:
    """The last bucket holds `until`; only shown categories and summed outcomes count."""
    events = [{"outcome": 0}, {"outcome": 1}, {"outcome": 2}, {"outcome": 3}, {"outcome": 0, "category": 2}]
    truth = count(record(n, org_id=1, **event) for n, event in enumerate(events))
    assert truth.series(1, "received", DAY - 3599, DAY + 5, 3600) == [(DAY - 3600, 0), (DAY, 3)]
    assert truth.series(1, "rejected", DAY, DAY, 10) == [(DAY, 1)]


ODD = [
    None,
    b"",
    b" " * (1024 * 1024 + 1),
    b"{" + b" " * (1024 * 1024) + b"}",
    b"{",
    b"\xff",
    b"\xef\xbb\xbf{}",
    b"[]",
    b"null",
    b"{}",
    b'{"timestamp": null}',
    b'{"timestamp": 1e400}',
    b'{"timestamp": ' + b"9" * 400 + b"}",
    b'{"timestamp": NaN}',
    b'{"timestamp": true}',
    b'{"timestamp": -1.5}',
    b'{"timestamp": "2020-03-22T00:00:09.9999999Z"}',
    b'{"timestamp": "2020-03-22t00:00:09z"}',
    b'{"timestamp": "2020-03-22 00:00:09"}',
    b'{"timestamp": "2016-12-31T23:59:60Z"}',
    b'{"timestamp": "2016-12-31T22:59:60Z"}',
    b'{"timestamp": "2017-01-01T00:59:60+01:00"}',
    b'{"timestamp": "0000-01-01T00:00:00+23:59"}',
    b'{"timestamp": "9999-12-31T23:59:59-23:59"}',
    b'{"timestamp": "2020-03-22T00:00:09+24:00"}',
    b'{"timestamp": "2020-02-30T00:00:09Z"}',
    b'{"timestamp": 1, "outcome": 7}',
    b'{"timestamp": 1, "outcome": "accepted", "org_id": -1}',
    b'{"timestamp": 1, "outcome": 1.0}',
    b'{"timestamp": 1, "org_id": 9223372036854775807}',
    b'{"timestamp": 1, "org_id": 9223372036854775808}',
    b'{"timestamp": 1, "quantity": 1.0}',
    b'{"timestamp": 1, "quantity": -0}',
    b'{"timestamp": 1, "category": 256}',
    b'{"timestamp": 1, "reason": 5}',
    b'{"timestamp": 1, "release": []}',
    b'{"timestamp": 1, "quantity": "x", "quantity": 3}',
    b'{"timestamp": 1, "reason": "\\ud800"}',
    b'{"timestamp": 1, "other": "\\ud83d\\n\\ude00"}',
    b'{"timestamp": 1, "other": "\\\\ud800"}',
    b'{"timestamp": 1, "other": "\\ud83d\\ude00"}',
    b'{"timestamp": 1, "other": ' + b"[" * 499 + b"]" * 499 + b"}",
    b'{"timestamp": 1, "other": ' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"timestamp": 1, "other": "' + b"[" * 600 + b'"}',
    b'{"timestamp": 1} x',
    b'{"timestamp": 1, "a": 01}',
]


def by_oracle(value: bytes | None) -> str | tuple[Any, ...]:
    """The reason code, or what is counted."""
    try:
        event, second = parse(value)
    except Dead as dead:
        return str(dead)
    return (second, *(event[name] or 0 for name in ("org_id", "project_id", "outcome", "quantity", "reason")))


def by_decoder(value: bytes | None) -> str | tuple[Any, ...]:
    """The same from the code under test."""
    try:
        event = decode(value)
        second = event_second(event.timestamp)
    except Undecodable as dead:
        return str(dead.code)
    return (second, *(getattr(event, name) or 0 for name in ("org_id", "project_id", "outcome", "quantity", "reason")))


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_the_decoder_agrees(value: bytes | None) -> None:
    """Same reason code, or the same event."""
    assert by_decoder(value) == by_oracle(value)
