"""One client's connection, from hello to goodbye: what each packet asks for, and what is answered."""

import hmac
import re
import select
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from time import monotonic
from typing import BinaryIO, Final

from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import ErrorCodes
from clickhouse_driver.protocol import ClientPacketTypes

from orgstats.deploy.local.chdb_server import native
from orgstats.deploy.local.chdb_server.engine import (
    CANCELLED,
    Engine,
    EngineConnection,
    EngineError,
    Statistics,
    without_comments,
)
from orgstats.deploy.local.chdb_server.wire import (
    REVISION,
    SCALAR,
    Inbox,
    Outbox,
    ProtocolError,
    Query,
    progress_packet,
)

DISPLAY_NAME: Final = "orgstats on chDB (for laptops and tests, not for production)"
HELLO_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 0.01  # what is answered within this time is sent as one
AUTHENTICATION_FAILED: Final = 516
UNREADABLE: Final = (native.UnsupportedType, DriverError, ImportError, MemoryError, OverflowError)
NOTHING: Final = Statistics(0, 0, 0, 0)

_NAME: Final = r"(?:`(?:[^`\\]|\\.)+`|\"(?:[^\"\\]|\\.)+\"|\w+)"
_PARENTHESES: Final = r"\((?:[^()]|\([^()]*\))*\)"
_INSERT: Final = re.compile(
    rf"""\s*(?P<into>INSERT\s+(?:INTO\s+)?(?:TABLE\s+)?
             (?P<target>FUNCTION\s+\w+\s*{_PARENTHESES}|{_NAME}(?:\s*\.\s*{_NAME})?)\s*
             (?P<columns>{_PARENTHESES})?)\s*
         (?P<settings>SETTINGS\s+[^()]*?)?\s*
         (?:VALUES|FORMAT\s+\w+)\s*;?\s*$""",
    re.IGNORECASE | re.VERBOSE,
)


class Session:
    """Serves one client until it leaves, misbehaves, or the server drains.

    `run` belongs to one thread; `watch` and `drain` may be called from others.
    """

    def __init__(self, connection: socket.socket, engine: Engine, user: str, password: str) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or every query takes 40 ms more
        self._connection = connection
        self._engine = engine
        self._account = f"{user}\0{password}".encode()
        self._inbox = Inbox(connection)
        self._outbox = Outbox(connection)
        self._lock = threading.Lock()  # over what follows
        self._answering = False
        self._draining = False
        self._cancelled = False
        self._tag = ""
        self._statement_since = 0.0
        self._engine_works = False  # nobody reads or sends meanwhile

    def run(self) -> None:
        """Serves; returns when the connection is closed. Never raises for what a client does."""
        with closing(self._connection):
            try:
                self._connection.settimeout(HELLO_SECONDS)
                if chdb := self._greet():
                    with closing(chdb):
                        self._connection.settimeout(None)
                        while self._serve(chdb):
                            pass
            except (EOFError, OSError):
                pass  # the client is gone; nothing of an unfinished insert was stored
            except ProtocolError as error:
                self._refuse(EngineError(error.code, f"DB::Exception: {error}"))

    def drain(self) -> None:
        """Ends the session, after the statement it is answering."""
        with self._lock:
            self._draining = True
            if not self._answering:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RD)

    def watch(self, older_than: float) -> str | None:
        """Looks after a statement that began before `older_than` (monotonic seconds).

        Its client hears that it is still worked on. When the client has cancelled or left, the tag of the
        engine's connection is returned: there is something to kill.
        """
        with self._lock:
            if not self._engine_works or self._statement_since > older_than or self._cancelled:
                return None
            self._cancelled = self._client_spoke()
            if self._cancelled:
                return self._tag
            with suppress(OSError):
                if self._is(select.POLLOUT):
                    self._connection.send(progress_packet(NOTHING))  # a few bytes: with room for them, all go
        return None

    def _client_spoke(self) -> bool:
        """Whether there is a cancel packet or the end of the stream: a waiting client says nothing else."""
        return self._is(select.POLLIN)

    def _is(self, event: int) -> bool:
        poll = select.poll()
        poll.register(self._connection, event)
        return bool(poll.poll(0))

    def _greet(self) -> EngineConnection | None:
        hello = self._inbox.hello()
        if hello.revision < REVISION:
            raise ProtocolError(f"clients from revision {REVISION} on are served, this is {hello.revision}")
        try:
            self._authenticate(hello.user, hello.password)
            chdb = self._engine.connect(hello.database or "default")
        except EngineError as error:
            self._refuse(error)
            return None
        self._tag = chdb.tag
        self._outbox.hello(DISPLAY_NAME, self._engine.version)
        self._outbox.flush()
        self._inbox.addendum()
        return chdb

    def _authenticate(self, user: str, password: str) -> None:
        if not hmac.compare_digest(self._account, f"{user}\0{password}".encode()):
            raise EngineError(
                AUTHENTICATION_FAILED,
                "DB::Exception: Authentication failed: password is incorrect, or there is no user with such "
                "name. (AUTHENTICATION_FAILED)",
            )

    def _refuse(self, error: EngineError) -> None:
        with suppress(OSError):
            self._outbox.exception(error)
            self._outbox.flush()

    def _serve(self, chdb: EngineConnection) -> bool:
        packet = self._inbox.packet_type()
        if packet == ClientPacketTypes.PING:
            self._outbox.pong()
            self._outbox.flush()
        elif packet == ClientPacketTypes.TABLES_STATUS_REQUEST:  # another server, before its part of a query
            self._outbox.tables_status(self._inbox.tables())
            self._outbox.flush()
        elif packet == ClientPacketTypes.QUERY:
            with self._lock:
                self._answering, self._cancelled, self._statement_since = True, False, monotonic()
            self._answer(chdb, self._inbox.query())
            with self._lock:
                self._answering = False
        elif packet != ClientPacketTypes.CANCEL:  # that one came after its statement had ended
            raise ProtocolError(f"packet {packet} was not expected here")
        return not self._draining

    def _answer(self, chdb: EngineConnection, query: Query) -> None:
        if self._data(query.compressed, []) >= 0:
            raise ProtocolError("external tables are not served", ErrorCodes.NOT_IMPLEMENTED)
        try:
            chdb.apply(query.settings)
            if insert := _INSERT.match(without_comments(query.text)):
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
        total, rows, blocks = NOTHING, 0, 0
        for piece, added in self._pieces(chdb, query):
            total = Statistics(*map(sum, zip(total, added, strict=True)))
            for block_rows, block in _wire_blocks(piece):
                if not blocks:
                    self._outbox.block(native.wire_header(native.header_of(piece)), query.compressed)
                self._outbox.block(block, query.compressed)
                rows, blocks = rows + block_rows, blocks + 1
            if monotonic() - self._statement_since > PATIENCE_SECONDS:
                self._outbox.flush()
        if not blocks and (header := chdb.header(query.text, query.params)):
            self._outbox.block(native.wire_header(header), query.compressed)
        self._outbox.profile_info(rows, blocks)
        self._outbox.progress(total)
        self._outbox.end_of_stream()

    def _pieces(self, chdb: EngineConnection, query: Query) -> Generator[tuple[bytes, Statistics]]:
        with closing(chdb.stream(query.text, query.params)) as stream:
            while not self._cancelled:
                with self._working():
                    piece = next(stream, None)
                if piece is None:
                    return
                yield piece
                self._cancelled = self._cancelled or self._client_spoke()

    def _insert(self, chdb: EngineConnection, query: Query, insert: re.Match[str]) -> None:
        columns = (insert["columns"] or "(*)")[1:-1]
        header = chdb.header(f"SELECT {columns} FROM {insert['target']}", query.params)  # noqa: S608
        _check_types(header)
        self._outbox.block(native.wire_header(header), query.compressed)
        self._outbox.flush()
        with self._engine.spool() as data:
            rows = self._receive(query.compressed, data)
            with self._working():
                written = chdb.insert(insert["into"], insert["settings"] or "", data) if rows else 0
        self._outbox.profile_events()
        self._outbox.progress(Statistics(0, 0, written, 0))
        self._outbox.end_of_stream()

    def _receive(self, compressed: bool, data: BinaryIO) -> int:
        """Puts all blocks of an insert into a file; returns their rows.

        They wait there for the last one, so that half an insert is none.
        """
        rows = 0
        while True:
            pieces: list[native.Piece] = []
            block_rows = self._data(compressed, pieces)
            if block_rows < 0:
                return rows
            data.writelines(pieces)
            rows += block_rows
            self._outbox.profile_events()  # the client waits for it after each block
            self._outbox.flush()

    def _data(self, compressed: bool, out: list[native.Piece]) -> int:
        try:
            while (packet := self._inbox.packet_type()) == SCALAR:
                self._inbox.data(compressed, [])
            if packet != ClientPacketTypes.DATA:
                raise ProtocolError(f"packet {packet} where data was expected")
            return self._inbox.data(compressed, out)
        except UNREADABLE as error:
            raise ProtocolError(f"unreadable data: {error!r}") from None

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._engine_works = True
        try:
            yield
        finally:
            with self._lock:
                self._engine_works = False


def _wire_blocks(piece: bytes) -> Iterator[tuple[int, bytes]]:
    try:
        yield from native.wire_blocks(piece)
    except (native.UnsupportedType, native.Malformed) as error:
        raise EngineError(ErrorCodes.NOT_IMPLEMENTED, f"DB::Exception: not served by chDB: {error}") from None


def _check_types(header: list[tuple[str, str]]) -> None:
    for name, type_name in header:
        try:
            native.column_of(type_name)
        except native.UnsupportedType as error:
            raise EngineError(
                ErrorCodes.NOT_IMPLEMENTED, f"DB::Exception: column {name} is not served by chDB: {error}"
            ) from None
