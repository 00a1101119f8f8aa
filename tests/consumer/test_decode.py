"""What becomes of a record's bytes: an event with its second and bucket, or a dead letter with a stable code."""

from typing import Any

import pytest

from orgstats.consumer.counting.decode import (
    MAX_DEPTH,
    MAX_RECORD_BYTES,
    AgeLimits,
    Undecodable,
    bucket_of,
    decode,
    event_second,
)
from orgstats.schemas.dead_letter_reasons import ReasonCode
from orgstats.schemas.event import Event
from orgstats.schemas.outcomes import LAST_BUCKET


def classification(value: bytes | None) -> tuple[str, str] | tuple[Event, int]:
    """The event and its second, or the code and the text of a dead letter."""
    try:
        event = decode(value)
        return event, event_second(event.timestamp)
    except Undecodable as dead:
        return dead.code.value, dead.text


def nested(levels: int) -> bytes:
    """An object whose ignored field makes it `levels` deep."""
    return b'{"timestamp":1,"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def long_record(length: int) -> bytes:
    """A record of exactly so many bytes."""
    return b'{"timestamp":1}'.rjust(length)


def test_every_field_arrives_as_it_was_written() -> None:
    """A record with every field decodes to an event that holds them unchanged."""
    value = (
        b'{"timestamp":"2020-03-21T21:00:00.123456Z","org_id":1,"project_id":2,"key_id":null,"outcome":2,'
        b'"reason":"r","event_id":"00","category":1,"quantity":9223372036854775807,"remote_addr":"10.0.0.1",'
        b'"user_agent":"u","release":"1.0","environment":"prod","error_message":"m","url":"http://x"}'
    )
    assert decode(value) == Event(
        timestamp="2020-03-21T21:00:00.123456Z",
        org_id=1,
        project_id=2,
        outcome=2,
        reason="r",
        category=1,
        quantity=2**63 - 1,
        remote_addr="10.0.0.1",
        user_agent="u",
        release="1.0",
        environment="prod",
        error_message="m",
        url="http://x",
    )


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b" ", "not_json"),
        (long_record(MAX_RECORD_BYTES + 1), "too_large"),
        (b"{" + b" " * MAX_RECORD_BYTES, "too_large"),
        (b'{"timestamp":1', "not_json"),
        (b'{"timestamp":1} x', "not_json"),
        (b'\xef\xbb\xbf{"timestamp":1}', "not_json"),
        (b'{"timestamp":NaN}', "not_json"),
        (b'{"timestamp":1,"x":Infinity}', "not_json"),
        (b'{"timestamp":1,"x":"\xff"}', "not_json"),
        (b'{"timestamp":1,"\xed\xa0\x80":1}', "not_json"),
        (b'{"timestamp":1,"x":"\\ud800"}', "not_json"),
        (b'{"timestamp":1,"x":"\\udc00\\ud800"}', "not_json"),
        (b'{"timestamp":1,"x":01}', "not_json"),
        (b'{"timestamp":1,"x":"a\nb"}', "not_json"),
        (nested(MAX_DEPTH + 1), "not_json"),
        (b"[" * 900, "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"org_id":"x"} x', "not_json"),
        (b"null", "not_an_object"),
        (b"[1]", "not_an_object"),
        (b'{"org_id":"x"}', "timestamp_missing"),
        (b'{"timestamp":null,"outcome":256}', "timestamp_missing"),
        (b'{"timestamp":true}', "timestamp_invalid"),
        (b'{"timestamp":{}}', "timestamp_invalid"),
        (b'{"timestamp":"","outcome":256}', "timestamp_invalid"),
        (b'{"timestamp":1e400}', "timestamp_invalid"),
        (b'{"timestamp":1' + b"0" * 309 + b"}", "timestamp_invalid"),
        (b'{"timestamp":1' + b"0" * 5000 + b"}", "timestamp_invalid"),
        (b'{"timestamp":1,"outcome":256,"org_id":-1}', "outcome_invalid"),
        (b'{"timestamp":1,"outcome":"1"}', "outcome_invalid"),
        (b'{"timestamp":1,"outcome":false}', "outcome_invalid"),
        (b'{"timestamp":1,"org_id":1.0}', "field_invalid"),
        (b'{"timestamp":1,"org_id":"1"}', "field_invalid"),
        (b'{"timestamp":1,"org_id":true}', "field_invalid"),
        (b'{"timestamp":1,"key_id":-1}', "field_invalid"),
        (b'{"timestamp":1,"quantity":9223372036854775808}', "field_invalid"),
        (b'{"timestamp":1,"quantity":1' + b"0" * 5000 + b"}", "field_invalid"),
        (b'{"timestamp":1,"category":256}', "field_invalid"),
        (b'{"timestamp":1,"reason":5}', "field_invalid"),
        (b'{"timestamp":1,"remote_addr":[]}', "field_invalid"),
    ],
)
def test_the_first_fault_names_the_code(value: bytes | None, code: str) -> None:
    """A record that cannot be counted is a dead letter with the code of its first fault."""
    assert classification(value)[0] == code


@pytest.mark.parametrize("field", ["org_id", "project_id", "category", "reason", "url"])
def test_an_invalid_field_is_named(field: str) -> None:
    """The text of `field_invalid` begins with the field's name and holds nothing of the payload."""
    text = classification(b'{"timestamp":1,"%s":{"secret":1}}' % field.encode())[1]
    assert str(text).startswith(f"{field}: ")
    assert "secret" not in str(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b' \t\r\n{"timestamp":1}\n', Event(1)),
        (b'{"timestamp":2,"event_id":[{}],"extra":{"timestamp":null}}', Event(2)),
        (b'{"timestamp":1,"x":1e999,"y":-0}', Event(1)),
        (b'{"timestamp":1,"org_id":-0}', Event(1, org_id=0)),
        (b'{"timest\\u0061mp":1}', Event(1)),
        (b'{"timestamp":1,"reason":"\\ud83d\\ude00"}', Event(1, reason="\U0001f600")),
        (b'{"timestamp":1,"reason":"\xc3\xa9\\u0000"}', Event(1, reason="\u00e9\0")),
        (nested(MAX_DEPTH), Event(1)),
        (long_record(MAX_RECORD_BYTES), Event(1)),
        (b'{"timestamp":1,"x":"' + b"[" * 5000 + b'"}', Event(1)),
        (b'{"timestamp":1,"x":"\\"' + b"{" * 5000 + b'"}', Event(1)),
        (b'{"timestamp":1,"x":[' + b"[]," * 5000 + b"1]}", Event(1)),
    ],
)
def test_odd_but_valid_records_are_events(value: bytes, expected: Event) -> None:
    """JSON that looks odd but keeps the contract is an event."""
    assert classification(value) == (expected, expected.timestamp)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"timestamp":1,"timestamp":2}', Event(2)),
        (b'{"timestamp":null,"timestamp":2}', Event(2)),
        (b'{"timestamp":1,"org_id":"x","org_id":2}', Event(1, org_id=2)),
        (b'{"timestamp":1,"outcome":256,"outcome":null}', Event(1)),
    ],
)
def test_of_a_field_that_stands_twice_the_last_one_counts(value: bytes, expected: Event) -> None:
    """A later value of the same field replaces an earlier one, also when that was invalid."""
    assert decode(value) == expected


@pytest.mark.parametrize(
    ("timestamp", "second"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2020-01-01T00:00:09.9999999Z", 1577836809),
        ("2020-01-01T00:00:09." + "9" * 1000 + "Z", 1577836809),
        ("1969-12-31T23:59:59.5Z", -1),
        ("2020-01-01T00:00:09", 1577836809),
        ("2020-01-01T00:00:09.5", 1577836809),
        ("2020-01-01t00:00:09z", 1577836809),
        ("2020-01-01 00:00:09.1Z", 1577836809),
        ("2020-01-01T05:30:00+05:30", 1577836800),
        ("2019-12-31T18:30:00.25-05:30", 1577836800),
        ("2020-01-01T00:00:00-00:00", 1577836800),
        ("2000-02-29T00:00:00Z", 951782400),
        ("0000-01-01T00:00:00Z", -62167219200),
        ("0001-01-01T00:00:00+10:00", -62135632800),
        ("9999-12-31T23:59:59-23:59", 253402387139),
        ("2016-12-31T23:59:60Z", 1483228799),
        ("2016-12-31T23:59:60.999Z", 1483228799),
        ("2017-01-01T05:29:60+05:30", 1483228799),
        (0, 0),
        (-1, -1),
        (1.999, 1),
        (-0.001, -1),
        (1e300, int(1e300)),
        (2**64 + 1, 2**64 + 1),
    ],
)
def test_fractions_are_cut_and_offsets_applied(timestamp: str | float, second: int) -> None:
    """The second of an event is the UTC second its timestamp lies in, never rounded."""
    assert event_second(timestamp) == second


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "2020-01-01",
        "2020-01-01T00:00Z",
        "2020-01-01T00:00:00.Z",
        "2020-01-01T00:00:00,5Z",
        "2020-01-01T00:00:00.5ZZ",
        "2020-01-01T00:00:00.5 Z",
        "2020-01-01T00:00:00.\u0663Z",
        "2020-01-01T00:00:00.\u00b2Z",
        "\u0662020-01-01T00:00:00.5Z",
        " 2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00Z\n",
        "2020-01-01T00:00:00+0530",
        "2020-01-01T00:00:00+05",
        "2020-01-01T00:00:00+24:00",
        "2020-01-01T00:00:00+05:60",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T00:00:60Z",
        "2020-01-01T00:00:60.5Z",
        "2016-12-31T23:59:61Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2021-02-29T00:00:00Z",
        "2021-13-01T00:00:00Z",
        "2021-00-01T00:00:00Z",
        "12021-01-01T00:00:00Z",
        "1584824400",
        "NaN",
        float("nan"),
        float("inf"),
        10**309,
    ],
)
def test_anything_else_is_no_time(timestamp: Any) -> None:
    """What is neither RFC 3339 nor a finite number is `timestamp_invalid`."""
    with pytest.raises(Undecodable) as dead:
        event_second(timestamp)
    assert dead.value.code == ReasonCode.timestamp_invalid


LIMITS = AgeLimits(max_age_seconds=1000, max_ahead_seconds=60)


@pytest.mark.parametrize(
    ("second", "kafka_ms", "expected"),
    [
        (1584824409, 1584824409_000, (1584824400, False)),
        (100_000, 101_000_999, (100_000, False)),
        (99_999, 101_000_000, (101_000, True)),
        (100_060, 100_000_000, (100_060, False)),
        (100_061, 100_000_999, (100_000, True)),
        (10**30, 100_019_000, (100_010, True)),
        (-5, 100_019_000, (100_010, True)),
        (-5, 3_000, (0, False)),
        (5_000, 0, (0, True)),
        (1584824409, -1, (1584824400, False)),
        (-1, -1, (0, False)),
        (2**32 - 1, -1, (LAST_BUCKET, False)),
        (2**32 + 4, -1, (LAST_BUCKET, False)),
        (2**34, (2**34 + 2000) * 1000, (LAST_BUCKET, True)),
        (5, (2**32 + 4) * 1000, (LAST_BUCKET, True)),
    ],
)
def test_a_time_far_from_the_truth_counts_at_the_kafka_timestamp(
    second: int, kafka_ms: int, expected: tuple[int, bool]
) -> None:
    """An event counts in its own 10 s within the limits, else in those of Kafka's time, as DateTime holds them."""
    assert bucket_of(second, kafka_ms, LIMITS) == expected
