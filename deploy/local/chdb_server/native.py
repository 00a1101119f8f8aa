"""Walks ClickHouse's Native format column by column, because the two ends frame a column differently.

chDB speaks Native as files hold it: name, type, data. On a connection of revision 54454 and above one byte
(0: ordinary serialization) stands between type and data, so the length of every column must be known. Data
is copied as it is, never decoded: what a type costs here is finding its end.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, Protocol

from clickhouse_driver.varint import read_varint

Piece = bytes | memoryview
MAX_COLUMNS: Final = 10_000
MAX_NAME_BYTES: Final = 1 << 20


class UnsupportedType(Exception):
    """A column type whose length this module cannot tell, named in the text."""


class Malformed(Exception):
    """Bytes at hand that are not in Native format."""


class Source(Protocol):
    """Bytes in order; each method raises EOFError or Malformed when they end too early."""

    def take(self, size: int) -> Piece:
        """The next `size` bytes."""

    def varint(self) -> int:
        """The next variable-length number."""

    def strings(self, count: int) -> Piece:
        """The next `count` length-prefixed strings, lengths included."""


class BytesSource:
    """A source over bytes at hand; pieces are views into them, not copies."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)
        self._at = 0

    def at_end(self) -> bool:
        return self._at >= len(self._data)

    def take(self, size: int) -> Piece:
        return self._until(self._at + size)

    def varint(self) -> int:
        data, at, value, shift = self._data, self._at, 0, 0
        while True:
            if at >= len(data):
                raise Malformed("data cut short")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        self._at = at
        return value

    def strings(self, count: int) -> Piece:
        data, start, varint = self._data, self._at, self.varint
        for _ in range(count):
            if self._at < len(data) and data[self._at] < 0x80:  # one byte of length: nearly every string
                self._at += 1 + data[self._at]
            else:
                size = varint()
                self._at += size
        end, self._at = self._at, start
        return self._until(end)

    def _until(self, end: int) -> Piece:
        if end > len(self._data):
            raise Malformed("data cut short")
        piece = self._view[self._at : end]
        self._at = end
        return piece


class ReaderSource:
    """A source over one of clickhouse_driver's buffered readers, plain or decompressing."""

    def __init__(self, reader: object) -> None:
        self._reader = reader
        self._read: Callable[[int], bytes] = reader.read  # type: ignore[attr-defined]  # untyped package

    def take(self, size: int) -> Piece:
        return self._read(size)

    def varint(self) -> int:
        return int(read_varint(self._reader))

    def strings(self, count: int) -> Piece:
        pieces = []
        for _ in range(count):
            size = self.varint()
            pieces.append(encode_varint(size))
            pieces.append(self._read(size))
        return b"".join(pieces)


class Column(ABC):
    """How to find the end of one column: first the prefixes of the whole type, then the data."""

    def prefix(self, source: Source, out: list[Piece]) -> None:  # noqa: B027  # most types have none
        """Copies what stands once per block before the data."""

    @abstractmethod
    def copy(self, source: Source, rows: int, out: list[Piece]) -> None:
        """Copies the data of `rows` values."""


class _Fixed(Column):
    def __init__(self, size: int) -> None:
        self.size = size

    def copy(self, source: Source, rows: int, out: list[Piece]) -> None:
        out.append(source.take(self.size * rows))


class _Strings(Column):
    def copy(self, source: Source, rows: int, out: list[Piece]) -> None:
        out.append(source.strings(rows))


class _Nullable(Column):
    def __init__(self, inner: Column) -> None:
        self.inner = inner

    def prefix(self, source: Source, out: list[Piece]) -> None:
        self.inner.prefix(source, out)

    def copy(self, source: Source, rows: int, out: list[Piece]) -> None:
        out.append(source.take(rows))
        self.inner.copy(source, rows, out)


class _Array(_Nullable):
    def copy(self, source: Source, rows: int, out: list[Piece]) -> None:
        offsets = source.take(8 * rows)
        out.append(offsets)
        self.inner.copy(source, _number(offsets[-8:]), out)


class _Tuple(Column):
    def __init__(self, elements: list[Column]) -> None:
        self.elements = elements

    def prefix(self, source: Source, out: list[Piece]) -> None:
        for element in self.elements:
            element.prefix(source, out)

    def copy(self, source: Source, rows: int, out: list[Piece]) -> None:
        if not self.elements:
            out.append(source.take(rows))
        for element in self.elements:
            element.copy(source, rows, out)


class _LowCardinality(Column):
    def __init__(self, key: Column) -> None:
        self.key = key.inner if type(key) is _Nullable else key  # the dictionary holds no null map

    def prefix(self, source: Source, out: list[Piece]) -> None:
        out.append(source.take(8))

    def copy(self, source: Source, rows: int, out: list[Piece]) -> None:
        if not rows:
            return
        kind, keys = source.take(8), source.take(8)
        out += (kind, keys)
        self.key.copy(source, _number(keys), out)
        indexes = source.take(8)
        out += (indexes, source.take(_number(indexes) << (kind[0] & 0xF)))


def read_block(source: Source, *, on_wire: bool, out: list[Piece], to_wire: bool) -> int:
    """Copies one block from `source` to `out`, in the wire's framing or the file's; returns its rows.

    A block without columns ends an insert; nothing is copied then and -1 is returned.
    Raises EOFError or Malformed for data cut short, and UnsupportedType.
    """
    columns, rows = source.varint(), source.varint()
    if columns > MAX_COLUMNS:
        raise UnsupportedType(f"a block of {columns} columns")
    if not columns:
        return -1
    out += (encode_varint(columns), encode_varint(rows))
    for _ in range(columns):
        _copy_column(source, rows, on_wire, out, to_wire)
    return rows


def _copy_column(source: Source, rows: int, on_wire: bool, out: list[Piece], to_wire: bool) -> None:
    name, type_name = _name(source), _name(source)
    out += (encode_string(name), encode_string(type_name))
    if on_wire and source.take(1)[0]:
        raise UnsupportedType("a column with custom serialization")
    if to_wire:
        out.append(b"\0")
    if rows:  # a block without rows carries no column data
        column = column_of(type_name.decode("utf-8", "replace"))
        column.prefix(source, out)
        column.copy(source, rows, out)


def wire_blocks(native: bytes) -> Iterator[tuple[int, bytes]]:
    """(rows, block as the wire frames it) for each block of a file in Native format."""
    source = BytesSource(native)
    while not source.at_end():
        out: list[Piece] = []
        rows = read_block(source, on_wire=False, out=out, to_wire=True)
        yield rows, b"".join(out)


def header_of(native: bytes) -> list[tuple[str, str]]:
    """Names and types of the first block."""
    source, header = BytesSource(native), []
    columns, rows = source.varint(), source.varint()
    for _ in range(columns):
        name, type_name = (_name(source).decode("utf-8", "replace") for _ in range(2))
        header.append((name, type_name))
        if rows:
            column = column_of(type_name)
            column.prefix(source, [])
            column.copy(source, rows, [])
    return header


def wire_header(columns: list[tuple[str, str]]) -> bytes:
    """A block without rows, as the wire frames it."""
    out = [encode_varint(len(columns)), b"\0"]
    for name, type_name in columns:
        out += (encode_string(name.encode()), encode_string(type_name.encode()), b"\0")
    return b"".join(out)


def encode_varint(number: int) -> bytes:
    """Seven bits a byte, lowest first; the high bit says that more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_string(text: bytes) -> bytes:
    """Length, then bytes."""
    return encode_varint(len(text)) + text


def _name(source: Source) -> bytes:
    size = source.varint()
    if size > MAX_NAME_BYTES:
        raise UnsupportedType(f"a name of {size} bytes")
    return bytes(source.take(size))


def _number(data: Piece) -> int:
    return int.from_bytes(data, "little")


_SIZES: Final = {
    **{f"{sign}Int{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)},
    **dict.fromkeys(("Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("BFloat16", "Date", "Enum16"), 2),
    **dict.fromkeys(("Float32", "Date32", "DateTime", "Time", "IPv4", "Decimal32"), 4),
    **dict.fromkeys(("Float64", "DateTime64", "Time64", "Decimal64"), 8),
    **dict.fromkeys(("UUID", "IPv6", "Decimal128"), 16),
    "Decimal256": 32,
}
_ALIASES: Final = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "MultiLineString": "Array(LineString)",
    "Polygon": "Array(Ring)",
    "MultiPolygon": "Array(Polygon)",
}


@lru_cache(maxsize=4096)
def column_of(type_name: str) -> Column:
    """The column of a type as ClickHouse spells it. Raises UnsupportedType."""
    family, _, rest = type_name.partition("(")
    if family in _SIZES:
        return _Fixed(_SIZES[family])
    if family in _ALIASES:
        return column_of(_ALIASES[family])
    if family.startswith("Interval"):
        return _Fixed(8)
    try:
        return _WITH_ARGUMENTS[family](_split(rest.removesuffix(")")))
    except (LookupError, ValueError, RecursionError):
        raise UnsupportedType(f"type {type_name[:200]}") from None


def _decimal(arguments: list[str]) -> Column:
    digits = int(arguments[0])
    return _Fixed(next((size for size, most in ((4, 9), (8, 18), (16, 38)) if digits <= most), 32))


def _tuple(arguments: list[str]) -> Column:
    return _Tuple([column_of(_split(argument, " ")[-1]) for argument in arguments])  # "name Type" or "Type"


_WITH_ARGUMENTS: Final[dict[str, Callable[[list[str]], Column]]] = {
    "String": lambda _: _Strings(),
    "FixedString": lambda arguments: _Fixed(abs(int(arguments[0]))),
    "Decimal": _decimal,
    "Nullable": lambda arguments: _Nullable(column_of(arguments[0])),
    "Array": lambda arguments: _Array(column_of(arguments[0])),
    "LowCardinality": lambda arguments: _LowCardinality(column_of(arguments[0])),
    "Tuple": _tuple,
    "Map": lambda arguments: _Array(_tuple(arguments)),
    "Nested": lambda arguments: _Array(_tuple(arguments)),
    "SimpleAggregateFunction": lambda arguments: column_of(arguments[1]),
}


def _split(text: str, separator: str = ",") -> list[str]:
    """Parts of a type's arguments between separators that are neither quoted nor in parentheses."""
    parts, depth, quote, start, at = [], 0, "", 0, 0
    while at < len(text):
        letter = text[at]
        if quote:
            at += letter == "\\"
            quote = "" if letter == quote else quote
        elif letter in "'\"`":
            quote = letter
        elif letter == separator and not depth:
            parts.append(text[start:at].strip())
            start = at + 1
        else:
            depth += (letter == "(") - (letter == ")")
        at += 1
    return [part for part in (*parts, text[start:].strip()) if part]
