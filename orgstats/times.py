"""Times as people give them on a command line, in epoch seconds: a number, RFC 3339, or relative to now."""

import re
from datetime import UTC, datetime
from typing import Final

UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
LAST_SECOND: Final = 4_294_967_295
"""The last second that can be asked for and stored: the end of ClickHouse's DateTime."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_LENGTH: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw])")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?")


def parse_time(text: str, now: float) -> float:
    """Epoch seconds of `text` when it is `now` (epoch seconds).

    `1584824400.5`; `2020-03-21T21:00:00Z`, with any offset or none, which means UTC, and the time of day may
    be left out; `-2h`, `+90d`, `now`. Units are s, m, h, d and w. Raises ValueError with a text for people, also for
    what is out of range.
    """
    seconds = _seconds(text.strip(), now)
    if not 0 <= seconds <= LAST_SECOND:
        raise ValueError(f"{text!r} is out of range 0 to {LAST_SECOND}; seconds, not milliseconds?")
    return seconds


def _seconds(text: str, now: float) -> float:
    if text == "now":
        return now
    if _NUMBER.fullmatch(text):
        return float(text)
    if text[:1] in ("-", "+"):
        return now + parse_length(text[1:]) * (-1 if text[0] == "-" else 1)
    if _DATE.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text.upper())
        except ValueError as error:
            raise ValueError(f"{text!r} is not a date: {error}") from None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    if _LENGTH.fullmatch(text):
        raise ValueError(f"{text!r} is not a time without a sign; give +{text} for later than now, -{text} for earlier")
    raise ValueError(f"{text!r} is not a time; give epoch seconds, 2020-03-21T21:00:00Z, or -2h")


def parse_length(text: str) -> float:
    """Seconds of a length of time such as `30s`, `2h` or `1.5d`; raises ValueError with a text for people."""
    match = _LENGTH.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a length of time; give a number and one of s, m, h, d, w, as 2h")
    return float(match[1]) * UNIT_SECONDS[match[2]]


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
