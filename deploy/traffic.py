"""Made-up outcomes traffic that looks like the real thing: the same seed and slots give the same records.

Pure: no clock, no client. `deploy/generate.py` sends it; tests and benchmarks read it as it is.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate, cycle
from random import Random
from typing import Any, Final, NamedTuple

Record = tuple[bytes | None, bytes | None, int]
"""Key, value and Kafka timestamp in milliseconds; a plain tuple, because it is made a million times."""


class Slot(NamedTuple):
    """So many records, evenly spread over [start, start + length)."""

    start_ms: int
    length_ms: int
    records: int


@dataclass(frozen=True)
class Mix:
    """What the traffic is made of; the shares are of all records."""

    organizations: int = 1000
    broken: float = 0.001
    raw: float = 0.15
    """Events that nobody has classified yet."""
    late: float = 0.01
    """Events that are minutes or hours older than their record."""
    astray: float = 0.0002
    """Events so far from their record's time that they count there instead."""
    spelled: float = 1 / 6
    """Share of the others whose timestamp is not spelled as Relay spells it."""
    keyed: bool = True
    """Whether the organization is the record's key, and so decides the partition."""


OUTCOMES: Final = {
    0: (0.825, (None,)),
    1: (0.06, ("browser-extensions", "legacy-browsers", "localhost", "web-crawlers", "ip-address", "release-version")),
    2: (0.07, ("key_quota", "project_quota", "org_quota", "usage_exceeded", "project_abuse_limit")),
    3: (0.025, ("duplicate", "cors", "invalid_json", "too_large", "project_id", "a " + "very " * 14 + "long")),
    4: (0.003, ("bad_actor",)),
    5: (0.015, ("queue_overflow", "network_error", "sample_rate", "before_send", "ratelimit_backoff")),
    6: (0.002, ("transactions_org_limit", "metrics_org_limit")),
}  # fmt: skip
"""Share and reasons of each outcome among classified events."""

CATEGORIES: Final = {1: 0.72, 0: 0.05, 3: 0.03, 2: 0.14, 4: 0.03, 5: 0.03}
"""Share of each category; attachments (4) count bytes, sessions (5) come in bundles."""

USER_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko",
    "Mozilla/5.0 (compatible; Googlebot/2.1)",
    "sentry.python/2.18.0",
    "sentry.javascript.browser/8.40.0",
)
ERROR_MESSAGES: Final = (
    "TypeError: undefined is not a function",
    "ResizeObserver loop limit exceeded",
    "ConnectionError: the peer has closed the connection",
    "KeyError: 'straße'",
)

BROKEN: Final[dict[str, tuple[bytes | None, ...]]] = {
    "not_json": (b'{"timestamp": 17', b"\xff\xfe{}", b'{"timestamp": NaN}', b"hello"),
    "not_an_object": (b"[1, 2]", b'"text"', b"null"),
    "timestamp_missing": (b'{"org_id": 1, "outcome": 0}', b'{"timestamp": null, "org_id": 1}'),
    "timestamp_invalid": (b'{"timestamp": "soon"}', b'{"timestamp": "2020-13-01T00:00:00Z"}', b'{"timestamp": true}'),
    "outcome_invalid": (b'{"timestamp": 1584824400, "org_id": 1, "outcome": 256}',),
    "field_invalid": (
        b'{"timestamp": 1584824400, "org_id": -1}',
        b'{"timestamp": 1584824400, "quantity": 1.5}',
        b'{"timestamp": 1584824400, "category": 256}',
        b'{"timestamp": 1584824400, "project_id": "abc"}',
    ),
    "empty": (None, b""),
    "too_large": (b'{"timestamp": 1584824400, "url": "' + b"x" * (1 << 20) + b'"}',),
}  # fmt: skip
"""Records that cannot be counted, by the reason code that they are dead letters for."""


def day_and_night(count: int, since_seconds: float, until_seconds: float) -> Iterator[Slot]:
    """`count` records over a range of time in order, four times as many at 16:00 UTC as at 04:00.

    Raises ValueError when the range is empty.
    """
    if until_seconds <= since_seconds:
        raise ValueError("the range of time is empty: since must be before until")
    return _curve(count, since_seconds, until_seconds)


def daily_seconds(at: float) -> float:
    """Epoch seconds, as long by day as there is more traffic: differences are what a rate by day and night is times."""
    day, swing = 86_400.0, 0.6
    return at - swing * day / math.tau * math.sin((at - 4 * 3600) % day * math.tau / day)


def _curve(count: int, since_seconds: float, until_seconds: float) -> Iterator[Slot]:
    span = until_seconds - since_seconds
    whole = daily_seconds(until_seconds) - daily_seconds(since_seconds)
    steps = max(1, math.ceil(span / min(max(span * 50 / max(count, 1), 1.0), 600.0)))
    done = 0
    for step in range(steps):
        start, end = since_seconds + span * step / steps, since_seconds + span * (step + 1) / steps
        reached = round(count * (daily_seconds(end) - daily_seconds(since_seconds)) / whole)
        if reached > done:
            start_ms = int(start * 1000)
            yield Slot(start_ms, max(1, int(end * 1000) - start_ms), reached - done)
        done = reached


class _Spelling(NamedTuple):
    """A way to write an event's time: its offset from UTC, what stands before the clock time and after."""

    offset_minutes: int
    separator: bytes
    fraction: bool
    suffix: bytes


_USUAL: Final = _Spelling(0, b"T", fraction=True, suffix=b"Z")
_SPELLINGS: Final = (
    _Spelling(0, b"T", fraction=False, suffix=b"Z"),
    _Spelling(0, b"T", fraction=True, suffix=b"+00:00"),
    _Spelling(0, b"T", fraction=True, suffix=b"987Z"),
    _Spelling(0, b"T", fraction=True, suffix=b""),
    _Spelling(0, b" ", fraction=True, suffix=b"z"),
    _Spelling(120, b"T", fraction=False, suffix=b"+02:00"),
    _Spelling(-210, b"T", fraction=True, suffix=b"-03:30"),
)
_Lag = Callable[[Random], float]


class _Unusual(NamedTuple):
    """What is not usual about a record: its spelling (None: a number), its lag, or that it is broken."""

    spelling: _Spelling | None = _USUAL
    lag: _Lag | None = None
    broken: bool = False


_Template = tuple[bytes | None, bytes, _Unusual | None]
"""All of a record but its time and id: the key, what follows the id, and what is unusual."""


def records(seed: int, slots: Iterable[Slot], mix: Mix = Mix()) -> Iterator[Record]:
    """The records of the slots, one after the other, about half a million a second."""
    random = Random(seed)  # noqa: S311 - this is no secret
    pool = _pool(random, mix)
    broken = cycle(_broken_values())
    fractions = [b"%06d" % random.randrange(1_000_000) for _ in range(_IDS)]
    ids = [b'"event_id":"%b"' % random.randbytes(16).hex().encode() for _ in range(_IDS)]
    middles = [b'%bZ",%b' % pair for pair in zip(fractions, ids, strict=True)]
    turn = 0
    for start_ms, length_ms, count in slots:
        next_second_ms, stamp = 0, b""
        for number, (key, tail, unusual) in enumerate(random.choices(pool, k=count)):
            at_ms = start_ms + length_ms * number // count
            turn = (turn + 1) & (_IDS - 1)
            if unusual is None:
                if at_ms >= next_second_ms:
                    next_second_ms = (at_ms // 1000 + 1) * 1000
                    stamp = b'{"timestamp":"%b.' % _clock(at_ms // 1000, _USUAL)
                yield key, stamp + middles[turn] + tail, at_ms
            elif unusual.broken:
                yield key, next(broken), at_ms
            else:
                at = at_ms / 1000 - (unusual.lag(random) if unusual.lag else 0)
                text = _spelled(at, unusual.spelling, fractions[turn])
                yield key, b'{"timestamp":%b,%b%b' % (text, ids[turn], tail), at_ms


_IDS: Final = 1 << 14
"""So many event ids in turn; far more than a batch holds, so they compress as badly as real ones."""


def _spelled(at: float, spelling: _Spelling | None, fraction: bytes) -> bytes:
    if spelling is None:
        return b"%.3f" % at
    clock = _clock(math.floor(at), spelling)
    return b'"%b%b%b"' % (clock, b"." + fraction if spelling.fraction else b"", spelling.suffix)


def _clock(second: int, spelling: _Spelling) -> bytes:
    """Date and time of day to the second; the minute is remembered."""
    minute = _minute(second // 60 + spelling.offset_minutes, spelling.separator)
    return minute + _TWO_DIGITS[second % 60]


_TWO_DIGITS: Final = [b"%02d" % number for number in range(60)]


@lru_cache(maxsize=256)
def _minute(minute: int, separator: bytes) -> bytes:
    return datetime.fromtimestamp(minute * 60, UTC).strftime(f"%Y-%m-%d{separator.decode()}%H:%M:").encode()


DOCUMENTED_POINTS: Final = (
    6090, 6096, 5775, 7998, 7166, 8057, 5760, 8618, 7681, 6941, 7282, 6614,
    6944, 8150, 6883, 5380, 7545, 8002, 6579, 5715, 7054, 6862, 7460, 11448,
)  # fmt: skip
DOCUMENTED_SINCE: Final = 1_584_824_400
DOCUMENTED_SLUG: Final = "the-interstellar-jurisdiction"


def documented_example(seed: int, org_id: int) -> Iterator[Record]:
    """API.md's example: 24 hourly points from 2020-03-21T21:00:00Z, 172,100 events of one organization.

    Every event is one that `received` sums; Kafka has each one second after it happened.
    """
    random = Random(seed)  # noqa: S311
    key = str(org_id).encode()
    for hour, count in enumerate(DOCUMENTED_POINTS):
        for number in range(count):
            second = DOCUMENTED_SINCE + 3600 * hour + 3600 * number / count
            outcome = random.choices((0, 1, 2, None), (0.7, 0.1, 0.1, 0.1))[0]
            event = {
                "timestamp": second if number % 10 == 0 else _clock(int(second), _USUAL).decode() + "Z",
                "org_id": org_id,
                "project_id": org_id * 100 + random.randrange(3),
                "outcome": outcome,
                "reason": random.choice(OUTCOMES[outcome][1]) if outcome else None,
                "category": random.choice((0, 1, 1, 1, 3, None)),
                "quantity": random.choice((1, None)),
            }
            yield key, json.dumps(event).encode(), int((second + 1) * 1000)


def _pool(random: Random, mix: Mix) -> list[_Template]:
    """Everything about a record but its time and id, drawn once; a record then takes one of these."""
    size = min(10_000 + 5 * mix.organizations, 200_000)
    cumulative = list(accumulate(rank**-1.1 for rank in range(1, mix.organizations + 1)))
    organizations = random.choices(range(1, mix.organizations + 1), cum_weights=cumulative, k=size)
    broken = min(size, max(1, round(size * mix.broken))) if mix.broken else 0
    pool: list[_Template] = []
    for number, org_id in enumerate(organizations):
        key = str(org_id).encode() if mix.keyed else None
        if number < broken:
            pool.append((key, b"", _Unusual(broken=True)))
            continue
        event = _raw_event(random, org_id) if random.random() < mix.raw else _classified_event(random, org_id)
        tail = b"," + json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()[1:]
        pool.append((key, tail, _unusual(random, mix)))
    return pool


def _ids(random: Random, org_id: int) -> dict[str, Any]:
    """Every other project has a second key, which a fifth of its events come with."""
    number = int(random.paretovariate(1.0)) % (1 + org_id % 7)
    project_id = org_id * 100 + number
    second = random.random() < 0.2 and (org_id + number) % 2
    return {"org_id": org_id, "project_id": project_id, "key_id": project_id * 10 + bool(second)}


_OUTCOME_SHARES: Final = list(accumulate(OUTCOMES[outcome][0] for outcome in range(7)))
_CATEGORIES: Final = list(CATEGORIES)
_CATEGORY_SHARES: Final = list(accumulate(CATEGORIES.values()))


def _classified_event(random: Random, org_id: int) -> dict[str, Any]:
    (outcome,) = random.choices(range(7), cum_weights=_OUTCOME_SHARES)
    (category,) = random.choices(_CATEGORIES, cum_weights=_CATEGORY_SHARES)
    quantity = random.randrange(1_000, 5_000_000) if category == 4 else random.randrange(1, 50) if category == 5 else 1
    reason = random.choice(OUTCOMES[outcome][1])
    event = {**_ids(random, org_id), "outcome": outcome, "reason": reason, "category": category, "quantity": quantity}
    if random.random() < 0.3:
        event["remote_addr"] = _address(random)
    if random.random() < 0.01:
        event |= {"org_id": None, "future_field": {"nested": [1, None, "ü"]}, "category": None}
    return event


def _raw_event(random: Random, org_id: int) -> dict[str, Any]:
    return {
        **_ids(random, org_id),
        "remote_addr": _address(random),
        "user_agent": random.choice(USER_AGENTS),
        "release": f"app@{random.randrange(1, 4)}.{random.randrange(10)}.{random.randrange(10)}",
        "environment": random.choice(("production", "staging", "dev")),
        "error_message": random.choice(ERROR_MESSAGES),
        "url": random.choice(("https://app.example/checkout", "http://localhost:3000/", "https://app.example/")),
    }


def _address(random: Random) -> str:
    if random.random() < 0.1:
        return f"2001:db8::{random.randrange(1, 65_535):x}"
    return f"{random.choice(('10.0', '10.1', '192.0', '198.51'))}.{random.randrange(256)}.{random.randrange(256)}"


def _unusual(random: Random, mix: Mix) -> _Unusual | None:
    """Some events are late, a few are astray, and some of the others are spelled otherwise."""
    roll = random.random()
    if roll < mix.late:
        return _Unusual(lag=_late)
    if roll < mix.late + mix.astray:
        return _Unusual(lag=_astray)
    return _Unusual(random.choice((*_SPELLINGS, None))) if random.random() < mix.spelled else None


def _late(random: Random) -> float:
    return min(random.expovariate(1 / 1800), 20 * 86_400)


def _astray(random: Random) -> float:
    return random.choice((200 * 86_400, -7200))


def _broken_values() -> list[bytes | None]:
    """Each kind of broken record in turn; a large one, which takes a megabyte, only once in a long round."""
    small = [value for code, values in BROKEN.items() if code != "too_large" for value in values]
    return [*(values[0] for values in BROKEN.values()), *small * 10]
