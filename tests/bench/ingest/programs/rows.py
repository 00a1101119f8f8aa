"""From a record to a row, as other consumers do it: msgspec to a dict, and nothing of what is not an event."""

import msgspec

from tests.bench.ingest.programs.job import Row, row_of

_decode = msgspec.json.Decoder().decode


def row(value: bytes | None) -> Row | None:
    """The row of a record's value; None for what is not an event."""
    try:
        return row_of(_decode(value or b""))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
