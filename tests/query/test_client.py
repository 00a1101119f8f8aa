"""The Python client, against the real server and against one that is scripted to be difficult."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orgstats.errors import Unavailable
from orgstats.query.clickhouse import Database
from orgstats.query.client import AsyncStatsClient, Patience, RequestRefused, Stats, StatsClient, Usage, UsageGroup
from orgstats.query.directory import Directory, Wanted
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources, make_token
from tests.query.serving import running_api

Answer = tuple[int, dict[str, str], bytes]
BUSY: Answer = (503, {"Retry-After": "7"}, b"{}")
FINE: Answer = (200, {"X-Stats-Complete-Until": "50"}, b"[[0.0, 3]]")


@contextmanager
def scripted(answers: list[Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers in order, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answers[min(len(asked), len(answers)) - 1]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_client_reads_a_running_server(database: Database, clickhouse_url: str, tmp_path: Path) -> None:
    """Series of an organization, a project and all projects, and what the headers say."""
    directory = Directory(database)
    directory.add_organization(Wanted("acme", key=1), 1.0)
    directory.add_project(1, Wanted("pump", key=11), 1.0)
    insert_counts(database, [Cell(1, 100, 2), Cell(1, 100, 3, project_id=11)])
    insert_sources(database, [Counted(complete_until=2_000.0)])
    token = make_token(database, 1)
    window: dict[str, Any] = {"since": 100.5, "until": 105.0}
    with running_api(clickhouse_url, tmp_path, RETENTION_DAYS="0") as api, StatsClient(api.url, token) as client:
        assert client.organization_stats("acme", **window) == Stats(((100.0, 5),), 2_000, None)
        assert client.organization_stats(1, stat="rejected", resolution="1d", **window).points == ((0.0, 0),)
        assert client.project_stats("acme", 11, **window).points == ((100.0, 3),)
        assert client.stats_by_project("acme", **window) == {11: Stats(((100.0, 3),), 2_000, None)}
        assert client.stats_by_project("acme", projects=[99], **window) == {}
        assert len(client.organization_stats("acme").points) == 24
        for wrong, status in ((("acme", "nope"), 404), (("other", "x"), 403)):
            with pytest.raises(RequestRefused) as refused:
                client.project_stats(*wrong)
            assert refused.value.status == status
        with pytest.raises(RequestRefused, match="start must be before or equal to end"):
            client.organization_stats("acme", since=5, until=4)
        with pytest.raises(RequestRefused, match="404"):
            client.organization_stats("../acme?x=")


def test_client_reads_usage(database: Database, clickhouse_url: str, tmp_path: Path) -> None:
    """Groups with series and totals, filters, by project totals alone; the same from both clients."""
    Directory(database).add_organization(Wanted("acme", key=1), 1.0)
    rows = [Cell(1, 100, 2), Cell(1, 130, 5, category=2, events=1), Cell(1, 3_600, 4, 2, reason="key_quota")]
    rows += [Cell(1, 3_600, 16, 1, reason="key_quota"), Cell(1, 3_600, 8, 2, reason="key_quota", project_id=11)]
    insert_counts(database, [*rows, Cell(1, 100, 3, project_id=11)])
    insert_sources(database, [Counted(complete_until=2_000.0)])
    token = make_token(database, 1)
    fields = ("sum(quantity)", "sum(times_seen)")
    asked: dict[str, Any] = {"groups": ["category"], "fields": fields, "start": 70, "end": 170.5, "interval": "1m"}
    by_category = Usage(
        60,
        180,
        (60, 120),
        (
            UsageGroup({"category": "error"}, dict.fromkeys(fields, 5), dict.fromkeys(fields, (5, 0))),
            UsageGroup(
                {"category": "transaction"},
                dict(zip(fields, (5, 1), strict=True)),
                dict(zip(fields, ((0, 5), (0, 1)), strict=True)),
            ),
        ),
        2_000,
        None,
    )
    hours: dict[str, Any] = {"start": "1970-01-01", "end": "1970-01-01T02:00:00Z", "categories": ["error"]}
    filters: dict[str, Any] = {"outcomes": ["rate_limited"], "reasons": ["key_quota"], "projects": [0]}

    async def ask(url: str) -> Usage:
        async with AsyncStatsClient(url, token) as client:
            return await client.usage("acme", **asked)

    with running_api(clickhouse_url, tmp_path, RETENTION_DAYS="0") as api, StatsClient(api.url, token) as client:
        assert client.usage("acme", **asked) == asyncio.run(ask(api.url)) == by_category
        (limited,) = client.usage(1, groups=["reason"], **filters, **hours).groups
        assert limited == UsageGroup({"reason": "key_quota"}, {"sum(quantity)": 4}, {"sum(quantity)": (0, 4)})
        projects = client.usage("acme", groups=["project"], **hours)
        assert projects.intervals == ()
        assert projects.groups[1] == UsageGroup({"project": 11}, {"sum(quantity)": 11}, {})
        assert client.usage("acme", keys=[1], **hours).groups == ()
        assert client.usage("acme", categories=["error"], period="2d", interval="1d").end > time.time()
        with pytest.raises(RequestRefused, match="category as groupby or filter"):
            client.usage("acme")


def test_retry_after_is_waited_for() -> None:
    """429 and 503 are tried again after the seconds of Retry-After."""
    waited: list[float] = []
    answers: list[Answer] = [BUSY, (429, {"Retry-After": "2"}, b"{}"), FINE]
    with scripted(answers) as (url, asked), StatsClient(url, "t", sleep=waited.append) as client:
        assert client.organization_stats("acme") == Stats(((0.0, 3),), 50, None)
    assert waited == [7.0, 2.0]
    assert len(asked) == 3


def test_retry_after_is_capped_by_patience() -> None:
    """A Retry-After of an hour, also as a date, is not slept through."""
    waited: list[float] = []
    answers: list[Answer] = [
        (503, {"Retry-After": "3600"}, b""),
        (503, {"Retry-After": formatdate(time.time() + 3600, usegmt=True)}, b""),
        (503, {"Retry-After": "soon"}, b""),
        FINE,
    ]
    with (
        scripted(answers) as (url, _),
        StatsClient(url, "t", patience=Patience(longest_wait_seconds=9), sleep=waited.append) as client,
    ):
        client.organization_stats("acme")
    assert waited[:2] == [9, 9]
    assert 1 <= waited[2] <= 2


def test_retries_exhausted_is_unavailable() -> None:
    """After so many tries it is Unavailable, also when nobody listens."""
    with scripted([BUSY]) as (url, asked), StatsClient(url, "t", patience=Patience(2), sleep=lambda _: None) as client:
        with pytest.raises(Unavailable, match="status 503"):
            client.organization_stats("acme")
        assert len(asked) == 3
    with (
        StatsClient(url, "t", patience=Patience(1), sleep=lambda _: None) as client,
        pytest.raises(Unavailable, match="Connect"),
    ):
        client.organization_stats("acme")


def test_4xx_is_not_retried() -> None:
    """One try, and the server's own words, or the status when it has none."""
    answers: list[Answer] = [(401, {}, b'{"detail": "Invalid token"}'), (400, {}, b"<html>")]
    with scripted(answers) as (url, asked), StatsClient(url, "secret") as client:
        with pytest.raises(RequestRefused, match="401: Invalid token"):
            client.organization_stats("acme")
        with pytest.raises(RequestRefused, match="400: Bad Request") as refused:
            client.organization_stats("acme")
    assert len(asked) == 2
    assert "secret" not in repr(refused.value)


def test_windows_may_be_relative() -> None:
    """A period is the server's to count back from until; text is read as on the command line, None is left out."""
    with scripted([FINE]) as (url, asked), StatsClient(url, "t") as client:
        client.organization_stats("acme", period="7d", until="2020-03-22T20:00:00Z", since=None)
        before = time.time()
        client.project_stats("acme", "pump", stat="localhost", since="-2h")
        with pytest.raises(ValueError, match="is not a time"):
            client.organization_stats("acme", since="yesterday")
    assert asked[0] == "/api/0/organizations/acme/stats/?statsPeriod=7d&until=1584907200.0"
    path, _, since = asked[1].rpartition("&since=")
    assert path == "/api/0/projects/acme/pump/stats/?stat=localhost"
    assert before - 7_200 <= float(since) <= time.time() - 7_200


def test_async_client_asks_and_waits_alike() -> None:
    """The same requests, results, waits and errors as from the other one."""
    script: list[Answer] = [BUSY, FINE, FINE, (200, {}, b'{"11": [[0.0, 3]]}'), (400, {}, b'{"detail": "no"}'), BUSY]

    async def ask(url: str, waited: list[float]) -> list[object]:
        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        async with AsyncStatsClient(url, "t", patience=Patience(1), sleep=sleep) as client:
            answers: list[object] = [
                await client.organization_stats("acme", period="1d"),
                await client.project_stats("acme", 11, resolution="1h"),
                await client.stats_by_project("acme", projects=[11], stat="rejected"),
            ]
            with pytest.raises(RequestRefused, match="400: no"):
                await client.organization_stats("acme")
            with pytest.raises(Unavailable, match="status 503"):
                await client.organization_stats("acme")
            return answers

    waited: list[float] = []
    with scripted(script) as (url, asked):
        answers = asyncio.run(ask(url, waited))
    waited_by_other: list[float] = []
    with (
        scripted(script) as (url, asked_by_other),
        StatsClient(url, "t", patience=Patience(1), sleep=waited_by_other.append) as client,
    ):
        assert answers == [
            client.organization_stats("acme", period="1d"),
            client.project_stats("acme", 11, resolution="1h"),
            client.stats_by_project("acme", projects=[11], stat="rejected"),
        ]
        with pytest.raises(RequestRefused, match="400: no"):
            client.organization_stats("acme")
        with pytest.raises(Unavailable, match="status 503"):
            client.organization_stats("acme")
    assert asked == asked_by_other
    assert waited == waited_by_other == [7.0, 7.0]
    assert answers[0] == Stats(((0.0, 3),), 50, None)
