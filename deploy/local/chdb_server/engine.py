"""chDB as this server needs it: one engine per directory, one chDB connection per client connection.

What was found of chDB 4.4: connections to one directory run their queries in parallel and release Python's
lock; one connection runs one query at a time. SET and USE belong to a connection. KILL QUERY works.
"""

import fcntl
import json
import re
import tempfile
from collections.abc import Generator, Hashable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TextIO, cast

import chdb

_TAGS: Final = count(1)
_CODE: Final = re.compile(r"Code: (\d+)\. (DB::\w*Exception: .*)", re.DOTALL)
_STREAMED: Final = re.compile(r"\s*[(\s]*(SELECT|WITH|FROM)\b", re.IGNORECASE)
_LISTING: Final = re.compile(r"\s*(SHOW|DESCRIBE|DESC|EXPLAIN|EXISTS)\b", re.IGNORECASE)
_FORMAT: Final = re.compile(r"\s+FORMAT\s+\w+\s*;?\s*$", re.IGNORECASE)  # formats are the client's affair
_COMMENT: Final = re.compile(r"\s*(--[^\n]*(\n|$)|/\*.*?\*/)", re.DOTALL)
SYNTAX_ERROR: Final = 62
CANNOT_OPEN: Final = 76
UNKNOWN_SETTING: Final = 115
CANCELLED: Final = 394
UNKNOWN_EXCEPTION: Final = 1002
MAX_HEADERS: Final = 256
UNSETTABLE: Final = ("log_comment", "run_query_in_background")
"""The first marks our queries; the second, which other servers send with theirs, no SET may change."""
CONFIG_NAME: Final = "config.xml"
"""A file of this name in the directory is the engine's configuration: clusters, macros."""


class EngineError(Exception):
    """An error of the engine: ClickHouse's own number and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Setting(NamedTuple):
    """One setting of a query as the client sent it."""

    value: str
    important: bool  # an unknown important setting is an error, others are ignored


class Statistics(NamedTuple):
    """What one piece of a result adds to a query's progress."""

    read_rows: int
    read_bytes: int
    written_rows: int
    written_bytes: int


class Engine:
    """The engine on one directory; it stays loaded as long as this object is open."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the directory. Raises EngineError, also when another process has it open."""
        self.path = path
        self._lock = _lock(path)
        self._keeper = _connect(path)  # the engine unloads with its last connection, so one stays open
        rows = self._rows("SELECT name FROM system.settings UNION ALL SELECT alias_for FROM system.settings")
        self.setting_names = frozenset(name for (name,) in rows)
        self.changes = 0  # statements so far that may have changed a table
        self.version = str(self._rows("SELECT version()")[0][0])

    def connect(self, database: str) -> "EngineConnection":
        """A connection with `database` as its current one; EngineError 81 when there is none of that name."""
        return EngineConnection(self, database)

    def spool(self) -> BinaryIO:
        """A file without a name for data on its way in: on disk, because an insert may exceed the memory."""
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self.path))  # the caller closes it

    def kill(self, tag: str) -> None:
        """Stops what the connection of this tag is running; returns before it has stopped."""
        self._keeper.query(f"KILL QUERY WHERE Settings['log_comment'] = {_quote(tag)} ASYNC")

    def close(self) -> None:
        """Unloads the engine; every connection must have been closed."""
        self._keeper.close()
        self._lock.close()

    def _rows(self, sql: str) -> list[list[Any]]:
        return _json_rows(self._keeper.query(sql, "JSONCompactEachRow").bytes())


class EngineConnection:
    """One chDB connection: its own database, settings and temporary tables; for one thread."""

    def __init__(self, engine: Engine, database: str) -> None:
        self.tag = f"connection-{next(_TAGS)}"
        self._engine = engine
        self._database = database
        self._headers: dict[Hashable, list[tuple[str, str]]] = {}
        self._open()

    def _open(self) -> None:
        self._chdb = _connect(self._engine.path)
        self._settings: dict[str, str] = {}
        try:
            # log_comment marks this connection's queries for kill(); without implicit_select a typing error
            # is a syntax error, as on a server; LZ4 is what a shard behind this same protocol can read
            own = "implicit_select = 0, network_compression_method = 'LZ4'"
            self._run(f"SET log_comment = {_quote(self.tag)}, {own}")
            self._run(f"USE {_quote(self._database, '`')}")
        except EngineError:
            self.close()
            raise

    def close(self) -> None:
        self._chdb.close()

    def apply(self, wanted: Mapping[str, Setting]) -> None:
        """Makes the settings that hold for the next query exactly these.

        They live in the connection, and a SET costs 0.2 ms, so only differences from the last query are set.
        Raises EngineError; nothing of a refused set remains.
        """
        names = self._engine.setting_names
        for name, setting in wanted.items():
            if setting.important and name not in names:
                raise EngineError(UNKNOWN_SETTING, f"DB::Exception: Unknown setting {name}")
        self._set({k: s.value for k, s in wanted.items() if k in names and k not in UNSETTABLE})

    def _set(self, target: dict[str, str]) -> None:
        if target == self._settings:
            return
        if "readonly" in self._settings:
            self._reopen()  # nothing can be set any more, and readonly not left; temporary tables are lost
        held = self._settings
        changes = [f"{k} = DEFAULT" for k in held if k not in target]
        changes += [f"{k} = {_quote(v)}" for k, v in target.items() if held.get(k) != v]
        try:
            if changes:
                self._run("SET " + ", ".join(changes))
        except EngineError:
            self._reopen()
            raise
        self._settings = target

    def _reopen(self) -> None:
        self.close()
        self._open()

    def stream(self, sql: str, params: Mapping[str, str]) -> Generator[tuple[bytes, Statistics]]:
        """Runs a statement; yields its result in pieces of Native format, at least one, the last often empty.

        Raises EngineError, also between pieces. Closing the iterator early cancels the statement.
        """
        if _STREAMED.match(without_comments(sql)):
            yield from self._stream(_FORMAT.sub("", sql), params)
        else:
            yield self._whole(sql, params)

    def _stream(self, sql: str, params: Mapping[str, str]) -> Generator[tuple[bytes, Statistics]]:
        try:
            with self._chdb.send_query(sql, "Native", params=dict(params)) as stream:
                while (piece := stream.fetch()) is not None:
                    yield piece.bytes(), _statistics(piece)
        except RuntimeError as error:
            raise _engine_error(error) from None

    def _whole(self, sql: str, params: Mapping[str, str]) -> tuple[bytes, Statistics]:
        if not without_comments(sql).strip("; \n"):
            raise EngineError(SYNTAX_ERROR, "DB::Exception: Empty query. (SYNTAX_ERROR)")
        if self._chdb._conn.classify_query(sql)["statement_count"] > 1:  # noqa: SLF001  # no public name
            raise EngineError(
                SYNTAX_ERROR, "DB::Exception: Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)"
            )
        try:
            result = self._run(sql, "Native", params)
        finally:
            self._engine.changes += not _LISTING.match(sql)
        if sql.strip().upper().startswith("USE "):
            self._database = self._current_database()
        return result.bytes(), _statistics(result)

    def header(self, sql: str, params: Mapping[str, str]) -> list[tuple[str, str]]:
        """Names and types of a statement's result; empty for a statement without one.

        The engine says nothing about the columns of a result without rows, and asking for them costs as much
        as a small query: they are kept until any connection runs a statement that may change a table.
        """
        key = (self._engine.changes, self._database, frozenset(self._settings.items()), sql)
        if (known := self._headers.get(key)) is None:
            if len(self._headers) >= MAX_HEADERS:
                self._headers.clear()
            known = self._headers[key] = self._header(sql, params)
        return known

    def _header(self, sql: str, params: Mapping[str, str]) -> list[tuple[str, str]]:
        text = _FORMAT.sub("", without_comments(sql)).rstrip().rstrip(";")
        with self._without_limits():
            if _STREAMED.match(text):
                described = self._run(f"DESCRIBE ({text}\n)", "JSONCompactEachRow", params)
                return [(row[0], row[1]) for row in _json_rows(described.bytes())]
            if _LISTING.match(text):
                listed = self._run(text, "JSONCompactEachRowWithNamesAndTypes", params)
                names, types = _json_rows(listed.bytes())[:2]
                return list(zip(names, types, strict=True))
        return []

    @contextmanager
    def _without_limits(self) -> Iterator[None]:
        """What is asked for a client's sake is not held to the limits of its query."""
        settings = self._settings
        self._set({k: v for k, v in settings.items() if k != "readonly" and not k.startswith("max_")})
        try:
            yield
        finally:
            self._set(settings)

    def insert(self, into: str, settings: str, data: BinaryIO) -> int:
        """Inserts a file in Native format; `into` and `settings` are those parts of an INSERT. Rows written.

        chDB's own send_insert is not used: it reports success for rows that the table refused (a constraint,
        too many partitions). A file is named by its descriptor, since a path may hold what looks like a glob.
        Raises EngineError; then nothing is stored, unless the data is above a million rows, which the engine
        stores in portions.
        """
        data.seek(0)
        sql = f"{into} FROM INFILE '/dev/fd/{data.fileno()}' {settings} FORMAT Native"
        return int(self._run(sql).rows_written())

    def _current_database(self) -> str:
        rows = _json_rows(self._run("SELECT currentDatabase()", "JSONCompactEachRow").bytes())
        return str(rows[0][0])

    def _run(self, sql: str, output: str = "Native", params: Mapping[str, str] | None = None) -> Any:
        try:
            return self._chdb.query(sql, output, params=dict(params or {}))
        except RuntimeError as error:
            raise _engine_error(error) from None


def _lock(path: Path) -> TextIO:
    """The engine's own refusal of a directory in use has no reason in its text, so this one comes first."""
    path.mkdir(parents=True, exist_ok=True)
    lock = (path / "chdb_server.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise EngineError(CANNOT_OPEN, f"the directory {path} is in use by another server") from None
    return lock


def _connect(path: Path) -> Any:
    config = path / CONFIG_NAME
    try:
        return chdb.connect(f"{path}?config-file={config}" if config.exists() else str(path))
    except RuntimeError as error:
        raise _engine_error(error) from None


def _engine_error(error: Exception) -> EngineError:
    """chDB puts the error's number into the text; the outermost one counts."""
    if found := _CODE.search(str(error)):
        return EngineError(int(found[1]), found[2])
    return EngineError(UNKNOWN_EXCEPTION, f"DB::Exception: {error}")


def _statistics(result: Any) -> Statistics:
    return Statistics(
        result.storage_rows_read(), result.storage_bytes_read(), result.rows_written(), result.bytes_written()
    )


def without_comments(sql: str) -> str:
    """A statement from its first word on."""
    while found := _COMMENT.match(sql):
        sql = sql[found.end() :]
    return sql


def _json_rows(data: bytes) -> list[list[Any]]:
    return [json.loads(line) for line in data.splitlines()]


def _quote(text: str, mark: str = "'") -> str:
    return mark + text.replace("\\", "\\\\").replace(mark, "\\" + mark) + mark
