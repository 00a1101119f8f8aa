"""Records in a row of bytes, the input of counting by kind and of the chain over the log."""

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orgstats.consumer.counting.batch import Record

_HEAD: Final = struct.Struct("<qqq")


def packed_in_python(run: "Sequence[Record]") -> bytes:
    """Records in a row: offset, timestamp, length of the value (-1 without one), in 8 bytes each; the value; a 0."""
    parts: list[bytes] = []
    for record in run:
        value = record.value()
        length = -1 if value is None else len(value)
        parts += (_HEAD.pack(record.offset(), record.timestamp()[1], length), value or b"", b"\0")
    return b"".join(parts)


try:
    from orgstats.consumer.counting import fast_path
except ImportError:  # there was no C compiler
    _packed: "Callable[[Sequence[Record]], bytes]" = packed_in_python
else:
    _packed = fast_path.packed


def packed(run: "Sequence[Record]") -> bytes | memoryview:
    """The same as `packed_in_python`; a run that was read so has it already, as its `row`."""
    row: memoryview | None = getattr(run, "row", None)
    return _packed(run) if row is None else row
