"""The walk over Native format finds the end of every column, and refuses what is not in that format."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgstats.deploy.local.chdb_server import native
from orgstats.deploy.local.chdb_server.native import Malformed, UnsupportedType

NAMES = (
    "UInt8",
    "String",
    "Nullable(String)",
    "Array(Array(String))",
    "LowCardinality(String)",
    "Map(String, UInt8)",
    "Tuple(a UInt8, b Array(String))",
    "Tuple()",
    "FixedString(3)",
    "Decimal(76, 3)",
    "Enum8('a,)\\'' = 1)",
    "Point",
)
UNKNOWN = ("", "JSON", "Dynamic", "AggregateFunction(sum, UInt8)", "Array(JSON)", "FixedString(x)", "Array()")


def block(type_name: str, data: bytes, rows: int) -> bytes:
    """A block of one column as a file holds it."""
    head = native.encode_varint(1) + native.encode_varint(rows)
    return head + native.encode_string(b"c") + native.encode_string(type_name.encode()) + data


def test_a_block_gets_its_serialization_byte() -> None:
    """The wire's block differs from the file's by one zero byte after each type."""
    data = b"\2" + b"ab" + b"\0" + b"\x80\1" + b"x" * 128
    whole = block("String", data, 3)
    assert list(native.wire_blocks(whole)) == [(3, whole.replace(b"\6String", b"\6String\0"))]


def test_blocks_follow_one_another() -> None:
    """Each block of a stream is found, those without rows too, which hold no data."""
    blocks = block("UInt16", b"\1\0\2\0", 2) + block("LowCardinality(String)", b"", 0) + block("Bool", b"\1", 1)
    assert [rows for rows, _ in native.wire_blocks(blocks)] == [2, 0, 1]
    assert native.header_of(blocks) == [("c", "UInt16")]


@pytest.mark.parametrize("name", [*UNKNOWN, pytest.param("Array(" * 5000, id="deep")])
def test_types_of_unknown_length_are_refused(name: str) -> None:
    """A type that cannot be walked raises UnsupportedType that names it."""
    with pytest.raises(UnsupportedType, match="type"):
        native.column_of(name)


@given(st.sampled_from(NAMES), st.integers(0, 5), st.binary(max_size=60))
def test_any_bytes_are_walked_or_refused(name: str, rows: int, data: bytes) -> None:
    """Bytes in no format at all raise Malformed or UnsupportedType and nothing else."""
    with suppress(Malformed, UnsupportedType):
        for _rows, wire in native.wire_blocks(block(name, data, rows)):
            assert len(wire) <= len(name) + len(data) + 10


@given(st.binary(max_size=200))
def test_garbage_bytes_are_refused(data: bytes) -> None:
    """Noise is never taken for more blocks than it has bytes, and raises the two errors only."""
    with suppress(Malformed, UnsupportedType):
        assert len(list(native.wire_blocks(data))) <= len(data)


@given(st.integers(0, 2**64 - 1))
def test_integers_round_trip(number: int) -> None:
    """A variable-length number is read as it was written."""
    assert native.BytesSource(native.encode_varint(number)).varint() == number
