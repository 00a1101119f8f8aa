"""One client's connection, from hello to goodbye: what each packet asks for, and what is answered."""

import hmac
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final

from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import ErrorCodes
from clickhouse_driver.protocol import ClientPacketTypes

from deploy.local.chdb_server.engine import CANCELLED, Engine, EngineConnection, EngineError, Statistics
from deploy.local.chdb_server.native import Piece, UnsupportedType, header_of, wire_blocks, wire_header
from deploy.local.chdb_server.wire import REVISION, Inbox, Outbox, ProtocolError, Query

DISPLAY_NAME: Final = "orgstats on chDB (for laptops and tests, not for production)"
MAX_INSERT_BYTES: Final = 1 << 30
HELLO_SECONDS: Final = 10.0
AUTHENTICATION_FAILED: Final = 516

_NAME: Final = r"(?:`(?:[^`\\]|\\.)+`|\"(?:[^\"\\]|\\.)+\"|\w+)"
_PARENTHESES: Final = r"\((?:[^()]|\([^()]*\))*\)"
_INSERT: Final = re.compile(
    rf"""\s*(?P<head>INSERT\s+(?:INTO\s+)?(?:TABLE\s+)?
             (?P<target>FUNCTION\s+\w+\s*{_PARENTHESES}|{_NAME}(?:\s*\.\s*{_NAME})?)\s*
             (?P<columns>{_PARENTHESES})?\s*
             (?:SETTINGS\s+[^()]*?)?)\s*
         (?:VALUES|FORMAT\s+\w+)\s*;?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)


class Session:
    """Serves one client until it leaves, misbehaves, or the server drains; for one thread."""

    def __init__(self, connection: socket.socket, engine: Engine, user: str, password: str) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or every query takes 40 ms more
        self._connection = connection
        self._engine = engine
        self._account = (user, password)
        self._inbox = Inbox(connection)
        self._outbox = Outbox(connection)
        self._chdb: EngineConnection | None = None
        self._sending = threading.Lock()  # the watcher sends progress while the engine works
        self._busy_since: float | None = None
        self._cancelled = False
        self._draining = False

    def run(self) -> None:
        """Serves; returns when the connection is to be closed. Never raises for what a client does."""
        try:
            self._connection.settimeout(HELLO_SECONDS)
            if self._greet():
                self._connection.settimeout(None)
                while not self._draining and self._serve():
                    pass
        except (EOFError, OSError):
            pass  # the client is gone; nothing of an unfinished insert was stored
        except (ProtocolError, UnsupportedType, DriverError) as error:
            self._refuse(EngineError(ErrorCodes.UNEXPECTED_PACKET_FROM_CLIENT, f"DB::Exception: {error}"))
        finally:
            if self._chdb:
                self._chdb.close()
            self._connection.close()

    def drain(self) -> None:
        """Lets a running statement finish and ends the session; called by another thread."""
        self._draining = True
        if self._busy_since is None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)

    def _greet(self) -> bool:
        hello = self._inbox.hello()
        if hello.revision < REVISION:
            raise ProtocolError(f"clients from revision {REVISION} on are served, this is {hello.revision}")
        try:
            self._authenticate(hello.user, hello.password)
            self._chdb = self._engine.connect()
            if hello.database:
                self._chdb.use(hello.database)
        except EngineError as error:
            self._refuse(error)
            return False
        self._outbox.hello(DISPLAY_NAME, self._engine.version)
        self._outbox.flush()
        self._inbox.addendum()
        return True

    def _authenticate(self, user: str, password: str) -> None:
        mine = "\0".join(self._account).encode()
        theirs = f"{user}\0{password}".encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(mine, theirs):
            raise EngineError(
                AUTHENTICATION_FAILED,
                "DB::Exception: Authentication failed: password is incorrect, or there is no user with such "
                "name. (AUTHENTICATION_FAILED)",
            )

    def _refuse(self, error: EngineError) -> None:
        with suppress(OSError):
            self._outbox.exception(error)
            self._outbox.flush()

    def _serve(self) -> bool:
        packet = self._inbox.packet_type()
        if packet == ClientPacketTypes.PING:
            self._outbox.pong()
            self._outbox.flush()
        elif packet == ClientPacketTypes.QUERY:
            self._answer(self._inbox.query())
        elif packet != ClientPacketTypes.CANCEL:  # it came after the statement had ended
            raise ProtocolError(f"packet {packet} was not expected here")
        return True

    def _answer(self, query: Query) -> None:
        if self._data(query.compressed, []) >= 0:
            raise ProtocolError("external tables are not supported")
        chdb = self._chdb
        assert chdb is not None
        try:
            chdb.apply(query.settings)
            if insert := _INSERT.match(query.text):
                self._insert(chdb, query, insert)
            else:
                self._result(chdb, query)
        except EngineError as error:
            if self._cancelled and error.code == CANCELLED:
                self._outbox.end_of_stream()
            else:
                self._outbox.exception(error)
        self._outbox.flush()

    def _result(self, chdb: EngineConnection, query: Query) -> None:
        total, rows, blocks = Statistics(0, 0, 0, 0), 0, 0
        for native, added in self._pieces(chdb, query):
            total = Statistics(*map(sum, zip(total, added, strict=True)))
            if native and not blocks:
                self._outbox.block(wire_header(header_of(native)), query.compressed)
            for block_rows, block in wire_blocks(native):
                rows, blocks = rows + block_rows, blocks + 1
                with self._sending:
                    self._outbox.block(block, query.compressed)
        if not blocks and (header := chdb.header(query.text, query.params)):
            self._outbox.block(wire_header(header), query.compressed)
        self._outbox.profile_info(rows, blocks)
        self._outbox.progress(total)
        self._outbox.end_of_stream()

    def _pieces(self, chdb: EngineConnection, query: Query) -> Iterator[tuple[bytes, Statistics]]:
        stream = chdb.stream(query.text, query.params)
        try:
            while not self._cancelled:
                with self._working():
                    piece = next(stream, None)
                if piece is None:
                    return
                yield piece
        finally:
            stream.close()

    def _insert(self, chdb: EngineConnection, query: Query, insert: re.Match[str]) -> None:
        columns = (insert["columns"] or "(*)")[1:-1]
        header = chdb.header(f"SELECT {columns} FROM {insert['target']}", query.params)  # noqa: S608
        self._outbox.block(wire_header(header), query.compressed)
        self._outbox.flush()
        blocks, rows = self._inserted_blocks(query.compressed)
        with self._working():
            written = chdb.insert(insert["head"], blocks) if rows else 0
        self._outbox.profile_events()
        self._outbox.progress(Statistics(0, 0, written, sum(map(len, blocks))))
        self._outbox.end_of_stream()

    def _inserted_blocks(self, compressed: bool) -> tuple[list[bytes], int]:
        """All blocks of an insert; they wait here for the last one, so that half an insert is none."""
        blocks: list[bytes] = []
        rows = size = 0
        while True:
            pieces: list[Piece] = []
            block_rows = self._data(compressed, pieces)
            if block_rows < 0:
                return blocks, rows
            blocks.append(b"".join(pieces))
            rows, size = rows + block_rows, size + len(blocks[-1])
            if size > MAX_INSERT_BYTES:
                raise EngineError(
                    ErrorCodes.MEMORY_LIMIT_EXCEEDED,
                    f"DB::Exception: an insert above {MAX_INSERT_BYTES} bytes. (MEMORY_LIMIT_EXCEEDED)",
                )
            self._outbox.profile_events()
            self._outbox.flush()

    def _data(self, compressed: bool, out: list[Piece]) -> int:
        if (packet := self._inbox.packet_type()) != ClientPacketTypes.DATA:
            raise ProtocolError(f"packet {packet} where data was expected")
        return self._inbox.data(compressed, out)

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._busy_since = monotonic()
        try:
            yield
        finally:
            self._busy_since = None
