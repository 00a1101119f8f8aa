"""A ClickHouse that misbehaves: a TCP proxy that loses answers, doubles, delays and cuts inserts, or is away.

It knows as much of the native protocol as it takes to see where an insert ends: every statement, and the data of
every insert, is closed by an empty block, which is always the same bytes.
"""

import asyncio
import contextlib
import random
import re
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import lz4.block
from clickhouse_cityhash.cityhash import CityHash128

Fault = Literal["swallow", "double", "late", "delay", "cut"]
"""swallow: stored, answer lost · double: stored twice at once · late: again after newer ones · delay: slow ·
cut: half the data, then silence."""
State = Literal["fine", "away", "hanging"]

T = TypeVar("T")

_INSERT: Final = re.compile(rb"INSERT INTO (\w+)")
_END_OF_STREAM: Final = b"\x05"
_EXCEPTION: Final = b"\x02"
_STATEMENT: Final = b"\x01"
_NO_STATEMENT: Final = (b"\x00", b"\x04")  # hello and its end, ping
_LATE_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 15.0


def _empty_block() -> bytes:
    content = b"\x01\x00\x02\xff\xff\xff\xff\x00\x00\x00"  # block info, no columns, no rows
    packed = lz4.block.compress(content, store_size=False)
    body = b"\x82" + struct.pack("<II", 9 + len(packed), len(content)) + packed
    checksum: bytes = CityHash128(body).to_bytes(16, "little")
    block: bytes = b"\x02\x00" + checksum[8:] + checksum[:8] + body
    return block


def exception_packet(code: int, text: str) -> bytes:
    """What a server answers when a statement fails."""
    return _EXCEPTION + struct.pack("<i", code) + _string("DB::Exception") + _string(text) + _string("") + b"\x00"


def _string(text: str) -> bytes:
    raw = text.encode()
    assert len(raw) < 128
    return bytes([len(raw)]) + raw


class Proxy:
    """Stands before the ClickHouse at `url`; its own address is `url` with another port.

    `chances` is the probability of each fault for an insert; `error` a (code, text) with which every insert is
    refused; `refused` the same for statements that hold some bytes; `done` counts what was really done. Settable at any
    time, from any thread.
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 9000)
        self.chances: dict[Fault, float] = {}
        self.error: tuple[int, str] | None = None
        self.refused: tuple[bytes, tuple[int, str]] | None = None
        self.done: Counter[str] = Counter()
        self.inserts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._state: State = "fine"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._wait(asyncio.start_server(self._serve, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()

    def set_state(self, state: State) -> None:
        """From now on fine, refusing every connection, or accepting them and never answering."""
        self._state = state
        if state != "fine":
            self.done[state] += 1
            self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection there is."""
        self._wait(self._cut_all())

    def settle(self) -> None:
        """Wait until the late inserts have been made."""
        self._wait(self._settle())

    def close(self) -> None:
        """Cut everything and end."""
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _cut_all(self) -> None:
        for writer in list(self._clients):
            writer.transport.abort()

    async def _settle(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _close(self) -> None:
        self._server.close()
        await self._cut_all()
        await self._settle()
        current = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            if self._state == "fine":
                await _Connection(self, reader, writer).run()
            elif self._state == "hanging":
                await reader.read()
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(writer)
            writer.transport.abort()

    def draw(self) -> Fault | None:
        """The fault of the next insert."""
        at = self._random.random()
        for fault, chance in self.chances.items():
            if at < chance:
                return fault
            at -= chance
        return None

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the real server."""
        return await asyncio.open_connection(*self._upstream)

    def again(self, greeting: bytes, statement: bytes, data: bytes, after: float) -> None:
        """Make an insert once more, on a connection of its own."""
        task = self._loop.create_task(self._again(greeting, statement, data, after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again(self, greeting: bytes, statement: bytes, data: bytes, after: float) -> None:
        await asyncio.sleep(after)
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            reader, writer = await self.dial()
            try:
                for part in (greeting, statement):
                    writer.write(part)
                    await asyncio.wait_for(reader.read(1 << 16), _ANSWER_SECONDS)
                writer.write(data)
                while not (await asyncio.wait_for(reader.read(1 << 16), _ANSWER_SECONDS)).endswith(_END_OF_STREAM):
                    pass
                self.done["late" if after else "double"] += 1
            finally:
                writer.transport.abort()


class _Connection:
    """One client's connection, followed statement by statement."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client, self._to_client = reader, writer
        self._greeting = b""  # all that came before the first statement
        self._greeted = False
        self._statement = b""  # of the insert under way
        self._seen = b""  # since the last end
        self._swallow = False

    async def run(self) -> None:
        self._server, self._to_server = await self._proxy.dial()
        answers = asyncio.ensure_future(self._answers())
        try:
            while chunk := await self._client.read(1 << 16):
                if not await self._forward(chunk):
                    break
        finally:
            if self._swallow:  # the server is to finish what it was sent
                with contextlib.suppress(OSError, EOFError, TimeoutError):
                    await asyncio.wait_for(answers, _ANSWER_SECONDS)
            answers.cancel()
            self._to_server.transport.abort()

    async def _answers(self) -> None:
        while chunk := await self._server.read(1 << 16):
            if self._swallow:
                if chunk.endswith(_END_OF_STREAM):
                    self._proxy.done["swallow"] += 1
                    break
                continue
            self._to_client.write(chunk)
            await self._to_client.drain()
        self._to_client.transport.abort()

    async def _forward(self, chunk: bytes) -> bool:
        """Pass on what the client sends, with the fault of the hour; False ends the connection."""
        if not self._statement and not self._seen and chunk[:1] in _NO_STATEMENT:
            own = len(chunk) if chunk[1:2] != _STATEMENT or not self._greeting else 1
            if not self._greeted:
                self._greeting += chunk[:own]
            if own == len(chunk):
                await self._send(chunk)
                return True
            self._seen = chunk[own:]  # the end of the greeting came together with a statement
        else:
            self._seen += chunk
        self._greeted = True
        if not self._seen.endswith(EMPTY_BLOCK):
            await self._send(chunk)
            return True
        seen, self._seen = self._seen, b""
        if not self._statement:
            return await self._begin(seen, chunk)
        statement, self._statement = self._statement, b""
        return await self._end(statement, seen, chunk)

    async def _begin(self, seen: bytes, chunk: bytes) -> bool:
        insert = _INSERT.search(seen[:8192])
        if insert is not None:
            self._proxy.inserts[insert[1].decode()] += 1
        error = self._proxy.error if insert is not None else None
        if self._proxy.refused is not None and self._proxy.refused[0] in seen:
            error = self._proxy.refused[1]
        if error is not None:
            self._proxy.done["error"] += 1
            self._to_client.write(exception_packet(*error))
            await self._to_client.drain()
            await self._client.read(1)  # until the client has read it and hangs up
            return False
        self._statement = seen if insert is not None else b""
        await self._send(chunk)
        return True

    async def _end(self, statement: bytes, data: bytes, chunk: bytes) -> bool:
        """The insert's last bytes are here."""
        fault = self._proxy.draw()
        if fault == "cut":
            self._proxy.done["cut"] += 1
            return False
        if fault == "delay":
            self._proxy.done["delay"] += 1
            await asyncio.sleep(self._proxy._random.uniform(0.2, 2.0))
        self._swallow = fault == "swallow"
        await self._send(chunk)
        if fault in ("double", "late"):
            self._proxy.again(self._greeting, statement, data, _LATE_SECONDS if fault == "late" else 0.0)
        return not self._swallow

    async def _send(self, chunk: bytes) -> None:
        self._to_server.write(chunk)
        await self._to_server.drain()


EMPTY_BLOCK: Final = _empty_block()
