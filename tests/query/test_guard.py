"""What clients without a token can do to the process, over real sockets."""

import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, closing, suppress
from typing import Any

import httpx
import pytest
import uvicorn

from orgstats.query import guard
from tests.query.serving import Api, running_api
from tests.support.wait import wait_for

START = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that may open 128 files; nothing here asks ClickHouse."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = running_api("clickhouse://127.0.0.1:1/none", tmp_path_factory.mktemp("serve"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        yield running


@pytest.fixture
def connect(api: Api) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections, which are closed after the test."""
    host, port = api.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection((host, int(port)), 30))


def answer(connection: socket.socket) -> tuple[int, str]:
    """Status and detail of the answer before the server closes; (0, "") when it was reset before that."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionError:
        return 0, ""
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    return int(head.split()[1]), json.loads(body)["detail"]


def refused(api: Api, reason: str) -> float:
    """How many connections the server says it has refused for that."""
    name = f'orgstats_connections_refused_total{{reason="{reason}"}} '
    text = httpx.get(api.url + "/metrics").text
    return float(text.split(name)[1].split("\n")[0]) if name in text else 0.0


def test_endless_header_times_out(api: Api, connect: Callable[[], socket.socket]) -> None:
    """Is cut off at some ten thousand bytes, whatever else would come, and the others are answered."""
    before = refused(api, "head_large")
    endless = connect()
    sent = 0
    with pytest.raises(ConnectionError):  # noqa: PT012 - which of them fails is the network's choice
        endless.sendall(START + b"X: ")
        while sent < 64 << 20:
            endless.sendall(b"x" * 65_536)
            sent += 65_536
    assert sent < 16 << 20  # what the sockets between them hold
    assert refused(api, "head_large") == before + 1
    assert httpx.get(api.url + "/healthz/live").status_code == 200


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "address"),
        (START + b"X: " + b"x" * 33_000 + b"\r\n\r\n", 431, "headers"),
        (START + b"".join(b"X-%d: x\r\n" % n for n in range(101)) + b"\r\n", 431, "headers"),
        (START + b"Content-Length: 70000\r\n\r\n", 413, "body"),
        (b"nonsense\r\n\r\n", 400, "Invalid HTTP"),
        (START + b"Content-Length: x\r\n\r\n", 400, "Invalid HTTP"),
    ],
)
def test_oversized_requests_are_refused(
    request_bytes: bytes, status: int, words: str, connect: Callable[[], socket.socket]
) -> None:
    """Each limit is answered in JSON with a text that names it, and the connection is closed."""
    connection = connect()
    connection.sendall(request_bytes)
    found, detail = answer(connection)
    assert (found, words in detail) == (status, True)


def test_endless_body_is_cut_off(connect: Callable[[], socket.socket]) -> None:
    """Sent in chunks it is cut off too, although the request was answered before."""
    connection = connect()
    connection.sendall(START + b"Transfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(ConnectionError):  # noqa: PT012
        for _ in range(1_000):
            connection.sendall(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")
        pytest.fail("it takes any body")


@pytest.mark.campaign
def test_slow_clients_are_answered(connect: Callable[[], socket.socket]) -> None:
    """Silence, half a head, a head by drops and half a body: each is closed, and told why if not yet answered."""
    silent, half, dropping, body = (connect() for _ in range(4))
    half.sendall(START)
    body.sendall(START + b"Content-Length: 5\r\n\r\nx")
    dropping.settimeout(0.3)
    for letter in START + b"X: " + b"x" * 200:
        dropping.send(bytes([letter]))
        try:
            if dropping.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
    else:
        pytest.fail("a head may take any time")
    late = (408, "No request within 10 seconds.")
    assert [answer(connection) for connection in (silent, half)] == [late, late]
    assert body.recv(65_536).startswith(b"HTTP/1.1 200")
    assert body.recv(65_536) == b""


def test_half_requests_do_not_block_others(api: Api, connect: Callable[[], socket.socket]) -> None:
    """More half requests than files can be open: the longest waiting gives its place up, and the log says so."""
    for _ in range(300):
        connect().sendall(START)
    with httpx.Client() as client:
        for _ in range(5):
            assert client.get(api.url + "/healthz/live").status_code == 200
    assert refused(api, "full") >= 300 - 128
    lines = [json.loads(line) for line in api.child.log.read_text().splitlines()]
    told = [line for line in lines if line["event"] == "connections refused"]
    assert told
    assert {line["limit"] for line in told} == {128 - 64 - 8}


def test_keep_alive_connection_is_reused(api: Api) -> None:
    """The limits are for each request, not for the connection."""
    with httpx.Client() as client:
        for _ in range(200):
            assert client.get(api.url + "/healthz/live", headers={"X": "x" * 1_000}).status_code == 200


LARGE_BYTES = 16 << 20
"""More than the sockets between a server and its client hold."""


async def large(scope: MutableMapping[str, Any], _: Any, send: Any) -> None:
    """An application that answers everything with LARGE_BYTES."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE_BYTES)]})
    await send({"type": "http.response.body", "body": bytes(LARGE_BYTES)})


@pytest.fixture
def large_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[uvicorn.Server, int]]:
    """A server whose answers are large, in a thread of its own, and its port; half a second to take the rest of one."""
    monkeypatch.setattr(guard, "LEAVE_SECONDS", 0.5)
    protocol = guard.guarded(guard.Gate(16))
    server = uvicorn.Server(uvicorn.Config(large, http=protocol, lifespan="off", log_config=None, timeout_keep_alive=1))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield server, listener.getsockname()[1]
    server.force_exit = server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("header", [b"Connection: close\r\n", b""], ids=["close", "keep-alive"])
def test_a_client_that_does_not_read_its_answer(header: bytes, large_answers: tuple[uvicorn.Server, int]) -> None:
    """Loses its place and what is left of the answer, whether or not it wanted to keep the connection."""
    server, port = large_answers
    with closing(socket.socket()) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.settimeout(30)
        idle.connect(("127.0.0.1", port))
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
        assert idle.recv(1) == b"H"
        wait_for(lambda: not server.server_state.connections, 20)
        received = 1
        with suppress(ConnectionResetError):
            while part := idle.recv(1 << 20):
                received += len(part)
        assert received < LARGE_BYTES


def test_a_client_that_reads_gets_all_of_its_answer(large_answers: tuple[uvicorn.Server, int]) -> None:
    """The same answer arrives whole where somebody takes it."""
    _, port = large_answers
    assert len(httpx.get(f"http://127.0.0.1:{port}/", headers={"Connection": "close"}).content) == LARGE_BYTES
