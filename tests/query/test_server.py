"""The process as operators meet it: limits, revocation, gateway, outages, draining, logs."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import jwt
import pytest

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import chdb_server
from orgstats.errors import Unavailable
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, InvalidArgument, Wanted
from orgstats.schemas.migrate import migrate
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources, make_token
from tests.query.serving import Api, running_api
from tests.support.wait import wait_for

STATS = "/api/0/organizations/acme/stats/"
WINDOW = {"since": "100", "until": "100"}


@pytest.fixture
def acme(database: Database) -> str:
    """An organization `acme` with 5 events at 100 s; a token that may read it."""
    Directory(database).add_organization(Wanted("acme", key=1), 1.0)
    insert_counts(database, [Cell(1, 100, 5)])
    return make_token(database, 1)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def log_lines(api: Api) -> list[dict[str, object]]:
    return [json.loads(line) for line in api.child.log.read_text().splitlines()]


def test_rate_limit_returns_429_until_the_window_ends(acme: str, clickhouse_url: str, tmp_path: Path) -> None:
    """The limit is told with every answer; over it there is 429 until the window ends."""
    with running_api(clickhouse_url, tmp_path, RATE_LIMIT="2", RATE_WINDOW_SECONDS="3600") as api:
        answers = [httpx.get(api.url + STATS, headers=bearer(acme)) for _ in range(3)]
        other = httpx.get(api.url + STATS, headers=bearer("ost_" + "x" * 43))
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["X-Sentry-Rate-Limit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[2].json() == {
        "detail": "You are attempting to use this endpoint too frequently. Limit is 2 requests in 3600 seconds"
    }
    refused = answers[2].headers
    assert refused["X-Sentry-Rate-Limit-Limit"] == "2"
    assert int(refused["X-Sentry-Rate-Limit-Reset"]) % 3600 == 0
    assert 1 <= int(refused["Retry-After"]) <= 3600
    assert refused["X-Frame-Options"] == "deny"
    assert other.status_code == 401


def test_a_revoked_token_stops_working(acme: str, database: Database, clickhouse_url: str, tmp_path: Path) -> None:
    """Within the time that is set, while the process goes on."""
    directory = Directory(database)
    with running_api(clickhouse_url, tmp_path, REVOCATION_SECONDS="1") as api:
        assert httpx.get(api.url + STATS, headers=bearer(acme)).status_code == 200
        directory.revoke(directory.tokens()[0].token_id, time.time())
        wait_for(lambda: httpx.get(api.url + STATS, headers=bearer(acme)).status_code == 401, 10)


def test_a_new_token_works_at_once(acme: str, database: Database, clickhouse_url: str, tmp_path: Path) -> None:
    """That a token was unknown a moment ago is soon forgotten."""
    with running_api(clickhouse_url, tmp_path) as api:
        assert httpx.get(api.url + STATS, headers=bearer(acme)).status_code == 200
        fresh = make_token(database, 1)
        assert httpx.get(api.url + STATS, headers=bearer(fresh)).status_code == 200


@pytest.mark.campaign
def test_renamed_organization_answers_to_new_slug(
    acme: str, database: Database, clickhouse_url: str, tmp_path: Path
) -> None:
    """It answers to its new slug at once, and within 10 s no longer to the old one."""
    with running_api(clickhouse_url, tmp_path) as api:
        assert httpx.get(api.url + STATS, headers=bearer(acme)).status_code == 200
        Directory(database).add_organization(Wanted("emca", key=1, rename=True), time.time())
        assert httpx.get(api.url + STATS.replace("acme", "emca"), headers=bearer(acme)).status_code == 200
        wait_for(lambda: httpx.get(api.url + STATS, headers=bearer(acme)).status_code == 403, 15)


def test_an_organization_is_found_without_reading_all(database: Database, clickhouse_url: str) -> None:
    """Of 200,000 a small part is read, also when it was renamed; the old slug is nobody's."""
    with connect(clickhouse_url, client_name="tests") as client:
        client.execute(
            "INSERT INTO organizations SELECT number, 'org-' || toString(number), '', toDateTime64(0, 3) "
            "FROM numbers(200000)"
        )
        client.execute("INSERT INTO organizations VALUES (1500, 'renamed', '', toDateTime64(1, 3))")
    with Database(clickhouse_url, size=1, max_rows_to_read=50_000) as limited:
        found = [Directory(limited).organization(slug).org_id for slug in ("org-150000", "renamed")]
        assert found == [150_000, 1_500]
        with pytest.raises(InvalidArgument, match="no organization"):
            Directory(limited).organization("org-1500")


def test_readiness_is_asked_once_for_all(clickhouse_url: str, tmp_path: Path) -> None:
    """Whoever asks whether the process is ready costs at most a statement a second."""
    with running_api(clickhouse_url, tmp_path) as api, httpx.Client() as client:
        before = reads(api)
        assert {client.get(api.url + "/healthz/ready").status_code for _ in range(50)} == {200}
        assert reads(api) - before < 25


def test_unknown_tokens_cost_few_statements(acme: str, clickhouse_url: str, tmp_path: Path) -> None:
    """Those that are asked for together are one statement, and a known one is answered among them."""
    tokens = [f"ost_{number:043}" for number in range(400)]
    with running_api(clickhouse_url, tmp_path) as api, httpx.Client() as client:
        before = reads(api)

        def ask(token: str) -> int:
            return client.get(api.url + STATS, params=WINDOW, headers=bearer(token)).status_code

        with ThreadPoolExecutor(64) as threads:
            assert list(threads.map(ask, [*tokens, acme])) == [401] * 400 + [200]
        assert reads(api) - before < 300


def test_integer_timestamps_setting(acme: str, clickhouse_url: str, tmp_path: Path) -> None:
    """Where it is set, nothing else of the answer changes."""
    with running_api(clickhouse_url, tmp_path, INTEGER_TIMESTAMPS="true") as api:
        assert httpx.get(api.url + STATS, params=WINDOW, headers=bearer(acme)).text == "[[100, 5]]"


def test_signed_gateway_header_identifies_caller(
    database: Database, acme: str, clickhouse_url: str, tmp_path: Path
) -> None:
    """A signed header is believed for what it says; a wrong one is not, even beside a good token."""
    key = "k" * 32
    Directory(database).add_organization(Wanted("other", key=2), 1.0)

    def signed(org: object, with_key: str = key) -> dict[str, str]:
        now = int(time.time())
        claims = {"sub": "g", "org": org, "scope": "org:read", "aud": "orgstats", "iat": now, "exp": now + 60}
        return {"X-Orgstats-Gateway": jwt.encode(claims, with_key, "HS256")}

    with running_api(clickhouse_url, tmp_path, GATEWAY_KEY=key) as api:

        def status(headers: dict[str, str], slug: str = "acme") -> int:
            return httpx.get(f"{api.url}/api/0/organizations/{slug}/stats/", headers=headers).status_code

        assert [status(signed(1)), status(signed(1), "other"), status(signed("*"), "other")] == [200, 403, 200]
        assert [status(signed(1, "x" * 32)), status({**bearer(acme), **signed(1, "x" * 32)})] == [401, 401]
        assert status(bearer(acme)) == 200
        assert key not in api.child.log.read_text()
    with running_api(clickhouse_url, tmp_path) as api:
        assert httpx.get(api.url + STATS, headers=signed(1)).status_code == 401


def test_new_counts_change_the_etag(acme: str, database: Database, clickhouse_url: str, tmp_path: Path) -> None:
    """When a flush is finished, the old ETag no longer matches and the new numbers come."""
    insert_sources(database, [Counted(next_offset=1)])
    with running_api(clickhouse_url, tmp_path) as api:

        def ask(etag: str = "") -> httpx.Response:
            return httpx.get(api.url + STATS, params=WINDOW, headers={**bearer(acme), "If-None-Match": etag})

        first = ask()
        assert first.json() == [[100.0, 5]]
        etag = first.headers["ETag"]
        assert ask(etag).status_code == 304
        insert_counts(database, [Cell(1, 100, 6, version=2)])
        insert_sources(database, [Counted(next_offset=2, complete_until=1_700_000_000.0)])
        wait_for(lambda: ask(etag).status_code == 200, 9)
        changed = ask(etag)
    assert changed.json() == [[100.0, 6]]
    assert changed.headers["X-Stats-Complete-Until"] == "1700000000"


def test_304_is_answered_without_reading_counts(
    acme: str, database: Database, clickhouse_url: str, tmp_path: Path
) -> None:
    """While no flush was finished, a conditional request is answered although the counts are gone."""
    insert_sources(database, [Counted(next_offset=1)])
    with running_api(clickhouse_url, tmp_path) as api:
        first = httpx.get(api.url + STATS, params=WINDOW, headers=bearer(acme))
        with connect(clickhouse_url, client_name="tests") as client:
            client.execute("RENAME TABLE totals TO totals_away")
        again = httpx.get(
            api.url + STATS, params=WINDOW, headers={**bearer(acme), "If-None-Match": first.headers["ETag"]}
        )
    assert again.status_code == 304


def test_internal_error_returns_500_without_details(acme: str, clickhouse_url: str, tmp_path: Path) -> None:
    """A statement that the server does not understand is a 500 that tells nothing, with all the headers."""
    with running_api(clickhouse_url, tmp_path) as api:
        with connect(clickhouse_url, client_name="tests") as client:
            client.execute("ALTER TABLE totals RENAME COLUMN accepted TO taken")
        answer = httpx.get(api.url + STATS, params=WINDOW, headers=bearer(acme))
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Error"})
    assert answer.headers["X-Frame-Options"] == "deny"


def test_clickhouse_without_tables_returns_503_and_logs_remedy(empty_clickhouse_url: str, tmp_path: Path) -> None:
    """Until somebody has migrated it the server is not ready, answers 503, and its log says what to do."""
    with running_api(empty_clickhouse_url, tmp_path) as api:
        assert httpx.get(api.url + "/healthz/ready").status_code == 503
        assert httpx.get(api.url + STATS, headers=bearer("ost_" + "x" * 43)).status_code == 503
        assert all("orgstats migrate" in str(line["error"]) for line in log_lines(api)[1:])
        migrate(empty_clickhouse_url, retention_days=0)
        assert httpx.get(api.url + "/healthz/ready").status_code == 200


def test_row_limit_returns_400(acme: str, clickhouse_url: str, tmp_path: Path) -> None:
    """The operator's limit of rows gives a 400 that says so, and never a part of the series."""
    with running_api(clickhouse_url, tmp_path, QUERY_MAX_ROWS="1") as api:
        with connect(clickhouse_url, client_name="tests") as client:
            client.execute("INSERT INTO totals SELECT 1, 10, 100 + 10 * number, 1, 0, 1, 0, 0, 1 FROM numbers(100000)")
        answer = httpx.get(api.url + STATS, params={"since": "100", "until": "3000"}, headers=bearer(acme))
    assert answer.status_code == 400
    assert "rows" in answer.json()["detail"]


@pytest.fixture
def own_clickhouse(tmp_path: Path) -> Iterator[chdb_server.Running]:
    """A ClickHouse of this test's own, with tables, that it may kill."""
    server = chdb_server.start(tmp_path / "clickhouse")
    migrate(server.url, retention_days=0)
    yield server
    server.kill()


def test_clickhouse_outage_returns_503_and_recovers(own_clickhouse: chdb_server.Running, tmp_path: Path) -> None:
    """Without ClickHouse there are 503s that say when to come back; with it again, answers, without a restart."""
    with Database(own_clickhouse.url, size=1) as database:
        Directory(database).add_organization(Wanted("acme", key=1), 1.0)
        insert_counts(database, [Cell(1, 100, 5)])
        token = make_token(database, 1)
    with running_api(own_clickhouse.url, tmp_path, QUERY_TIMEOUT_SECONDS="2") as api:

        def ask() -> httpx.Response:
            return httpx.get(api.url + STATS, params=WINDOW, headers=bearer(token))

        assert ask().status_code == 200
        own_clickhouse.kill()
        wait_for(lambda: ask().status_code != 200, 10)
        away = ask()
        assert away.status_code == 503
        assert away.json() == {"detail": "The counts cannot be read at the moment. Please try again in a few seconds."}
        assert int(away.headers["Retry-After"]) > 0
        assert away.headers["X-Frame-Options"] == "deny"
        assert httpx.get(api.url + "/healthz/live").status_code == 200
        wait_for(lambda: httpx.get(api.url + "/healthz/ready").status_code == 503, 10)  # remembered for a moment
        again = chdb_server.start(tmp_path / "clickhouse", port=own_clickhouse.port)
        try:
            wait_for(lambda: ask().status_code == 200, 10)
            assert httpx.get(api.url + "/healthz/ready").status_code == 200
        finally:
            again.kill()
    refused = [line for line in log_lines(api) if line.get("status") == 503]
    assert {line["level"] for line in refused} == {"warning"}
    assert all("ClickHouse" in str(line["error"]) for line in refused)


def test_silent_clickhouse_times_out(tmp_path: Path) -> None:
    """A server that accepts and stays silent costs the time that is set, not more."""
    tokens = ["ost_" + letter * 43 for letter in "abcd"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/default"
        settings = {"QUERY_TIMEOUT_SECONDS": "1", "QUERY_CONNECTIONS": "1"}
        with running_api(url, tmp_path, **settings) as api, ThreadPoolExecutor(4) as threads:

            def ask(token: str) -> int:
                return httpx.get(api.url + STATS, headers=bearer(token), timeout=20).status_code

            assert list(threads.map(ask, tokens)) == [503] * 4


def test_the_same_series_at_the_same_moment_is_one_query(
    acme: str, database: Database, clickhouse_url: str, tmp_path: Path
) -> None:
    """Many who ask for one series while it is read all get it from one statement."""
    with running_api(clickhouse_url, tmp_path) as api, httpx.Client(headers=bearer(acme)) as client:
        client.get(api.url + STATS, params=WINDOW)
        before = reads(api)
        start = threading.Barrier(16)

        def ask(_: int) -> int:
            start.wait(10)
            return client.get(api.url + STATS, params=WINDOW).status_code

        with ThreadPoolExecutor(16) as threads:
            assert set(threads.map(ask, range(16))) == {200}
        assert reads(api) - before < 16


def reads(api: Api) -> float:
    """Statements that the server has asked ClickHouse."""
    text = httpx.get(api.url + "/metrics").text
    return float(text.split("orgstats_clickhouse_read_seconds_count ")[1].split("\n")[0])


def test_sigterm_drains_and_exits_0(acme: str, clickhouse_url: str, tmp_path: Path) -> None:
    """After SIGTERM it is not ready but answers, then it ends with exit code 0."""
    with running_api(clickhouse_url, tmp_path, DRAIN_SECONDS="2") as api:
        api.child.popen.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(api.url + "/healthz/ready").status_code == 503, 5)
        assert httpx.get(api.url + STATS, headers=bearer(acme)).status_code == 200
        assert api.child.popen.wait(20) == 0
    assert log_lines(api)[-1]["event"] == "stopped"


def test_second_sigterm_exits_at_once(clickhouse_url: str, tmp_path: Path) -> None:
    """A second signal does not wait."""
    with running_api(clickhouse_url, tmp_path, DRAIN_SECONDS="300") as api:
        api.child.popen.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(api.url + "/healthz/ready").status_code == 503, 5)
        api.child.popen.send_signal(signal.SIGTERM)
        assert api.child.popen.wait(10) == 130


def test_metrics_listen_moves_metrics_to_another_port(clickhouse_url: str, tmp_path: Path) -> None:
    """Then the API's port does not have them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running_api(clickhouse_url, tmp_path, METRICS_LISTEN=f"127.0.0.1:{port}") as api:
        assert httpx.get(api.url + "/metrics").status_code == 404
        assert "orgstats_requests_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_taken_port_names_the_setting(clickhouse_url: str, tmp_path: Path) -> None:
    """The process does not start, and says which setting is to be changed."""
    with running_api(clickhouse_url, tmp_path) as first:
        second = running_api(clickhouse_url, tmp_path / "second", LISTEN=first.url.removeprefix("http://"))
        with pytest.raises(Unavailable, match="ORGSTATS_LISTEN"), second:
            pass


def test_access_log_line_without_tokens(acme: str, clickhouse_url: str, tmp_path: Path) -> None:
    """One JSON line per request with what an operator needs, and no token wherever it was put."""
    with running_api(clickhouse_url, tmp_path) as api:
        httpx.get(api.url + STATS, params={**WINDOW, "token": acme, "stat": acme}, headers=bearer(acme))
        httpx.get(f"{api.url}/api/0/organizations/{acme}/stats/")
    lines = [line for line in log_lines(api) if line["event"] == "request"]  # once it has ended, all are written
    assert acme not in json.dumps(lines)
    first, second = lines
    assert (first["method"], first["path"], first["status"], first["org_id"]) == ("GET", STATS, 400, 1)
    assert first["query"] == "since=100&until=100&stat=ost_…"
    assert first["caller"]
    assert (second["path"], second["status"]) == ("/api/0/organizations/ost_…/stats/", 401)
