"""ClickHouse's native protocol from the server's side: packets in, packets out, nothing about queries.

Revision 54459 is announced: the first with server-side parameters. Both directions then follow from the
client library's own table of revisions (clickhouse_driver.defines), which this module mirrors.
"""

import io
import socket
from typing import Final, NamedTuple

from clickhouse_cityhash.cityhash import CityHash128
from clickhouse_driver.bufferedreader import BufferedSocketReader, CompressedBufferedReader
from clickhouse_driver.compression.lz4 import Compressor
from clickhouse_driver.errors import ErrorCodes
from clickhouse_driver.protocol import ServerPacketTypes
from clickhouse_driver.reader import read_binary_uint8, read_binary_uint64
from clickhouse_driver.streams.compressed import CompressedBlockInputStream
from clickhouse_driver.varint import read_varint
from clickhouse_driver.writer import write_binary_uint128

from orgstats.deploy.local.chdb_server.engine import EngineError, Setting, Statistics
from orgstats.deploy.local.chdb_server.native import Piece, ReaderSource, encode_string, encode_varint, read_block

REVISION: Final = 54459
SCALAR: Final = 7  # a packet of constants that another server sends with its part of a query; unused here
READ_BUFFER_BYTES: Final = 1 << 18
SEND_BYTES: Final = 1 << 20
MAX_TEXT_BYTES: Final = 1 << 28  # ClickHouse's own bound on a query is of this order
MAX_HELLO_BYTES: Final = 1 << 12
_CUSTOM_SETTING: Final = 0x2
_OVER_TCP: Final = 1  # the interface of clients; another embedded engine has another one, and says less of itself
_IMPORTANT_SETTING: Final = 0x1
_BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # no overflow row; bucket -1


class ProtocolError(Exception):
    """What came cannot be served, and what follows it cannot be read: the connection must close."""

    def __init__(self, text: str, code: int = ErrorCodes.UNEXPECTED_PACKET_FROM_CLIENT) -> None:
        super().__init__(text)
        self.code = code


class Hello(NamedTuple):
    """A client's first packet."""

    client: str
    revision: int
    database: str
    user: str
    password: str


class Query(NamedTuple):
    """A statement with what the client wants to hold for it."""

    query_id: str
    settings: dict[str, Setting]
    params: dict[str, str]
    compressed: bool
    text: str


class Inbox:
    """Reads a client's packets; every method raises EOFError or OSError when the client is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._fin = BufferedSocketReader(connection, READ_BUFFER_BYTES)
        self._unpacker = CompressedBlockInputStream(self._fin, None)
        self._plain = ReaderSource(self._fin)
        self._unpacked = ReaderSource(CompressedBufferedReader(self._unpacker.read_block, READ_BUFFER_BYTES))

    def packet_type(self) -> int:
        return int(read_varint(self._fin))

    def hello(self) -> Hello:
        if self.packet_type() != 0:
            raise ProtocolError("the first packet is no hello")
        client = self._text(MAX_HELLO_BYTES)
        _major, _minor, revision = (read_varint(self._fin) for _ in range(3))
        return Hello(client, revision, *(self._text(MAX_HELLO_BYTES) for _ in range(3)))

    def addendum(self) -> None:
        """What follows the answered hello: a quota key, unused."""
        self._text(MAX_HELLO_BYTES)

    def tables(self) -> list[tuple[str, str]]:
        """Database and name of the tables whose status is asked for."""
        return [(self._text(), self._text()) for _ in range(read_varint(self._fin))]

    def query(self) -> Query:
        query_id = self._text()
        self._client_info()
        settings = self._settings()
        self._text()  # secret between servers
        _stage, compressed = read_varint(self._fin), read_varint(self._fin)
        text = self._text()
        params = {name: _parameter(setting.value) for name, setting in self._settings().items()}
        return Query(query_id, settings, params, bool(compressed), text)

    def data(self, compressed: bool, out: list[Piece]) -> int:
        """Reads the rest of a data packet; appends its block in the file's framing to `out`.

        Returns the block's rows, -1 for the block without columns that ends all data.
        """
        self._text()  # name of an external table, classified by the caller through the rows
        source = self._unpacked if compressed else self._plain
        while field := source.varint():
            source.take(1 if field == 1 else 4)
        return read_block(source, on_wire=True, out=out, to_wire=False)

    def _client_info(self) -> None:
        fin = self._fin
        if not read_binary_uint8(fin):
            return
        for _ in range(3):
            self._text()  # initial user, query id and address
        read_binary_uint64(fin)  # start time
        over_tcp = read_binary_uint8(fin) == _OVER_TCP
        if over_tcp:
            for _ in range(3):
                self._text()  # system user, host and client name
            for _ in range(3):
                read_varint(fin)  # client version and revision
        self._text()  # quota key
        read_varint(fin)  # distributed depth
        if over_tcp:
            read_varint(fin)  # client's patch version
        if read_binary_uint8(fin):  # a trace context
            fin.read(24)
            self._text()
            read_binary_uint8(fin)
        for _ in range(3):
            read_varint(fin)  # parallel replicas

    def _settings(self) -> dict[str, Setting]:
        settings = {}
        while name := self._text():
            flags = read_varint(self._fin)
            settings[name] = Setting(self._text(), bool(flags & _IMPORTANT_SETTING))
        return settings

    def _text(self, limit: int = MAX_TEXT_BYTES) -> str:
        size = read_varint(self._fin)
        if size > limit:
            raise ProtocolError(f"a text of {size} bytes")
        try:
            return bytes(self._fin.read(size)).decode()
        except UnicodeDecodeError:
            raise ProtocolError("a text that is not UTF-8") from None


class Outbox:
    """Collects packets and sends them together: a packet of its own for each costs a client a wake-up."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending = bytearray()

    def hello(self, name: str, version: str) -> None:
        major, minor, patch = (int(part) for part in version.split(".")[:3])
        self._start(ServerPacketTypes.HELLO)
        self._texts("ClickHouse")
        self._numbers(major, minor, REVISION)
        self._texts("UTC", name)
        self._numbers(patch)

    def block(self, block: bytes, compressed: bool) -> None:
        self._start(ServerPacketTypes.DATA)
        self._texts("")
        body = _BLOCK_INFO + block
        self._pending += _pack(body) if compressed else body
        if len(self._pending) >= SEND_BYTES:
            self.flush()

    def profile_info(self, rows: int, blocks: int) -> None:
        self._start(ServerPacketTypes.PROFILE_INFO)
        self._numbers(rows, blocks, 0, 0, rows, 0)

    def progress(self, added: Statistics) -> None:
        self._pending += progress_packet(added)

    def tables_status(self, tables: list[tuple[str, str]]) -> None:
        """That none of these tables is a replica, which could lag."""
        self._start(ServerPacketTypes.TABLES_STATUS_RESPONSE)
        self._numbers(len(tables))
        for database, table in tables:
            self._texts(database, table)
            self._pending += b"\0"

    def end_of_stream(self) -> None:
        self._start(ServerPacketTypes.END_OF_STREAM)

    def profile_events(self) -> None:
        """An empty block of profile events: what a client waits for after each block of an insert."""
        self._start(ServerPacketTypes.PROFILE_EVENTS)
        self._texts("")
        self._pending += _BLOCK_INFO + b"\0\0"

    def pong(self) -> None:
        self._start(ServerPacketTypes.PONG)

    def exception(self, error: EngineError) -> None:
        self._start(ServerPacketTypes.EXCEPTION)
        self._pending += error.code.to_bytes(4, "little", signed=True)
        self._texts("DB::Exception", error.text, "")
        self._numbers(0)

    def flush(self) -> None:
        """Sends what is pending. Raises OSError when the client is gone."""
        pending, self._pending = self._pending, bytearray()
        if pending:
            self._connection.sendall(pending)

    def _start(self, packet_type: int) -> None:
        self._pending += encode_varint(packet_type)

    def _numbers(self, *numbers: int) -> None:
        for number in numbers:
            self._pending += encode_varint(number)

    def _texts(self, *texts: str) -> None:
        for text in texts:
            self._pending += encode_string(text.encode("utf-8", "replace"))


def progress_packet(added: Statistics) -> bytes:
    """What has been done since the last such packet."""
    numbers = (added.read_rows, added.read_bytes, 0, added.written_rows, added.written_bytes)
    return b"".join(map(encode_varint, (ServerPacketTypes.PROGRESS, *numbers)))


def _pack(body: bytes) -> bytes:
    compressor = Compressor()
    compressor.write(body)
    frame: bytes = bytes([compressor.method_byte]) + compressor.get_compressed_data(1)
    out = io.BytesIO()
    write_binary_uint128(CityHash128(frame), out)
    return out.getvalue() + frame


_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0", "a": "\a", "v": "\v"}


def _parameter(dump: str) -> str:
    """A parameter's text from its quoted form; what remains is escaped once more, as the engine reads it."""
    if len(dump) < 2 or dump[0] != "'" or dump[-1] != "'":
        return dump
    out, letters = [], iter(dump[1:-1])
    for letter in letters:
        if letter == "\\":
            escaped = next(letters, "\\")
            out.append(_ESCAPES.get(escaped, escaped))
        else:
            out.append(letter)
    return "".join(out)
