"""Makes records that are odd in every way we could think of, from a seed."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

NOW: Final = 1_584_824_400
LEAP: Final = 1_483_228_740
"""The minute with the leap second of 2016."""
RULES: Final = """
[[rule]]
outcome = "filtered"
reason = "local"
remote_addr = ["10.0.0.0/8", "2001:db8::/32", "192.168.1.7"]

[[rule]]
outcome = "rate_limited"
reason = "bots"
user_agent = ["*bot*", "curl/?.*"]
org_id = [0, 1, 2, 9223372036854775807]

[[rule]]
outcome = "filtered"
reason = "noise"
error_message = ["*script error*", "a*b*c", "?"]
environment = ["prod*"]

[[rule]]
outcome = "filtered"
reason = "keys"
key_id = [3]
project_id = [5, 6]
"""
HISTORY: Final = [((NOW - 3600) * 1000, '[[rule]]\noutcome="filtered"\nreason="old"\nurl=["*"]\n'), (NOW * 1000, RULES)]

_INTEGERS: Final = [
    *(
        "0",
        "1",
        "2",
        "3",
        "5",
        "7",
        "255",
        "256",
        "-1",
        "-0",
        "1.0",
        "1e0",
        "1E2",
        "0.5",
        "00",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
    ),
    *("9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616"),
    *("null", "true", "false", '"1"', "[]", "{}", "[1]", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nul"),
    *("9" * 309, "9" * 4300, "-" + "9" * 4301, "1" + "0" * 308, "17976931348623157" + "0" * 292),
    *("17976931348623159" + "0" * 292, "1e308", "1.7976931348623159e308", "5e-324", "1e-400", "4.35e2"),
]
_TEXTS: Final = [
    *('""', '"a"', '"abc"', '"a-b-c"', '"GoogleBot"', '"curl/7.1"', '"Script Error."', '"production"', '"é"', '"ÅÉß"'),
    *('"10.1.2.3"', '"::ffff:10.0.0.1"', '"2001:DB8::5"', '"192.168.1.7"', '"010.0.0.1"', '"1.2.3"', '"fe80::1%eth0"'),
    *(
        '"\\ud83d\\ude00"',
        '"\\ud83d"',
        '"\\ude00\\ud83d"',
        '"\\ud83d\\u0041"',
        '"\\u0000"',
        '"\\/"',
        '"\\x"',
        '"\\u12"',
    ),
    *(
        '"\\u00e9\\n\\t\\\\\\""',
        '"' + "r" * 64 + '"',
        '"' + "é" * 65 + '"',
        '"a\nb"',
        '"a\x7fb"',
        '"\t"',
        '"\x00"',
        "'a'",
    ),
    *("null", "true", "1", "[]", '["a"]', '{"a":1}', '"\\uD83D\\uDE00\\uDE00"', '"\\\\ud800"', '"\\\\\\ud800"', "tru"),
    *('"[[[["', '"}"', '"\u2028"', '"\U0001f600"', '"\ufeff"', '"\\ud800\\\\udc00"', '"\\udbff\\udfff"', '"\\ufffe"'),
]
_STAMPS: Final = [
    *(
        "",
        "Z",
        "z",
        "+00:00",
        "-00:00",
        "+05:30",
        "-23:59",
        "+24:00",
        "+23:60",
        "+0530",
        "+05",
        "ZZ",
        " Z",
        "+5:30",
        "\u221201:00",
    ),
]
_FRACTIONS: Final = ["", ".0", ".5", ".9999999", ".123456", ".123456789", ".", ".x", ",5", "." + "9" * 400, ".٣", ".²"]
_FIELDS: Final = ["org_id", "project_id", "key_id", "outcome", "category", "quantity"]
_WORDS: Final = ["reason", "remote_addr", "user_agent", "release", "environment", "error_message", "url"]
_OTHERS: Final = [
    "event_id",
    "extra",
    "",
    "timestam",
    "org_id ",
    "\\u0000",
    "ünïcode",
    "outcom\\u0065",
    "timest\\u0061mp",
]


class Record(NamedTuple):
    """A value and its Kafka timestamp in milliseconds."""

    value: bytes | None
    kafka_ms: int


def records(seed: int, count: int) -> Iterator[Record]:
    """`count` records; the same for the same seed."""
    rng = random.Random(seed)
    earlier = b"{}"
    for _ in range(count):
        value = _value(rng, earlier)
        if value is not None and len(value) < 1000:
            earlier = value
        yield Record(value, _kafka_ms(rng))


def plain(rng: random.Random, now: int = NOW) -> Record:
    """A record as nearly all are, within a minute from `now`; before 1970 it has no Kafka timestamp."""
    second = now + rng.randrange(60)
    stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if now == LEAP and rng.random() < 0.02:
        stamp = f"2016-12-31T23:59:6{rng.randrange(10)}"
    late = 60 if now == LEAP else rng.randrange(5)
    event = {
        "timestamp": f"{stamp}.{rng.randrange(10**6):06}Z",
        "org_id": rng.randrange(5),
        "project_id": rng.randrange(7),
        "key_id": rng.choice([None, 3]),
        "outcome": rng.choice([0, 0, 0, 1, 2, 9, 255]),
        "reason": rng.choice([None, "", "a", "b"]),
        "event_id": f"{rng.getrandbits(128):032x}",
        "category": rng.choice([1, 1, None, 4]),
        "quantity": rng.choice([1, 1, 5]),
    }
    kafka_ms = (second + late) * 1000 + rng.randrange(1000)
    value = json.dumps(event).encode()
    if rng.random() < 0.002:
        value = value.replace(b'"event_id": "', b'"event_id": "\xff')
    return Record(value, kafka_ms if now >= 0 else -1)


def _kafka_ms(rng: random.Random) -> int:
    if rng.random() < 0.6:
        return (NOW + rng.randrange(-7200, 7200)) * 1000 + rng.randrange(1000)
    return rng.choice(
        [-1, 0, 999, NOW * 1000, NOW * 1000 - 1, 4_294_967_295_999, 4_294_967_300_000, 2**63 - 1, 86_400_000]
    )


def _value(rng: random.Random, earlier: bytes) -> bytes | None:
    kind = rng.random()
    if kind < 0.002:
        return rng.choice([None, b"", b" ", b"null", b"[]", b"1", b'"x"', b"tru", b"\xef\xbb\xbf{}", b"{}{}"])
    if kind < 0.004:
        return _deep(rng)
    if kind < 0.00402:
        return _large(rng)
    text = _object(rng)
    value = text.encode("utf-8", "surrogatepass")
    return _mutated(rng, value, earlier) if rng.random() < 0.3 else value


def _object(rng: random.Random) -> str:
    """The text of an object: mostly good fields, in any order, some twice, blanks and escapes anywhere."""
    pairs = [("timestamp", _timestamp(rng))] if rng.random() < 0.98 else []
    odd = rng.random() < 0.4
    for name in _FIELDS:
        if rng.random() < 0.6:
            value = rng.choice(_INTEGERS) if odd and rng.random() < 0.2 else str(rng.randrange(7))
            pairs.append((name, value))
    for name in _WORDS:
        if rng.random() < 0.25:
            value = rng.choice(_TEXTS if odd else _TEXTS[:17])
            pairs.append((name, value))
    if rng.random() < 0.3:
        pairs.append((rng.choice(_OTHERS), rng.choice([_timestamp(rng), *_INTEGERS, *_TEXTS])))
    if rng.random() < 0.1 and pairs:
        name = rng.choice(pairs)[0]
        pairs.append((name, rng.choice([_timestamp(rng), *_INTEGERS, *_TEXTS])))
    if rng.random() < 0.3:
        rng.shuffle(pairs)
    blank = rng.choice(["", " ", "\n", "\t \r"]) if rng.random() < 0.99 else rng.choice(["\x0b", "\xa0", "/**/", ","])
    inner = f",{blank}".join(f'"{_escaped(rng, name)}"{blank}:{blank}{value}' for name, value in pairs)
    return f"{blank}{{{inner}{blank}}}{blank}"


def _escaped(rng: random.Random, name: str) -> str:
    if name and name.isascii() and "\\" not in name and rng.random() < 0.02:
        place = rng.randrange(len(name))
        return f"{name[:place]}\\u{ord(name[place]):04x}{name[place + 1 :]}"
    return name


def _timestamp(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(
            [str(NOW), f"{NOW}.5", f"{NOW + rng.randrange(60)}.{rng.randrange(10**9)}", *_INTEGERS, *_TEXTS]
        )
    if kind < 0.25:
        return str(rng.randrange(-(2**34), 2**34) + rng.choice([0, rng.random()]))
    if kind < 0.75:
        moment = datetime.fromtimestamp(NOW + rng.randrange(-8000, 8000), UTC)
    else:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(292 * 31_556_952))
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if rng.random() < 0.15:
        text = _odd_time(rng, text)
    if rng.random() < 0.6:
        return f'"{text}.{rng.randrange(10**6):06}Z"'
    return f'"{text}{rng.choice(_FRACTIONS)}{rng.choice(_STAMPS)}"'


def _odd_time(rng: random.Random, text: str) -> str:
    """A time at an edge of the calendar, or with a character that is not what it should be."""
    edges = [
        *(
            "2016-12-31T23:59:60",
            "2016-06-30T23:59:60",
            "2017-01-01T05:29:60",
            "2016-12-31T22:59:60",
            "2015-02-28T23:59:60",
        ),
        *(
            "2016-02-29T00:00:00",
            "2015-02-29T00:00:00",
            "1900-02-29T00:00:00",
            "2000-02-29T23:59:59",
            "2016-12-31T23:59:61",
        ),
        *(
            "0000-01-01T00:00:00",
            "0000-12-31T23:59:60",
            "9999-12-31T23:59:59",
            "9999-12-31T23:59:60",
            "0001-01-01T00:00:00",
        ),
        *(
            "2106-02-07T06:28:15",
            "2106-02-07T06:28:16",
            "2262-04-11T23:47:16",
            "1969-12-31T23:59:59",
            "2020-01-01T24:00:00",
        ),
        *(
            "2020-13-01T00:00:00",
            "2020-00-10T00:00:00",
            "2020-04-31T00:00:00",
            "2020-01-00T00:00:00",
            "2020-01-01T00:60:00",
        ),
    ]
    if rng.random() < 0.5:
        return rng.choice(edges)
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(["t", " ", "-", "/", ":", "٣", "²", "x", "0", "9", "", "\\u0054"]) + text[at + 1 :]


def _deep(rng: random.Random) -> bytes:
    """Nested about as deep as is allowed, closed or not, with brackets in strings beside."""
    levels = rng.choice([10, 400, 497, 498, 499, 500, 501, 600, 990, 5000])
    opening = "".join(rng.choice(["[", '{"a":', '["]}",', '{"\\"[":1,"b":']) for _ in range(levels))
    tps = [i for i, c in enumerate(opening) if c in "[{" and (i == 0 or opening[i - 1] != '"')]
    closing = "".join("]" if opening[i] == "[" else "}" for i in reversed(tps)) if rng.random() < 0.7 else ""
    prefix = rng.choice(['{"timestamp":1,"x":', '{"timestamp":1,"org_id":', "", '{"timestamp":'])
    return f"{prefix}{opening}1{closing}{'}' if prefix else ''}".encode()


def _large(rng: random.Random) -> bytes:
    """About as long as is allowed, or far longer."""
    filler = rng.choice(["x", "[", "é", "\\u00e9", " "]) * (1 << 20)
    frame = b'{"timestamp":1,"x":"%s"}'
    room = rng.choice([(1 << 20) - len(frame) + 2, (1 << 20) - len(frame) + 3, 1 << 20])
    body = filler.encode()[:room]
    return frame % (body if rng.random() < 0.9 else body * 16)


def _mutated(rng: random.Random, value: bytes, earlier: bytes) -> bytes:
    """One or a few bytes changed, lost, added, or a part of another record in the middle."""
    data = bytearray(value)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(data) + 1)
        end = min(len(data), place + rng.choice([1, 1, 2, 8, 40]))
        kind = rng.randrange(6)
        if kind == 0:
            del data[place:end]
        elif kind == 1:
            data[place:place] = rng.randbytes(rng.choice([1, 1, 3]))
        elif kind == 2:
            data[place:end] = rng.choice(
                [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"e", b"\xed\xa0\x80", b"\xc0\x80"]
            )
        elif kind == 3:
            start = rng.randrange(len(earlier) + 1)
            data[place:end] = earlier[start : start + rng.randrange(60)]
        elif kind == 4:
            del data[place:]
        elif place < len(data):
            data[place] ^= 1 << rng.randrange(8)
    return bytes(data)
