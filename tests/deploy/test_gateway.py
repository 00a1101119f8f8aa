"""nginx and Envoy as configured in deploy/gateway, in front of a real API: nobody gets what is not theirs."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Final
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local.paths import free_ports
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.migrate import migrate
from tests.deploy.gateways import FOLDER, Gateway, running
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources, make_token
from tests.query.serving import running_api
from tests.support.wait import wait_for

KEY: Final = "k" * 32
FIRST: Final = 1_600_000_000 // 3_600 * 3_600
WINDOW: Final = f"?since={FIRST}&until={FIRST + 7_199}&resolution=1h"
ONE: Final = f"/api/0/organizations/one/stats/{WINDOW}"
TWO: Final = f"/api/0/organizations/two/stats/{WINDOW}"
NO_CREDENTIALS: Final = {"detail": "Authentication credentials were not provided."}


@dataclass(frozen=True)
class Site:
    """A running API behind no gateway, its store, and a token for each organization and for `all`."""

    url: str
    log: Path
    database: Database
    tokens: dict[str, str]

    @property
    def address(self) -> str:
        """host:port."""
        return urlsplit(self.url).netloc


@pytest.fixture(scope="module")
def site(clickhouse_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The organizations `one` with 11 and 12 events, `two` with 21 and 22."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    client = connect(clickhouse_server, client_name="tests")
    client.execute(f"CREATE DATABASE {name}")
    url = urlsplit(clickhouse_server)._replace(path=f"/{name}").geturl()
    migrate(url, retention_days=0)
    database = Database(url, size=1)
    tokens = {"all": make_token(database, None)}
    for org_id, slug in ((1, "one"), (2, "two")):
        Directory(database).add_organization(Wanted(slug, key=org_id), 1.0)
        tokens[slug] = make_token(database, org_id)
        insert_counts(database, [Cell(org_id, FIRST + n * 3_600, org_id * 10 + n + 1) for n in range(2)])
    insert_sources(database, [Counted(complete_until=FIRST + 7_200.0)])
    with running_api(url, tmp_path_factory.mktemp("serve"), RETENTION_DAYS="0", GATEWAY_KEY=KEY) as api:
        yield Site(api.url, api.child.log, database, tokens)
    database.close()
    client.execute(f"DROP DATABASE {name} SYNC")
    client.disconnect()


@pytest.fixture(scope="module")
def nginx(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """nginx in front of the site."""
    with running("nginx", site.address, tmp_path_factory.mktemp("nginx")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def envoy(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Envoy in front of the site."""
    with running("envoy", site.address, tmp_path_factory.mktemp("envoy")) as gateway:
        yield gateway


@pytest.fixture(params=["nginx", "envoy"])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Each of them."""
    found: Gateway = request.getfixturevalue(request.param)
    return found


def signed(org: str) -> str:
    """What a gateway with the key would say of a caller."""
    now = time.time()
    claims = {"sub": "somebody", "org": org, "scope": "org:read", "aud": "orgstats", "iat": now, "exp": now + 300}
    return jwt.encode(claims, KEY, "HS256")


class Quiet(BaseHTTPRequestHandler):
    """A server of the tests, which says nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(kind: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server until the block ends; its host:port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_answer_and_headers_pass_through(gateway: Gateway, site: Site) -> None:
    """Over TLS the numbers, the contract's headers and the ETag are those of the API."""
    direct = httpx.get(site.url + ONE, headers={"Authorization": f"Bearer {site.tokens['one']}"})
    answer = gateway.get(ONE, site.tokens["one"])
    assert (answer.status_code, answer.json()) == (200, [[FIRST, 11], [FIRST + 3_600, 12]])
    own = {"x-request-id", "x-cache-status", "strict-transport-security", "date", "server", "connection"}
    timing = {"x-envoy-upstream-service-time", "transfer-encoding", "content-length"}
    counting = {"x-stats-complete-until"}  # another test goes on counting
    assert dict(direct.headers.items() - answer.headers.items()).keys() <= own | timing | counting
    assert direct.headers.keys() - answer.headers.keys() <= timing
    assert answer.headers.keys() - direct.headers.keys() <= own | timing
    assert answer.headers["Strict-Transport-Security"]


def test_etag_match_returns_304(gateway: Gateway, site: Site) -> None:
    """If-None-Match with the answer's ETag comes back without a body, with the same ETag."""
    etag = gateway.get(ONE, site.tokens["one"]).headers["ETag"]
    again = gateway.get(ONE, site.tokens["one"], If_None_Match=etag)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert gateway.get(ONE, site.tokens["one"], If_None_Match='"other"').status_code == 200


def test_api_errors_pass_through(gateway: Gateway, site: Site) -> None:
    """401, 403, 400 and 405 are the API's own, with its texts."""
    nobody = gateway.get(ONE)
    assert (nobody.status_code, nobody.json()) == (401, NO_CREDENTIALS)
    assert nobody.headers.get_list("WWW-Authenticate") == ["Bearer"]
    other = gateway.get(TWO, site.tokens["one"])
    assert (other.status_code, other.json()["detail"][:25]) == (403, "You do not have permissio")
    wrong = gateway.get(ONE + "&stat=wrong", site.tokens["one"])
    assert (wrong.status_code, wrong.json()) == (400, {"detail": "Invalid stat: wrong"})
    assert gateway.client.post(ONE).json() == {"detail": 'Method "POST" not allowed.'}
    assert gateway.client.options(ONE).status_code == 200


def test_forged_identity_header_is_removed(gateway: Gateway, site: Site) -> None:
    """The API believes a signed header, so none that a client sends may reach it, however it is written."""
    header = {"X-Orgstats-Gateway": signed("*")}
    assert httpx.get(site.url + ONE, headers=header).status_code == 200
    for name in ("X-Orgstats-Gateway", "x-orgstats-gateway", "X_Orgstats_Gateway"):
        answer = gateway.client.get(ONE, headers={name: header["X-Orgstats-Gateway"]})
        assert (answer.status_code, answer.json()) == (401, NO_CREDENTIALS)
    assert gateway.get(TWO, site.tokens["one"], X_Orgstats_Gateway=signed("2")).status_code == 403


def test_metrics_and_health_are_not_exposed(gateway: Gateway) -> None:
    """Metrics and health are not there from outside; the documentation is."""
    for path in ("/metrics", "/healthz/live", "/healthz/ready", "/api/../metrics", "//metrics", "/%6detrics"):
        answer = gateway.client.get(f"{gateway.client.base_url}".rstrip("/") + path)
        assert answer.status_code in (400, 404), path
        assert "orgstats_" not in answer.text
    hidden = gateway.client.get("/metrics")
    assert (hidden.status_code, hidden.json()) == (404, {"detail": "The requested resource does not exist"})
    assert hidden.headers["Content-Type"] == "application/json"
    assert gateway.client.get("/docs").status_code == 200


def test_each_request_has_an_id_and_no_token_is_logged(gateway: Gateway, site: Site) -> None:
    """The id in the answer is the gateway's own, not the client's; both logs have it, and no credentials."""
    answer = gateway.get(f"{ONE}&nobody=has_asked_{uuid.uuid4()}", site.tokens["one"], X_Request_Id="mine")
    number = answer.headers["X-Request-Id"]
    assert number != "mine"
    lines = wait_for(lambda: [line for line in gateway.log.read_text().splitlines() if number in line], 20)
    assert (json.loads(lines[0])["status"], json.loads(lines[0])["uri"]) == (200, urlsplit(ONE).path)
    (behind,) = [line for line in site.log.read_text().splitlines() if number in line]
    assert json.loads(behind)["request_id"] == number
    for log in (gateway.log, site.log):
        assert site.tokens["one"] not in log.read_text()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("nginx", {"rate=50r/s": "rate=1r/m", "burst=100": "burst=2"}),
        (
            "envoy",
            {
                "max_tokens: 100, tokens_per_fill: 5, fill_interval: 0.1s": (
                    "max_tokens: 3, tokens_per_fill: 1, fill_interval: 60s"
                )
            },
        ),
    ],
)
def test_rate_limit_returns_429(site: Site, tmp_path: Path, kind: str, changes: dict[str, str]) -> None:
    """Above the limit an address gets 429 in the API's form, with a time to wait, whatever it asks."""
    with running(kind, site.address, tmp_path, changes) as gateway:
        answers = [gateway.get(ONE) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert answers[3].json()["detail"].startswith("You are attempting to use this endpoint too frequently.")
    assert (answers[3].headers["Retry-After"], answers[3].headers["Content-Type"]) == ("1", "application/json")


@pytest.mark.parametrize("kind", ["nginx", "envoy"])
def test_unreachable_api_returns_503(tmp_path: Path, kind: str) -> None:
    """Nobody behind the gateway: a 503 in the API's form, to be tried again."""
    with running(kind, f"127.0.0.1:{free_ports(1)[0]}", tmp_path) as gateway:
        answer = gateway.get(ONE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert list(answer.json()) == ["detail"]
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("kind", ["nginx", "envoy"])
def test_slow_api_returns_503(tmp_path: Path, kind: str) -> None:
    """An API that is well and does not answer in time is told as one that is away."""
    over = Event()

    class Slow(Quiet):
        def do_GET(self) -> None:
            if self.path.startswith("/api/"):
                over.wait(60)
            self.send_response(200)
            self.end_headers()

    changes = {"nginx": {"proxy_read_timeout 15s": "proxy_read_timeout 1s"}, "envoy": {"timeout: 15s": "timeout: 1s"}}
    with serving(Slow) as upstream, running(kind, upstream, tmp_path, changes[kind]) as gateway:
        answer = gateway.get(ONE)
        over.set()
    assert (answer.status_code, answer.headers["Retry-After"], list(answer.json())) == (503, "5", ["detail"])


def test_envoy_filter_can_set_identity_header(site: Site, tmp_path: Path) -> None:
    """A filter that knows the caller can set the header that clients cannot."""
    router = "- name: envoy.filters.http.router"
    own = f"""- name: envoy.filters.http.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
                      mutations:
                        request_mutations:
                          - append: {{header: {{key: x-orgstats-gateway, value: {signed("1")}}}}}
                  """
    with running("envoy", site.address, tmp_path, {router: own + router}) as gateway:
        assert gateway.get(ONE, X_Orgstats_Gateway="forged").status_code == 200
        assert gateway.get(TWO, X_Orgstats_Gateway=signed("2")).status_code == 403


def cached(gateway: Gateway, path: str, token: str) -> httpx.Response:
    """An answer that nginx had already; it keeps one for a second, so the first try may be too late."""
    found: list[httpx.Response] = []

    def hit() -> bool:
        found.append(gateway.get(path, token))
        return found[-1].headers["X-Cache-Status"] == "HIT"

    wait_for(hit, 20)
    return found[-1]


def test_nginx_caches_answers_for_a_second(nginx: Gateway, site: Site) -> None:
    """The same caller's next request is answered by nginx, with 304 if it has the answer; after a second by the API."""
    first = nginx.get(ONE, site.tokens["one"])
    again = cached(nginx, ONE, site.tokens["one"])
    assert (again.json(), again.headers["ETag"]) == (first.json(), first.headers["ETag"])

    def asked(**headers: str) -> tuple[int, str]:
        answer = nginx.get(ONE, site.tokens["one"], **headers)
        return answer.status_code, answer.headers["X-Cache-Status"]

    wait_for(lambda: asked(If_None_Match=first.headers["ETag"]) == (304, "HIT"), 20)
    wait_for(lambda: asked() == (200, "EXPIRED"), 20)


def test_nginx_cache_shows_new_counts_and_completeness(nginx: Gateway, site: Site) -> None:
    """What was counted since shows through the cache, and so does how far counts are complete when nothing changed."""
    path = ONE.replace(f"{FIRST + 7_199}", f"{FIRST + 10_799}")
    assert cached(nginx, path, site.tokens["one"]).json()[-1] == [FIRST + 7_200, 0]
    insert_counts(site.database, [Cell(1, FIRST + 7_200, 5)])
    insert_sources(site.database, [Counted(complete_until=FIRST + 7_300.0, next_offset=2)])
    wait_for(lambda: nginx.get(path, site.tokens["one"]).json()[-1] == [FIRST + 7_200, 5], 30)

    def complete_until() -> float:
        return float(nginx.get(TWO, site.tokens["two"]).headers["X-Stats-Complete-Until"])

    wait_for(lambda: complete_until() == FIRST + 7_300, 30)
    insert_sources(site.database, [Counted(complete_until=FIRST + 7_400.0, next_offset=3)])
    wait_for(lambda: complete_until() == FIRST + 7_400, 30)


def test_nginx_cache_is_per_caller(nginx: Gateway, site: Site) -> None:
    """While one caller's answer is kept, another's request for it goes to the API and is classified there."""
    for path, owner, other in ((ONE, "one", "two"), (TWO, "two", "one")):
        mine = cached(nginx, path, site.tokens[owner])
        refused = nginx.get(path, site.tokens[other])
        assert (refused.status_code, refused.headers["X-Cache-Status"]) == (403, "MISS")
        assert nginx.get(path).status_code == 401
        assert nginx.get(path, "x" * 40).status_code == 401
        assert cached(nginx, path, site.tokens["all"]).json() == mine.json()
        both = [("Authorization", f"Bearer {site.tokens[name]}") for name in (owner, other)]
        assert nginx.client.get(path, headers=both).status_code == 400


def test_nginx_answers_head_and_gzip(nginx: Gateway, site: Site) -> None:
    """HEAD has the headers and no body, also from the cache; a long answer is sent compressed."""
    cached(nginx, ONE, site.tokens["one"])
    head = nginx.client.head(ONE, headers={"Authorization": f"Bearer {site.tokens['one']}"})
    assert (head.status_code, head.content) == (200, b"")
    day = ONE.replace("1h", "10s")
    assert nginx.get(day, site.tokens["one"]).headers["Content-Encoding"] == "gzip"


class Identity(Quiet):
    """Somebody else's login: knows `X-Login: 1` and `2`, refuses `0`."""

    def do_GET(self) -> None:
        org = self.headers.get("X-Login", "")
        self.send_response(401 if org == "0" else 200)
        if org in ("1", "2"):
            self.send_header("X-Orgstats-Gateway", signed(org))
        if "X-Orgstats-Gateway" in self.headers:
            self.send_header("X-Orgstats-Gateway", signed("*"))
        self.end_headers()


def test_nginx_signs_identity_of_logged_in_user(site: Site, tmp_path: Path) -> None:
    """With identity.conf a login elsewhere is enough; it is for its organization only, and cannot be forged."""
    with serving(Identity) as identity:
        (tmp_path / "identity.conf").write_text(
            (FOLDER / "identity.conf").read_text().replace("http://identity:8080", f"http://{identity}")
        )
        changes = {"# include /etc/nginx/identity.conf": f"include {tmp_path}/identity.conf"}
        with running("nginx", site.address, tmp_path, changes) as gateway:
            for login, path, status in (("1", ONE, 200), ("2", ONE, 403), ("2", TWO, 200), ("1", TWO, 403)):
                assert gateway.get(path, X_Login=login).status_code == status
            refused = gateway.get(ONE, site.tokens["one"], X_Login="0")
            assert (refused.status_code, refused.json()) == (401, NO_CREDENTIALS)
            assert gateway.get(ONE, X_Orgstats_Gateway=signed("*")).json() == NO_CREDENTIALS
            assert gateway.get(ONE, site.tokens["one"]).status_code == 200
