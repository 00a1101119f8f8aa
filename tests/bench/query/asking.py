"""What is asked, in the engine and over HTTP, and how long each answer took."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from orgstats.query.params import StatsQuery, window
from orgstats.query.series import RESOLUTIONS
from orgstats.query.sql import Statement

HOUR, DAY = 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind: windows of one length that end up to `spread` seconds before `last`."""

    name: str
    org_id: int
    seconds: int
    resolution: str
    last: int
    spread: int = 0

    def window(self) -> tuple[int, int]:
        """since and until of one request."""
        until = self.last - random.randrange(self.spread + 1) // 10 * 10
        return until - self.seconds + 1, until

    def path(self) -> str:
        """As it is asked over HTTP."""
        since, until = self.window()
        return f"/api/0/organizations/{self.org_id}/stats/?since={since}&until={until}&resolution={self.resolution}"

    def query(self) -> StatsQuery:
        """As it is asked of the query module."""
        return StatsQuery(self.org_id, "received", window(*self.window(), RESOLUTIONS[self.resolution]))


def kinds(org_id: int, who: str, last: int) -> list[Kind]:
    """The three kinds of requests that dashboards make."""
    return [
        Kind(f"24 h at 1 h, {who}", org_id, DAY, "1h", last, HOUR),
        Kind(f"1 h at 10 s, {who}", org_id, HOUR, "10s", last, HOUR // 6),
        Kind(f"90 d at 1 d, {who}", org_id, 90 * DAY, "1d", last, HOUR),
    ]


def raw_series(query: StatsQuery) -> Statement:
    """The same series, counted from raw rows."""
    return _raw_series(query, "raw")


def hourly_series(query: StatsQuery) -> Statement:
    """The same series from Snuba's sums by hour; for widths from an hour on."""
    return _raw_series(query, "raw_by_hour")


def _raw_series(query: StatsQuery, table: str) -> Statement:
    text = f"""
        SELECT toUInt32(toStartOfInterval(timestamp, INTERVAL {{width:UInt32}} SECOND)) AS start, sum(quantity)
        FROM {table}
        WHERE org_id = {{org:UInt64}} AND category IN (0, 1, 3) AND outcome IN (0, 1, 2)
          AND timestamp >= toDateTime({{first:UInt32}}, 'UTC') AND timestamp < toDateTime({{end:UInt32}}, 'UTC')
        GROUP BY start"""
    buckets = query.buckets
    values = {"org": query.org_id, "width": buckets.width, "first": buckets.first, "end": buckets.last + buckets.width}
    return Statement(text, values)


async def _connection(
    host: str, port: int, token: str, path: Callable[[], str], go_on: Callable[[], bool]
) -> list[float]:
    reader, writer = await asyncio.open_connection(host, port)
    took = []
    while go_on():
        started = time.perf_counter()
        writer.write(f"GET {path()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        if not head.startswith("HTTP/1.1 200 "):
            raise SystemExit(f"{head.splitlines()[0]}: {body.decode()}")
        took.append(time.perf_counter() - started)
    writer.close()
    return took


def seconds_over_http(url: str, token: str, paths: Callable[[], str], *, count: int) -> list[float]:
    """Seconds that each of `count` requests took, one after the other on one connection."""
    left = iter(range(count))
    return asyncio.run(_load(url, token, paths, 1, lambda: next(left, None) is not None))


def load(url: str, token: str, paths: Callable[[], str], connections: int, seconds: float) -> list[float]:
    """Seconds that each answer took, with so many connections that ask as fast as they are answered."""
    until = time.perf_counter() + seconds
    return asyncio.run(_load(url, token, paths, connections, lambda: time.perf_counter() < until))


async def _load(
    url: str, token: str, paths: Callable[[], str], connections: int, go_on: Callable[[], bool]
) -> list[float]:
    host, port = url.removeprefix("http://").split(":")
    each = [_connection(host, int(port), token, paths, go_on) for _ in range(connections)]
    return [one for some in await asyncio.gather(*each) for one in some]
