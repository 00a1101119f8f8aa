"""The settings of the query side."""

from pathlib import Path

import pytest

from orgstats.errors import ConfigurationError
from orgstats.query.settings import QuerySettings, split_address

URL = {"ORGSTATS_CLICKHOUSE_URL": "clickhouse://default:hunter2@127.0.0.1:9000/default"}


def test_one_variable_is_enough() -> None:
    """Everything but ClickHouse's address has a default, and without a key there is no gateway."""
    settings = QuerySettings.from_env(URL)
    assert settings.listen == "127.0.0.1:8000"
    assert settings.gateway() is None


def test_all_faults_are_told_at_once() -> None:
    """Each wrong variable is named with its remedy."""
    wrong = {"ORGSTATS_LISTEN": "8000", "ORGSTATS_REVOCATION_SECONDS": "31", "ORGSTATS_RETENTION_DAYS": "-1"}
    with pytest.raises(ConfigurationError) as caught:
        QuerySettings.from_env(wrong)
    for name in ("LISTEN", "REVOCATION_SECONDS", "RETENTION_DAYS", "CLICKHOUSE_URL"):
        assert f"ORGSTATS_{name}: " in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """Neither the password of ClickHouse nor a gateway's key."""
    settings = QuerySettings.from_env({**URL, "ORGSTATS_GATEWAY_KEY": "k" * 40})
    assert "hunter2" not in repr(settings)
    assert "kkk" not in repr(settings)
    assert settings.gateway() is not None


def test_gateway_keys_are_read_from_a_file(tmp_path: Path) -> None:
    """The gateway's keys may stand in a file, which must be there and hold good ones."""
    good, short = tmp_path / "good", tmp_path / "short"
    good.write_text("# of today\n" + "k" * 32 + "\n")
    short.write_text("secret")
    assert QuerySettings.from_env({**URL, "ORGSTATS_GATEWAY_KEY_FILE": str(good)}).gateway() is not None
    for path in (short, tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match="ORGSTATS_GATEWAY_KEY") as caught:
            QuerySettings.from_env({**URL, "ORGSTATS_GATEWAY_KEY_FILE": str(path)})
        assert "secret" not in str(caught.value).replace("secrets", "")


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_listen_addresses_are_parsed(text: str, parts: tuple[str, int]) -> None:
    """A host, also an IPv6 one in brackets, and a port."""
    assert split_address(text) == parts


@pytest.mark.parametrize("text", ["", "80", ":80", "host:", "host:http", "host:65536", "host:-1"])
def test_invalid_listen_addresses_are_refused(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="host:port"):
        split_address(text)
