"""Credentials that are refused, a token endpoint, and a broker that is away: told once, with host and cause."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import Mock

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException
from confluent_kafka import KafkaError

from orgstats.consumer.kafka.admin import Heard
from orgstats.consumer.kafka.broker import Broker
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer
from orgstats.consumer.kafka.topics import Topics
from orgstats.consumer.ops import doctor, rights
from orgstats.consumer.ops.connections import open_connections
from orgstats.consumer.ops.doctor import examine
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import ConfigurationError, Unavailable
from tests.support.wait import wait_for

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}
SECRET = "S3cret"


def _read(properties: dict[str, Any]) -> None:
    quiet = Callbacks(*[lambda _: None] * 4)
    log = GroupConsumer({**properties, "group.id": "orgstats"}, ["outcomes"], quiet)
    wait_for(lambda: log.read(10, 0.2).troubles, 10)


ASKED: dict[str, Callable[[dict[str, Any]], object]] = {
    "describe": lambda properties: Topics(properties).describe(["outcomes"]),
    "partitions": lambda properties: Topics(properties).partitions("outcomes"),
    "ends": lambda properties: Topics(properties).ends([("outcomes", 0)], "read_committed"),
    "cluster": lambda properties: Broker(properties).cluster(),
    "members": lambda properties: Broker(properties).group_members("orgstats"),
    "consumer": _read,
}


@pytest.fixture
def refusing() -> Iterator[str]:
    """A token endpoint that knows nobody."""

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"no")

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/token"
    server.shutdown()
    server.server_close()


def _oauth(endpoint: str) -> dict[str, Any]:
    return {
        **NOBODY,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "orgstats",
        "sasl.oauthbearer.client.secret": SECRET,
        "sasl.oauthbearer.token.endpoint.url": endpoint,
    }


@pytest.mark.parametrize("asked", ASKED)
def test_a_token_endpoint_that_refuses_ends_every_question_with_78(asked: str, refusing: str) -> None:
    """It was waited for until the time was over, and then the broker was blamed."""
    with pytest.raises(ConfigurationError, match=r"token endpoint .* refuses the client: no: ") as refused:
        ASKED[asked](_oauth(refusing))
    assert SECRET not in str(refused.value)


def test_a_token_endpoint_that_is_away_is_named_and_asked_again() -> None:
    """69: the endpoint will come back."""
    with pytest.raises(Unavailable, match=r"the token endpoint http://127\.0\.0\.1:1/token does not answer"):
        Topics(_oauth("http://127.0.0.1:1/token")).describe(["outcomes"])


@pytest.mark.parametrize("asked", ["describe", "cluster"])
def test_a_broker_that_is_away_is_told_in_one_line(
    asked: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its address and the cause, and librdkafka writes nothing of its own beside it."""
    monkeypatch.setattr("orgstats.consumer.kafka.admin.ANSWER_SECONDS", 1.0)
    with pytest.raises(Unavailable, match=r"does not answer at 127\.0\.0\.1:1: .*Connection refused") as away:
        ASKED[asked](NOBODY)
    assert "\n" not in str(away.value)
    assert capfd.readouterr().err == ""


def test_a_refusal_after_an_answer_is_passed_over() -> None:
    """A broker that restarts may refuse for moments what it took before; a running consumer goes on."""
    heard = Heard(NOBODY)
    heard.answered()
    heard(KafkaError(KafkaError._AUTHENTICATION, "Authentication failed"))
    heard.check()


def test_a_connection_cut_while_authenticating_is_no_refusal() -> None:
    """librdkafka calls both an authentication failure."""
    heard = Heard(NOBODY)
    heard(KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: Broker transport failure"))
    heard.check()
    heard(KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: invalid credentials"))
    with pytest.raises(ConfigurationError, match="refuses the credentials in ORGSTATS_KAFKA__SASL"):
        heard.check()


def test_silence_names_the_token_endpoint_too() -> None:
    """An endpoint that answers 503 is asked again for a minute, in which librdkafka says nothing."""
    told = str(Heard(_oauth("http://127.0.0.1:1/token")).silence("metadata"))
    assert "metadata timed out; maybe the token endpoint http://127.0.0.1:1/token gives no token" in told


def test_the_doctor_asks_a_server_that_is_away_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further check would wait just as long."""
    monkeypatch.setattr("orgstats.consumer.kafka.admin.ANSWER_SECONDS", 1.0)
    env = {
        "ORGSTATS_BOOTSTRAP_SERVERS": NOBODY["bootstrap.servers"],
        "ORGSTATS_TOPIC": "outcomes",
        "ORGSTATS_CLICKHOUSE_URL": "clickhouse://u:S3cret@127.0.0.1:1/x",
    }
    _speed, kafka, clickhouse = examine(open_connections(ConsumerSettings.from_env(env)))
    assert kafka.what.startswith("Kafka does not answer at 127.0.0.1:1")
    assert clickhouse.what.startswith("ClickHouse does not answer")
    assert (kafka.level, clickhouse.level) == ("act", "act")


def test_the_doctor_says_once_that_a_user_is_readonly(monkeypatch: pytest.MonkeyPatch) -> None:
    """readonly=1 refuses every statement for its settings, so that each further look would fail alike."""
    monkeypatch.setattr("orgstats.consumer.kafka.admin.ANSWER_SECONDS", 1.0)

    def refuse(*_: Any, **__: Any) -> None:
        raise ServerException("DB::Exception: Cannot modify 'max_execution_time' setting in readonly mode.", 164)

    monkeypatch.setattr(Client, "execute", refuse)
    env = {
        "ORGSTATS_BOOTSTRAP_SERVERS": NOBODY["bootstrap.servers"],
        "ORGSTATS_TOPIC": "outcomes",
        "ORGSTATS_CLICKHOUSE_URL": "clickhouse://u:S3cret@127.0.0.1:1/x",
    }
    _, _, told = examine(open_connections(ConsumerSettings.from_env(env)))
    assert told.level == "act"
    assert "the API needs readonly=2" in told.what


@pytest.mark.parametrize(("level", "acts"), [(0, 0), (2, 1)])
def test_the_doctor_says_that_a_user_cannot_store(level: int, acts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile with readonly=2 answers every question, and grants do not show it."""
    answers = {"getSetting": [(level,)], "system.tables": [("d", "", False)], "CHECK GRANT": [(1,)]}
    monkeypatch.setattr(rights, "ask", lambda _, query, __: next(answers[one] for one in answers if one in query))
    found = [one for one in doctor._rights(Mock()) if one.level == "act"]
    assert ["readonly in its profile" in one.what for one in found] == [True] * acts
