"""What holds for every record and every time, found by hypothesis."""

import json
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting.decode import AgeLimits, Undecodable, bucket_of, decode, event_second
from orgstats.schemas.event import Event
from orgstats.schemas.outcomes import LAST_BUCKET

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59)
texts = st.text(st.characters(codec="utf-8"), max_size=80)
ids = st.none() | st.integers(0, 2**63 - 1)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
events = st.builds(
    Event,
    timestamp=st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    org_id=ids,
    project_id=ids,
    key_id=ids,
    outcome=st.none() | st.integers(0, 255),
    category=st.none() | st.integers(0, 255),
    quantity=ids,
    **dict.fromkeys(
        ("reason", "remote_addr", "user_agent", "release", "environment", "error_message", "url"), st.none() | texts
    ),
)


def as_dict(event: Event) -> dict[str, Any]:
    """The fields of an event by name."""
    return {name: getattr(event, name) for name in event.__struct_fields__}


@given(events, st.dictionaries(texts, json_values, max_size=3), st.booleans(), st.randoms())
def test_an_event_comes_back_however_it_is_written(
    event: Event, extra: dict[str, Any], only_ascii: bool, rng: Any
) -> None:
    """Order of fields, blanks, escapes and unknown fields change nothing."""
    pairs = list((extra | as_dict(event)).items())
    rng.shuffle(pairs)
    text = json.dumps(dict(pairs), ensure_ascii=only_ascii, indent=rng.choice([None, 1]))
    assert decode(text.encode()) == event


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_but_a_dead_letter(value: bytes) -> None:
    """Whatever a producer sends is an event or a dead letter, and the same one again."""
    found = []
    for _ in range(2):
        try:
            event = decode(value)
            found.append((event, event_second(event.timestamp)))
        except Undecodable as dead:
            found.append((dead.code, dead.text))  # type: ignore[arg-type]
    assert found[0] == found[1]


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28)),  # noqa: DTZ001 - the zone is drawn beside
    offsets,
    st.text("0123456789", max_size=40),
    st.sampled_from("Tt "),
)
def test_a_time_is_the_second_it_lies_in(local: datetime, offset: int, digits: str, between: str) -> None:
    """For any time, offset and number of digits the second is exact and cut."""
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    whole = local.replace(microsecond=0)
    fraction = f".{digits}" if digits else ""
    text = f"{whole.isoformat(between)}{fraction}{sign}{hours:02}:{minutes:02}"
    instant = whole.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert event_second(text) == (instant - EPOCH) // timedelta(seconds=1)


@given(st.integers(-(10**12), 10**12), st.integers(0, 10**9 - 1))
def test_numbers_are_cut_towards_the_past(second: int, nanoseconds: int) -> None:
    """A number is floored as the double that it is, before 1970 too."""
    number = float(Fraction(second) + Fraction(nanoseconds, 10**9))
    assert event_second(number) == Fraction(number).__floor__()
    assert event_second(second) == second


@given(
    st.integers(-(2**40), 2**40),
    st.just(-1) | st.integers(0, 2**53),
    st.integers(0, 2**33),
    st.integers(0, 2**33),
)
def test_a_bucket_is_always_one_that_can_be_stored(second: int, kafka_ms: int, age: int, ahead: int) -> None:
    """Every bucket is a multiple of 10 within DateTime, holds the event's second unless that is out of bounds."""
    bucket, moved = bucket_of(second, kafka_ms, AgeLimits(age, ahead))
    assert bucket % 10 == 0
    assert 0 <= bucket <= LAST_BUCKET
    assert moved == (kafka_ms >= 0 and not -age <= second - kafka_ms // 1000 <= ahead)
    counted = kafka_ms // 1000 if moved else second
    assert bucket <= counted < bucket + 10 or not 0 <= counted < LAST_BUCKET
