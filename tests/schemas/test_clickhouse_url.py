"""The ClickHouse URL: any password works and none is shown; what cannot be read is refused in words."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgstats.clickhouse.connect import connect
from orgstats.clickhouse.url import Address, parse
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import ConfigurationError
from orgstats.query.settings import QuerySettings
from orgstats.schemas.migrate import MigrateSettings
from orgstats.settings import ClickHouseSettings, Settings, mask_url

KINDS: list[type[Settings]] = [ClickHouseSettings, ConsumerSettings, MigrateSettings, QuerySettings]
KAFKA = {"ORGSTATS_BOOTSTRAP_SERVERS": "kafka:9092", "ORGSTATS_TOPIC": "outcomes"}

# Marked, so that a piece of it is found wherever it appears; the rest is what a URL could stumble over.
passwords = st.text(alphabet="/?#@:%&=[]\\ \n'\"äaZ0.,", max_size=12).map(lambda text: f"S3c{text}r3t")
hosts = st.sampled_from(["db", "10.0.0.7:9000", "[::1]:9440", "ch.example:1", "[::1"])


@given(passwords)
def test_a_password_works_as_it_is(password: str) -> None:
    """Raw: `/ ? # @` need no encoding; only `%` does, where two hexadecimal digits follow it."""
    raw = password.replace("%", "%25")
    assert parse(f"clickhouse://us:{raw}@db:9001/x") == Address("db", 9001, "us", password, "x", False)
    assert parse(f"clickhouses://us:{quote(password, safe='')}@db/x") == Address("db", 9440, "us", password, "x", True)


@given(passwords, hosts, st.sampled_from(["", "/", "/x", "/a/b", "?x=1"]), st.sampled_from(["clickhouse", "http", ""]))
def test_no_password_is_ever_shown(password: str, host: str, path: str, scheme: str) -> None:
    """Not by masking, by settings as text, by values to show, nor by the text of a refusal."""
    url = f"{scheme}://us:{password}@{host}{path}"
    shown = [mask_url(url), mask_url(f"cannot read {url}: why")]
    for kind in KINDS:
        try:
            settings = kind.from_env({**KAFKA, "ORGSTATS_CLICKHOUSE_URL": url})
        except ConfigurationError as error:
            shown.append(str(error))
        else:
            shown += [repr(settings), str(settings.masked())]
    try:
        connect(url, client_name="tests")
    except ConfigurationError as error:
        shown.append(str(error))
    for text in shown:
        assert "S3c" not in text
        assert "r3t" not in text


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("clickhouse://u:p@host:99999/x", "port"),
        ("clickhouse://u:p@host:x/x", "port"),
        ("clickhouse://u:p@host:/x", "port"),
        ("clickhouse://u:p@a:9000,b:9000/x", "several hosts"),
        ("clickhouse://u:p@[::1/x", "brackets"),
        ("clickhouse://u:p@::1/x", "name one host"),
        ("clickhouse:///x", "host"),
        ("clickhouse://u:S3c/r3t", "port"),
        ("clickhouse://u:p@host/x?secure=1", "behind the database"),
        ("host:9000", "clickhouse://"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(url: str, word: str) -> None:
    """A fault of the URL ends with 78 and says what is wrong with it, when settings are read and when connecting."""
    with pytest.raises(ConfigurationError, match="ORGSTATS_CLICKHOUSE_URL") as read:
        QuerySettings.from_env({"ORGSTATS_CLICKHOUSE_URL": url})
    with pytest.raises(ConfigurationError, match="ORGSTATS_CLICKHOUSE_URL") as connected:
        connect(url, client_name="tests")
    assert str(read.value) == str(connected.value)
    assert word in str(read.value)
    assert "S3c" not in str(read.value)
