"""Logging in by a signed token: a real broker that wants OAUTHBEARER, and a signer that stands for that of AWS.

The token is one that Kafka's own unsecured validator takes. What AWS signs, and what MSK takes, is not seen here.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from orgstats.deploy.local import apache_kafka
from tests.support import stored
from tests.support.daemon import Daemon
from tests.support.wait import wait_for

ORGSTATS = str(Path(sys.executable).with_name("orgstats"))
PASSWORD = "S3cret"
LOGIN = (
    'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="x";'
)
PROPERTIES = {
    "sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER",
    "listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config": LOGIN,
}
SIGNER = """
import base64, json, os, pathlib, time

def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

class MSKAuthTokenProvider:
    @staticmethod
    def generate_auth_token(region):
        if region == "nowhere":
            raise ValueError("no credentials")
        with pathlib.Path(os.environ["SIGNED"]).open("a") as signed:
            signed.write(region + "\\n")
        until = time.time() + 5
        claims = {"sub": "orgstats", "iat": time.time(), "exp": until}
        return f"{part({'alg': 'none'})}.{part(claims)}.", until * 1000
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[apache_kafka.Running]:
    """A broker that takes tokens, with a topic of ten events."""
    if reason := apache_kafka.runnable():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs an Apache Kafka of its own: {reason}")
    running = apache_kafka.start(tmp_path / "kafka", properties=PROPERTIES, sasl=("admin", PASSWORD))
    client: dict[str, str | int | float | bool] = {
        "bootstrap.servers": running.bootstrap_servers,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "admin",
        "sasl.password": PASSWORD,
    }
    admin = AdminClient(client)
    admin.create_topics([NewTopic("outcomes", 1, 1)])["outcomes"].result(30)
    produce(client, 10)
    yield running
    running.kill()


def produce(client: dict[str, str | int | float | bool], events: int) -> None:
    """Put events onto the topic."""
    producer = Producer(client)
    for _ in range(events):
        producer.produce("outcomes", b'{"timestamp": 1700000000, "org_id": 1, "outcome": 0}')
    assert producer.flush(30) == 0


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The settings of a process that logs in by IAM, and where its signer is."""
    (tmp_path / "signer").mkdir()
    (tmp_path / "signer" / "aws_msk_iam_sasl_signer.py").write_text(SIGNER)
    return {
        "ORGSTATS_MSK_REGION": "eu-west-1",
        "ORGSTATS_KAFKA__SECURITY_PROTOCOL": "sasl_plaintext",  # MSK's is SASL_SSL, the default
        "PYTHONPATH": str(tmp_path / "signer"),
        "SIGNED": str(tmp_path / "signed"),
    }


@pytest.mark.campaign
def test_consumers_and_commands_log_in_and_go_on_when_a_token_ends(
    broker: apache_kafka.Running, env: dict[str, str], clickhouse_url: str, tmp_path: Path
) -> None:
    """Counted to the end, with tokens of five seconds that are made anew; the operators' clients ask for theirs."""
    daemon = Daemon("msk", tmp_path, broker.bootstrap_servers, "outcomes", clickhouse_url, **env)
    signed = tmp_path / "signed"
    try:
        wait_for(lambda: stored.progress(clickhouse_url) == {0: 10}, 60, poll_seconds=0.1)
        before = len(signed.read_text().split())
        wait_for(lambda: len(signed.read_text().split()) > before + 2, 60, poll_seconds=0.1)
        settings = {
            "ORGSTATS_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "ORGSTATS_TOPIC": "outcomes",
            "ORGSTATS_CLICKHOUSE_URL": clickhouse_url,
        }
        for words in (["lag", "--interval", "0"], ["audit", "--recount"]):
            done = subprocess.run(
                [ORGSTATS, *words], env={**os.environ, **env, **settings}, capture_output=True, text=True, timeout=60,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert daemon.child.stop(grace_seconds=30) == 0
        assert set(signed.read_text().split()) == {"eu-west-1"}
    finally:
        daemon.child.kill()
