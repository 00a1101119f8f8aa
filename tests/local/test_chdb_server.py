"""chDB behind the native protocol answers clickhouse_driver as a ClickHouse server does; over real sockets."""

import datetime as dt
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import NetworkError, ServerException

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import chdb_server
from orgstats.errors import Unavailable
from tests.support.wait import wait_for

PASSWORD = "pass/word @1"
SCHEMAS = Path(__file__).parents[2] / "schemas" / "clickhouse"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chdb_server.Running]:
    """One server for the tests that leave it running."""
    path = tmp_path_factory.mktemp("chdb")
    running = chdb_server.start(path, password=PASSWORD)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in (path / chdb_server.LOG_NAME).read_text()


class Connect(Protocol):
    """Makes clients, which are disconnected when the test ends."""

    def __call__(self, port: int, **options: Any) -> Client: ...


@pytest.fixture
def dial() -> Iterator[Connect]:
    """Makes clients as anyone would, with the options given."""
    made: list[Client] = []

    def make(port: int, **options: Any) -> Client:
        options = {"password": PASSWORD, "send_receive_timeout": 60, **options}
        made.append(Client("127.0.0.1", port, **options))
        return made[-1]

    yield make
    for client in made:
        client.disconnect()


@pytest.fixture(params=["lz4", False], ids=["lz4", "plain"])
def client(server: chdb_server.Running, dial: Connect, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client in a database of its own, with and without compression."""
    database = f"test_{uuid.uuid4().hex[:8]}"
    admin = dial(server.port)
    admin.execute(f"CREATE DATABASE {database}")
    yield dial(server.port, database=database, compression=request.param)
    admin.execute(f"DROP DATABASE {database} SYNC")


def code_of(call: Callable[[], Any]) -> int:
    """The code of the exception that the server answers with."""
    with pytest.raises(ServerException) as caught:
        call()
    return int(caught.value.code)


def executed(schema: Path, client: Client) -> None:
    """Applies one migration."""
    for statement in re.sub(r"--.*", "", schema.read_text()).split(";"):
        if statement.strip():
            client.execute(statement)


def test_server_reports_name_and_version(server: chdb_server.Running, dial: Connect) -> None:
    """The hello names the engine's version and a display name that says it is not for production."""
    client = dial(server.port)
    version = client.execute("SELECT version()")[0][0]
    info = client.connection.server_info
    assert version.startswith("{}.{}.{}".format(*info.version_tuple()))
    assert "not for production" in info.display_name
    assert info.get_timezone() == "UTC"
    assert client.connection.ping()


def test_own_connection_settings_are_accepted(server: chdb_server.Running) -> None:
    """`orgstats.clickhouse.connect.connect` with the URL of the running server gets answers."""
    client = connect(server.url, client_name="tests")
    assert client.execute("SELECT currentDatabase(), timezone()") == [("default", "UTC")]
    client.disconnect()


@pytest.mark.parametrize("account", [{"password": "wrong"}, {"password": ""}, {"user": "other"}])
def test_another_password_or_user_is_refused(
    server: chdb_server.Running, account: dict[str, str], dial: Connect
) -> None:
    """A wrong password and an unknown user get the same exception, 516."""
    assert code_of(lambda: dial(server.port, **account).execute("SELECT 1")) == 516


def test_an_unknown_database_is_refused(server: chdb_server.Running, dial: Connect) -> None:
    """A database that is not there gets exception 81, as from a server; none is made on demand."""
    assert code_of(lambda: dial(server.port, database="nowhere").execute("SELECT 1")) == 81


def utc(*parts: int) -> dt.datetime:
    """A time in UTC."""
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type,misc]  # at most microseconds


def in_utc(value: Any) -> Any:
    """The driver leaves out the zone of a column where it is the server's."""
    return value.replace(tzinfo=dt.UTC) if isinstance(value, dt.datetime) else value


TYPES: dict[str, list[Any]] = {
    "UInt8": [0, 255],
    "UInt16": [0, 65535],
    "UInt32": [0, 2**32 - 1],
    "UInt64": [0, 2**64 - 1],
    "Int8": [-128, 127],
    "Int64": [-(2**63), 2**63 - 1],
    "UInt128": [0, 2**128 - 1],
    "Float32": [0.5, -1.5],
    "Float64": [0.1, float("inf")],
    "Bool": [True, False],
    "Date": [dt.date(1970, 1, 1), dt.date(2026, 2, 3)],
    "DateTime('UTC')": [utc(1970, 1, 1, 0, 0, 0), utc(2106, 2, 7, 6, 28, 10)],
    "DateTime64(3, 'UTC')": [utc(2026, 2, 3, 4, 5, 6, 789000), utc(1970, 1, 1)],
    "Decimal(18, 4)": [Decimal("1.2345"), Decimal(-1)],
    "UUID": [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)],
    "IPv4": [IPv4Address("127.0.0.1"), IPv4Address("10.0.0.1")],
    "Enum8('a' = -1, 'it\\'s, (b)' = 7)": ["a", "it's, (b)"],
    "LowCardinality(String)": ["", "é" * 200],
    "LowCardinality(Nullable(String))": [None, "x"],
    "FixedString(3)": ["abc", "xyz"],
    "String": ["", "long " * 60_000],
    "Nullable(String)": [None, ""],
    "Nullable(DateTime64(3, 'UTC'))": [None, utc(2026, 1, 1)],
    "Array(String)": [[], ["a", "bb"]],
    "Array(Array(UInt8))": [[], [[1], [], [2, 3]]],
    "Array(Nullable(UInt64))": [[None], [1, 2]],
    "Array(LowCardinality(String))": [[], ["a", "a"]],
    "Array(Tuple(String, String))": [[], [("key", "value"), ("", "")]],
    "Tuple(UInt8, Array(String))": [(1, []), (2, ["x"])],
    "Tuple(`a b` UInt8, c LowCardinality(String))": [(1, "x"), (2, "y")],
    "Map(String, UInt64)": [{}, {"a": 1, "b": 2}],
    "Map(LowCardinality(String), Array(String))": [{}, {"a": ["b"]}],
    "SimpleAggregateFunction(max, UInt64)": [1, 2],
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("columnar", [False, True], ids=["rows", "columns"])
def test_every_type_round_trips(client: Client, kind: str, columnar: bool) -> None:
    """Values of each type are the same after an insert and a select."""
    values = TYPES[kind]
    client.execute(f"CREATE TABLE t (n UInt8, v {kind}) ENGINE = MergeTree ORDER BY n")
    data: list[Any] = [[0, 1], list(values)] if columnar else list(enumerate(values))
    assert client.execute("INSERT INTO t VALUES", data, columnar=columnar) == 2
    back = client.execute("SELECT v FROM t ORDER BY n")
    assert [in_utc(value) for (value,) in back] == values


def test_binary_strings_round_trip(client: Client) -> None:
    """A String and a FixedString hold any bytes."""
    everything = bytes(range(256)) * 300
    binary = {"strings_as_bytes": True}
    client.execute("CREATE TABLE t (s String, f FixedString(4)) ENGINE = Memory")
    client.execute("INSERT INTO t VALUES", [(everything, b"\0\xff\0\xfe")], settings=binary)
    assert client.execute("SELECT s, f FROM t", settings=binary) == [(everything, b"\0\xff\0\xfe")]


def test_results_without_rows_name_their_columns(client: Client) -> None:
    """An empty result has the header that a server would send, from a select and from a listing."""
    empty = client.execute("SELECT 1::UInt8 AS a, 'x' AS b WHERE 0 -- no row", with_column_types=True)
    assert empty == ([], [("a", "UInt8"), ("b", "String")])
    assert client.execute("SHOW TABLES", with_column_types=True) == ([], [("name", "String")])
    assert client.execute("CREATE TABLE t (a UInt8) ENGINE = Memory", with_column_types=True) == ([], [])


def test_columns_of_empty_results_follow_the_table(client: Client, server: chdb_server.Running, dial: Connect) -> None:
    """After another client has changed a table, its empty result and its inserts have the new columns."""
    other = dial(server.port, database=client.connection.database)
    other.execute("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY tuple()")
    for kind in ("UInt8", "UInt64"):
        other.execute(f"ALTER TABLE t MODIFY COLUMN a {kind}")
        assert client.execute("SELECT * FROM t WHERE a = 9", with_column_types=True) == ([], [("a", kind)])
    client.execute("INSERT INTO t VALUES", [(300,)])
    other.execute("ALTER TABLE t ADD COLUMN b String")
    client.execute("INSERT INTO t VALUES", [(301, "b")])
    assert client.execute("SELECT * FROM t ORDER BY a") == [(300, ""), (301, "b")]


def test_large_results_are_sent_in_blocks(client: Client) -> None:
    """A large result arrives whole, in order and in more than one block."""
    blocks = list(client.execute_iter("SELECT number, toString(number) FROM numbers(300000)", chunk_size=65_409))
    assert len(blocks) > 1
    assert [row[0] for block in blocks for row in block] == list(range(300_000))
    assert client.last_query.progress.rows > 0
    assert client.last_query.profile_info.rows == 300_000


def peak_bytes(pid: int) -> int:
    """The most memory the process has ever had."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


def test_a_large_result_does_not_fill_the_memory(server: chdb_server.Running, dial: Connect) -> None:
    """A result of 600 MB is streamed: the server's memory grows by far less than that."""
    client = dial(server.port)
    before = peak_bytes(server.pid)
    sql = "SELECT repeat('x', 20000) FROM numbers(30000) SETTINGS max_block_size = 1000"
    assert sum(len(text) for (text,) in client.execute_iter(sql)) == 600_000_000
    assert peak_bytes(server.pid) - before < 400_000_000


def test_ddl_insert_select_and_show_work(client: Client) -> None:
    """DDL, INSERT with values in the text, INSERT … SELECT, and tables of other databases work."""
    client.execute("CREATE TABLE t (a UInt8, `odd name` String) ENGINE = MergeTree ORDER BY a")
    client.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    client.execute("/* copy */ INSERT INTO t SELECT a + 10, `odd name` FROM t")
    client.execute("-- some\nINSERT INTO t (a, `odd name`) VALUES", [{"a": 3, "odd name": "three"}])
    client.execute("INSERT INTO t (* EXCEPT(`odd name`)) SETTINGS async_insert = 0 VALUES", [(4,)])
    client.execute("INSERT INTO TABLE t (a) FORMAT Native", [(5,)])
    database = client.connection.database
    client.execute(f"INSERT INTO {database}.`t` (a) VALUES", iter_of([(6,)]))
    client.execute("ALTER TABLE t ADD COLUMN c UInt8 DEFAULT a")
    assert client.execute("SELECT a FROM t ORDER BY a FORMAT Null") == [(n,) for n in (1, 2, 3, 4, 5, 6, 11, 12)]
    assert client.execute("SELECT sum(c) FROM t") == [(44,)]


def iter_of(rows: list[Any]) -> Iterator[Any]:
    """A generator, which the driver sends in chunks."""
    yield from rows


def test_an_insert_without_rows_stores_nothing(client: Client) -> None:
    """An insert whose data is empty ends well."""
    client.execute("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
    assert client.execute("INSERT INTO t VALUES", []) == 0
    assert client.execute("SELECT count() FROM t") == [(0,)]


def test_parameters_are_filled_in_by_the_server(server: chdb_server.Running, dial: Connect) -> None:
    """Server-side parameters keep any text, number, time and list."""
    client = dial(server.port, settings={"server_side_params": True})
    values = {"text": "o'neill\\ \n\t\0 %s {x:String} é", "number": 2**64 - 1, "list": ["a'b", "c\\"], "none": None}
    sql = "SELECT {text:String}, {number:UInt64}, {list:Array(String)}, {time:DateTime('UTC')}"
    row = client.execute(sql, {**values, "time": utc(2026, 1, 2, 3, 4, 5)})[0]
    assert [in_utc(value) for value in row] == [
        values["text"], values["number"], values["list"], utc(2026, 1, 2, 3, 4, 5)
    ]  # fmt: skip
    empty = client.execute("SELECT {text:String} AS t WHERE 0", values, with_column_types=True)
    assert empty == ([], [("t", "String")])
    assert code_of(lambda: client.execute("SELECT {missing:String}", {"other": 1})) == 456


def test_parameters_stay_with_their_connection(server: chdb_server.Running, dial: Connect) -> None:
    """Sixteen clients with different parameters at once each get their own."""

    def ask(client_number: int) -> bool:
        client = dial(server.port, settings={"server_side_params": True})
        texts = [f"{client_number}-{n}" for n in range(100)]
        answers = [client.execute("SELECT {text:String}", {"text": text}) for text in texts]
        client.disconnect()
        return answers == [[(text,)] for text in texts]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(16)))


def test_settings_hold_for_one_query(client: Client) -> None:
    """A query's settings reach the engine and are gone with the next query."""
    ask = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    default = client.execute(ask)
    assert client.execute(ask, settings={"max_block_size": 1234, "max_threads": 1}) == [("1234",)]
    assert client.execute(ask, settings={"max_threads": 1}) == default
    assert client.execute(ask) == default


def test_a_settings_limit_does_not_reach_the_servers_own_questions(client: Client) -> None:
    """max_result_rows below the number of columns does not break inserts or empty results."""
    client.execute("CREATE TABLE t (a UInt8, b UInt8, c UInt8) ENGINE = Memory")
    limit = {"max_result_rows": 1}
    client.execute("INSERT INTO t VALUES", [(1, 2, 3)], settings=limit)
    for readonly in (0, 1):
        limit["readonly"] = readonly
        empty = client.execute("SELECT * FROM t WHERE a = 7", settings=limit, with_column_types=True)
        assert empty == ([], [("a", "UInt8"), ("b", "UInt8"), ("c", "UInt8")])
        assert code_of(lambda: client.execute("SELECT number FROM numbers(2)", settings=limit)) == 396


def test_readonly_setting_ends_with_the_query(client: Client) -> None:
    """readonly holds for its query alone: the next statement of the connection may write."""
    client.execute("CREATE TABLE t (a UInt8) ENGINE = Memory")
    for level in (1, 2, 1):
        for threads in (2, 1):
            settings = {"readonly": level, "max_threads": threads}
            assert client.execute("SELECT getSetting('max_threads')", settings=settings) == [(threads,)]
        client.execute("INSERT INTO t VALUES", [(1,)], settings={"max_threads": 1, "max_block_size": 1000 + level})
        write = lambda level=level: client.execute("INSERT INTO t SELECT 1", settings={"readonly": level})  # noqa: E731
        assert code_of(write) == 164
    assert client.execute("SELECT count() FROM t") == [(3,)]


def test_final_setting_applies(client: Client) -> None:
    """`final` as a setting merges versions while reading."""
    client.execute("CREATE TABLE t (k UInt8, v UInt8) ENGINE = ReplacingMergeTree(v) ORDER BY k")
    client.execute("SYSTEM STOP MERGES t")
    for version in (1, 3, 2):
        client.execute("INSERT INTO t VALUES", [(1, version)])
    assert client.execute("SELECT v FROM t", settings={"final": 1}) == [(3,)]
    assert client.execute("SELECT count() FROM t") == [(3,)]


def test_unknown_settings_are_refused(server: chdb_server.Running, dial: Connect) -> None:
    """An unknown setting is ignored, unless the client says that it matters: then it is exception 115."""
    relaxed, strict = dial(server.port), dial(server.port, settings_is_important=True)
    assert relaxed.execute("SELECT 1", settings={"no_such_setting": 1}) == [(1,)]
    assert code_of(lambda: strict.execute("SELECT 1", settings={"no_such_setting": 1})) == 115
    assert strict.execute("SELECT 1", settings={"max_threads": 1}) == [(1,)]


@pytest.mark.parametrize(
    ("code", "sql", "settings"),
    [
        (60, "SELECT * FROM nowhere", {}),
        (60, "INSERT INTO nowhere VALUES", {}),
        (60, "DROP TABLE nowhere", {}),
        (47, "SELECT nothing", {}),
        (62, "SELEC 1", {}),
        (62, "SELECT 1; SELECT 2", {}),
        (62, "DROP TABLE IF EXISTS a; DROP TABLE IF EXISTS b", {}),
        (62, "", {}),
        (46, "SELECT nofunction(1)", {}),
        (81, "USE nowhere", {}),
        (57, "CREATE TABLE system.one (a UInt8) ENGINE = Memory", {}),
        (159, "SELECT sleepEachRow(0.1) FROM numbers(100)", {"max_execution_time": 1, "max_block_size": 1}),
        (396, "SELECT number FROM numbers(100)", {"max_result_rows": 10}),
        (158, "SELECT count() FROM numbers(100)", {"max_rows_to_read": 10}),
        (395, "SELECT throwIf(number = 250000) FROM numbers(300000)", {}),
        (27, "SELECT 1", {"max_threads": "many"}),
        (452, "SELECT 1", {"enable_analyzer": 0}),
    ],
)
def test_errors_keep_their_code(client: Client, code: int, sql: str, settings: dict[str, Any]) -> None:
    """Errors come with ClickHouse's number and text, also in the middle of a result; the session goes on."""
    with pytest.raises(ServerException) as caught:
        client.execute(sql, [(1,)] if sql.endswith("VALUES") else None, settings=settings)
    assert caught.value.code == code
    assert "DB::Exception" in caught.value.message
    assert client.execute("SELECT 1") == [(1,)]


def test_a_type_that_cannot_be_served_is_an_error(client: Client) -> None:
    """A type whose bytes this server cannot frame gets exception 48; the session goes on."""
    assert code_of(lambda: client.execute("SELECT sumState(1)")) == 48
    client.execute("CREATE TABLE t (s AggregateFunction(sum, UInt8)) ENGINE = Memory")
    assert code_of(lambda: client.execute("INSERT INTO t VALUES", [(b"",)])) == 48
    assert client.execute("SELECT 1") == [(1,)]


def test_bad_data_stores_nothing(client: Client) -> None:
    """An insert that the engine refuses leaves no row, whichever of its blocks is bad."""
    client.execute("CREATE TABLE t (a UInt8, CONSTRAINT small CHECK a < 100) ENGINE = MergeTree ORDER BY a")
    rows = [(n,) for n in (*range(100), 200)]
    blocks_of_ten = {"insert_block_size": 10}
    assert code_of(lambda: client.execute("INSERT INTO t VALUES", rows, settings=blocks_of_ten)) == 469
    assert client.execute("SELECT count() FROM t") == [(0,)]


def test_a_short_query_does_not_wait_for_a_long_one(server: chdb_server.Running, dial: Connect) -> None:
    """While one client's query runs, others are answered."""
    slow, quick = dial(server.port), dial(server.port)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            slow.execute, "SELECT count(sleepEachRow(0.05)) FROM numbers(60) SETTINGS max_block_size = 1"
        )
        wait_for(lambda: quick.execute("SELECT count() FROM system.processes") == [(2,)], 10)
        assert not running.done()
        assert running.result() == [(60,)]


def test_sixty_four_clients_at_once(server: chdb_server.Running, dial: Connect) -> None:
    """Sixty-four connections insert and read at the same time, and every row is there in the end."""
    admin = dial(server.port)
    admin.execute("CREATE TABLE crowd (client UInt8, n UInt32) ENGINE = MergeTree ORDER BY client")
    everyone = threading.Barrier(64)

    def work(number: int) -> int:
        client = dial(server.port, compression="lz4" if number % 2 else False)
        client.execute("SELECT 1")
        everyone.wait(60)
        for n in range(5):
            client.execute("INSERT INTO crowd VALUES", [(number, n * 100 + k) for k in range(100)])
        count = client.execute("SELECT uniqExact(n) FROM crowd WHERE client = %(c)s", {"c": number})[0][0]
        client.disconnect()
        return int(count)

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(work, range(64))) == [500] * 64
    assert admin.execute("SELECT count() FROM crowd") == [(64 * 500,)]
    admin.execute("DROP TABLE crowd SYNC")


def running_queries(client: Client, text: str) -> int:
    """How many queries with this text the engine works on."""
    sql = "SELECT count() FROM system.processes WHERE query LIKE %(text)s AND query NOT LIKE '%%processes%%'"
    return int(client.execute(sql, {"text": f"%{text}%"})[0][0])


def test_disconnect_cancels_the_query(server: chdb_server.Running, dial: Connect) -> None:
    """A query whose client has gone is stopped; others are not disturbed."""
    leaver, other = dial(server.port), dial(server.port)
    leaver.execute("SELECT 1")
    leaver.connection.send_query(
        "SELECT count(sleepEachRow(1)) AS leaver FROM numbers(1000) SETTINGS max_block_size = 1"
    )
    leaver.connection.send_external_tables(None)
    wait_for(lambda: running_queries(other, "leaver") == 1, 10)
    leaver.disconnect()
    wait_for(lambda: running_queries(other, "leaver") == 0, 20)


def test_cancel_ends_a_query(server: chdb_server.Running, dial: Connect) -> None:
    """A cancelled query ends without an error, and its connection serves on."""
    client = dial(server.port)
    rows = client.execute_iter("SELECT sleepEachRow(0.01) FROM numbers(100000) SETTINGS max_block_size = 10")
    next(rows)
    client.cancel()
    assert client.execute("SELECT 1") == [(1,)]


def test_a_long_query_outlives_the_clients_socket_timeout(server: chdb_server.Running, dial: Connect) -> None:
    """While a query runs, the client keeps hearing of it, so its own receive timeout does not strike."""
    client = dial(server.port, send_receive_timeout=3)
    sql = "SELECT count(sleepEachRow(0.5)) FROM numbers(10) SETTINGS max_block_size = 1"
    assert client.execute(sql) == [(10,)]


@pytest.mark.parametrize("sent", [0, 1, 2], ids=["nothing", "a block", "half a block"])
def test_incomplete_insert_stores_nothing(
    client: Client, server: chdb_server.Running, sent: int, dial: Connect
) -> None:
    """An insert whose end never came stores nothing, whatever of its data has arrived."""
    from clickhouse_driver.block import ColumnOrientedBlock

    client.execute("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    leaver = dial(server.port, database=client.connection.database)
    leaver.execute("SELECT 1")
    leaver.connection.send_query("INSERT INTO t VALUES")
    leaver.connection.send_external_tables(None)
    header = leaver.receive_sample_block()
    if sent:
        leaver.connection.send_data(ColumnOrientedBlock(header.columns_with_types, [list(range(1000))]))
        leaver.receive_profile_events()
    if sent == 2:
        leaver.connection.socket.sendall(b"\2\0\1\0\2\xff\xff\xff\xff\0\1\xe8\7\1a\6UInt64\0halved")
    leaver.disconnect()
    assert client.execute("SELECT count() FROM t") == [(0,)]
    client.execute("INSERT INTO t VALUES", [(1,)])
    assert client.execute("SELECT count() FROM t") == [(1,)]


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" + b"\xff" * 40,
        b"\7\7\7",
        b"\0\4test\1\1\xbb\xa6\3\0\7default\xff\xff\xff\xff\x0f",
    ],
    ids=["http", "long", "no packet", "a password without end"],
)
def test_garbage_bytes_close_the_connection(server: chdb_server.Running, noise: bytes, dial: Connect) -> None:
    """What is no client gets its connection closed, and the server goes on."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(noise)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    client = dial(server.port)
    assert client.execute("SELECT 1") == [(1,)]


def test_system_tables_and_maintenance(client: Client) -> None:
    """What others ask of the system tables is there; merges run when asked, TTL can be changed."""
    executed(SCHEMAS / "0001_first.sql", client)
    client.execute("SYSTEM STOP MERGES counts")
    columns = "INSERT INTO counts (org_id, bucket, reason, version) VALUES"
    for version in (1, 2, 3):
        client.execute(columns, [(7, utc(2026, 1, 1), "", version)])
    active = "FROM system.parts WHERE active AND database = currentDatabase() AND table = 'counts'"
    assert client.execute(f"SELECT count(), sum(rows) {active}") == [(3, 3)]
    client.execute("SYSTEM START MERGES counts")
    client.execute("OPTIMIZE TABLE counts FINAL")
    assert client.execute(f"SELECT sum(rows) {active}") == [(1,)]
    assert client.execute("SELECT version FROM counts") == [(3,)]
    client.execute("ALTER TABLE counts MODIFY TTL bucket + INTERVAL 90 DAY")
    client.execute("ALTER TABLE counts REMOVE TTL")
    described = client.execute(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'counts'"
    )
    assert ("bucket", "DateTime('UTC')") in described
    assert client.execute("SELECT count() FROM system.merges WHERE database = currentDatabase()") == [(0,)]
    sorting = "SELECT sorting_key FROM system.tables WHERE database = currentDatabase() AND name = 'counts'"
    assert client.execute(sorting)[0][0].startswith("org_id, bucket")


def test_merges_run_by_themselves(client: Client) -> None:
    """The engine merges in the background without being asked: many small inserts become few parts."""
    client.execute("CREATE TABLE t (k UInt8, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY k")
    for version in range(60):
        client.execute("INSERT INTO t VALUES", [(1, version)])
    parts = "SELECT count() FROM system.parts WHERE active AND database = currentDatabase() AND table = 't'"
    wait_for(lambda: client.execute(parts)[0][0] < 20, 60)
    assert client.execute("SELECT max(v) FROM t FINAL") == [(59,)]


def test_the_projects_tables_can_be_made(client: Client) -> None:
    """Every migration of the project is understood."""
    for schema in sorted(SCHEMAS.glob("*.sql")):
        executed(schema, client)
    tables = {name for (name,) in client.execute("SHOW TABLES")}
    assert {"counts", "progress", "dead_letters", "rules", "organizations", "tokens"} <= tables


def test_acknowledged_inserts_survive_a_kill(tmp_path: Path, dial: Connect) -> None:
    """After SIGKILL a server on the same directory has every insert that was acknowledged."""
    server = chdb_server.start(tmp_path, password=PASSWORD)
    client = dial(server.port)
    client.execute("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    acknowledged = 0
    killer = threading.Timer(0.7, server.kill)
    killer.start()
    with suppress(EOFError, OSError, NetworkError):
        while True:
            client.execute("INSERT INTO t VALUES", [(n,) for n in range(acknowledged, acknowledged + 10)])
            acknowledged += 10
    killer.join()
    again = chdb_server.start(tmp_path, password=PASSWORD)
    numbers = dial(again.port).execute("SELECT uniqExact(n), count(), max(n) + 1 FROM t")[0]
    assert numbers[0] == numbers[1] == numbers[2]
    assert numbers[0] in (acknowledged, acknowledged + 10)
    assert again.stop() == 0


def test_a_second_server_on_the_same_directory_says_so(tmp_path: Path, dial: Connect) -> None:
    """Two servers never share a directory: the second ends with a text that names the reason."""
    first = chdb_server.start(tmp_path)
    with pytest.raises(Unavailable, match=re.escape(str(tmp_path))) as caught:
        chdb_server.start(tmp_path)
    assert "use" in str(caught.value)
    assert dial(first.port, password="").execute("SELECT 1") == [(1,)]
    assert first.stop() == 0


def test_a_running_statement_is_finished_before_the_end(tmp_path: Path, dial: Connect) -> None:
    """On SIGTERM the running statement gets its answer, idle and new clients do not, and the exit code is 0."""
    server = chdb_server.start(tmp_path, password=PASSWORD)
    idle, busy = dial(server.port), dial(server.port)
    idle.execute("SELECT 1")
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(
            busy.execute, "SELECT count(sleepEachRow(0.1)) FROM numbers(20) SETTINGS max_block_size = 1"
        )
        wait_for(lambda: running_queries(idle, "sleepEachRow") == 1, 10)
        stopped = pool.submit(server.stop)
        assert answer.result() == [(20,)]
        assert stopped.result() == 0
    with pytest.raises((EOFError, OSError, NetworkError)):
        idle.execute("SELECT 1")


def test_a_second_signal_ends_it_at_once(tmp_path: Path, dial: Connect) -> None:
    """A second SIGTERM does not wait for running statements."""
    server = chdb_server.start(tmp_path, password=PASSWORD)
    busy, other = dial(server.port), dial(server.port)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            busy.execute, "SELECT count(sleepEachRow(1)) FROM numbers(1000) SETTINGS max_block_size = 1"
        )
        wait_for(lambda: running_queries(other, "sleepEachRow") == 1, 10)
        os.kill(server.pid, signal.SIGTERM)
        wait_for(lambda: not accepts(server.port), 10)
        os.kill(server.pid, signal.SIGTERM)
        with pytest.raises((EOFError, OSError, NetworkError)):
            answer.result()
    assert server.stop() == 128 + signal.SIGTERM


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_it_ends_with_the_process_that_started_it(tmp_path: Path, dial: Connect) -> None:
    """When the starting process is killed, the server ends as well and frees its directory."""
    script = "import sys; from pathlib import Path; from orgstats.deploy.local import chdb_server\n"
    script += "print(chdb_server.start(Path(sys.argv[1])).port, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        port = int(parent.stdout.readline())
        assert dial(port, password="").execute("SELECT 1") == [(1,)]
        parent.kill()
    wait_for(lambda: not accepts(port), 30)


def test_the_password_is_in_no_process_list(server: chdb_server.Running) -> None:
    """The command line holds no password, and the log neither."""
    assert PASSWORD.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    path = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")[4].decode()
    assert PASSWORD not in (Path(path) / chdb_server.LOG_NAME).read_text()


def test_it_listens_on_loopback_unless_told(server: chdb_server.Running) -> None:
    """Only 127.0.0.1 answers."""
    with pytest.raises(OSError, match=r"refused|unreachable"):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)
