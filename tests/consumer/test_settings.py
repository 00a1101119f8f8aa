"""What librdkafka would refuse is told when settings are read: one line, the variable, the remedy, no secret."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from orgstats.consumer.settings import ConsumerSettings
from orgstats.deploy.generate import GenerateSettings
from orgstats.errors import ConfigurationError

GOOD = {
    "ORGSTATS_BOOTSTRAP_SERVERS": "kafka:9092",
    "ORGSTATS_TOPIC": "outcomes",
    "ORGSTATS_CLICKHOUSE_URL": "clickhouse://u:p@db/x",
}
SASL = {"SECURITY_PROTOCOL": "sasl_plaintext", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "u"}
OAUTH = {"SECURITY_PROTOCOL": "sasl_plaintext", "SASL_MECHANISM": "OAUTHBEARER"}


@pytest.mark.parametrize(
    ("kafka", "variable", "words"),
    [
        ({"SESION_TIMEOUT_MS": "1"}, "SESION_TIMEOUT_MS", "no property sesion.timeout.ms"),
        ({"SESSION_TIMEOUT_MS": "S3cret"}, "SESSION_TIMEOUT_MS", "Invalid value"),
        ({"SSL_CA_LOCATION": "/no/such.pem"}, "SSL_CA_LOCATION", "/no/such.pem cannot be read: No such file"),
        ({"SSL_KEY_PEM": "S3cret", "SECURITY_PROTOCOL": "ssl"}, "SSL_KEY_PEM", "not in PEM format"),
        ({"SECURITY_PROTOCOL": "sasl_ssl", "SASL_PASSWORD": "S3cret"}, "SASL_MECHANISM", "SCRAM-SHA-512"),
        ({**SASL, "SASL_MECHANISM": "DIGEST", "SASL_PASSWORD": "S3cret"}, "SASL_MECHANISM", "Unsupported"),
        (SASL, "SASL_USERNAME", "must be set"),
        ({"SASL_PASSWORD": "S3cret"}, "SECURITY_PROTOCOL", "is plaintext, which sends no sasl.password"),
        ({**SASL, "SECURITY_PROTOCOL": "SSL"}, "SECURITY_PROTOCOL", "is ssl, which sends no sasl.username"),
        ({"SECURITY_PROTOCOL": "tls"}, "SECURITY_PROTOCOL", "tls"),
        (OAUTH, "SASL_OAUTHBEARER_METHOD", "oidc"),
        ({**OAUTH, "SASL_OAUTHBEARER_METHOD": "oidc"}, "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", "mandatory"),
    ],
)
def test_a_property_that_librdkafka_refuses_is_named_by_its_variable(
    kafka: dict[str, str], variable: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the consumer's settings and by the generator's, and librdkafka itself prints nothing."""
    env = {**GOOD, **{f"ORGSTATS_KAFKA__{name}": value for name, value in kafka.items()}}
    for kind in (ConsumerSettings, GenerateSettings):
        if kind is GenerateSettings and variable == "SESSION_TIMEOUT_MS":
            continue
        with pytest.raises(ConfigurationError) as refused:
            kind.from_env(env)
        text = str(refused.value)
        assert text.startswith(f"ORGSTATS_KAFKA__{variable}")
        assert words in text
        assert "S3cret" not in text
        assert "\n" not in text
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "servers", ["kafka:99999", "kafka:x", "a:9092,,b:9092", "[::1:9092", "a:1:2", "u:p@kafka:9092"]
)
def test_addresses_that_cannot_be_reached_are_refused(servers: str) -> None:
    """librdkafka takes them and then looks for a host of that name for ever."""
    with pytest.raises(ConfigurationError, match=r"^ORGSTATS_BOOTSTRAP_SERVERS: not of the form host:port"):
        ConsumerSettings.from_env({**GOOD, "ORGSTATS_BOOTSTRAP_SERVERS": servers})


def test_a_metrics_port_that_there_is_not_is_refused() -> None:
    """It was a trace once the daemon began to listen."""
    with pytest.raises(ConfigurationError, match=r"^ORGSTATS_METRICS_LISTEN: .*port"):
        ConsumerSettings.from_env({**GOOD, "ORGSTATS_METRICS_LISTEN": ":99999"})


def test_what_librdkafka_takes_is_taken(tmp_path: Path) -> None:
    """Several servers, IPv6, a folder of certificates, and a token endpoint, which nobody asks yet."""
    servers = "kafka:9092, [::1]:9093,SASL_SSL://other:9094,bare"
    oauth = {
        **OAUTH,
        "SASL_OAUTHBEARER_METHOD": "oidc",
        "SASL_OAUTHBEARER_CLIENT_ID": "u",
        "SASL_OAUTHBEARER_CLIENT_SECRET": "s",
        "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "https://login.example/token",
        "SSL_CA_LOCATION": str(tmp_path),
    }
    kafka = {f"ORGSTATS_KAFKA__{name}": value for name, value in oauth.items()}
    settings = ConsumerSettings.from_env({**GOOD, **kafka, "ORGSTATS_BOOTSTRAP_SERVERS": servers})
    assert settings.kafka_properties()["bootstrap.servers"] == servers


def signer(monkeypatch: pytest.MonkeyPatch, *, asked: list[str]) -> None:
    """The signer of AWS, as a module that only says which regions it was asked for."""

    def generate_auth_token(region: str) -> tuple[str, int]:
        asked.append(region)
        return "token", 1_700_000_000_000

    provider = SimpleNamespace(generate_auth_token=generate_auth_token)
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", SimpleNamespace(MSKAuthTokenProvider=provider))


def test_a_region_of_msk_is_a_token_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds, as librdkafka wants them; nothing is signed while settings are read."""
    asked: list[str] = []
    signer(monkeypatch, asked=asked)
    settings = ConsumerSettings.from_env({**GOOD, "ORGSTATS_MSK_REGION": "eu-west-1"})
    properties = settings.kafka_properties()
    assert (properties["security.protocol"], properties["sasl.mechanism"]) == ("SASL_SSL", "OAUTHBEARER")
    assert asked == []
    assert properties["oauth_cb"]("") == ("token", 1_700_000_000.0)
    assert asked == ["eu-west-1"]


def test_a_region_and_another_mechanism_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them is a mistake."""
    signer(monkeypatch, asked=[])
    other = {"ORGSTATS_MSK_REGION": "eu-west-1", "ORGSTATS_KAFKA__SASL_MECHANISM": "PLAIN"}
    with pytest.raises(
        ConfigurationError, match="ORGSTATS_KAFKA__SASL_MECHANISM: ORGSTATS_MSK_REGION needs OAUTHBEARER"
    ):
        ConsumerSettings.from_env({**GOOD, **other})


def test_without_the_extra_one_line_says_what_to_install() -> None:
    """Exit 78, as with every package that is missing."""
    env = {**os.environ, **GOOD, "ORGSTATS_MSK_REGION": "eu-west-1", "PYTHONPATH": ""}
    words = [str(Path(sys.executable).with_name("orgstats")), "config", "check", "consume"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        78, "orgstats: this needs aws_msk_iam_sasl_signer: pip install 'orgstats[msk]'\n",
    )  # fmt: skip
