"""Settings: flags over environment over defaults, all faults at once, no secret ever shown."""

from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError, model_validator

from orgstats.errors import ConfigurationError
from orgstats.settings import Settings, mask_url


class Sample(Settings):
    """Settings with one field of each kind."""

    topic: tuple[str, ...] = Field(default=("outcomes",), description="one or more topics, separated by commas")
    flush_seconds: float = Field(default=1.0, ge=0.2, le=60, description="seconds between flushes, 0.2 to 60")
    clickhouse_url: str = "clickhouse://default@localhost:9000/default"
    kafka: dict[str, str] = Field(default={})
    signing_key: SecretStr | None = None
    projects: bool = True
    group: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Sample":
        if self.group == "other" and self.projects:
            raise ValueError("ORGSTATS_GROUP=other needs ORGSTATS_PROJECTS=false")
        return self


def test_flags_go_over_environment_over_defaults() -> None:
    """A flag wins over its variable, a variable over the default; a flag that is None was not given."""
    env = {"ORGSTATS_FLUSH_SECONDS": "5", "ORGSTATS_GROUP": "g", "OTHER": "x"}
    settings = Sample.from_env(env, flush_seconds=2.5, group=None)
    assert (settings.flush_seconds, settings.group, settings.projects) == (2.5, "g", True)
    assert settings.origins() == {
        "topic": "default",
        "flush_seconds": "flag",
        "clickhouse_url": "default",
        "kafka": "default",
        "signing_key": "default",
        "projects": "default",
        "group": "environment",
    }


def test_an_empty_variable_counts_as_absent() -> None:
    """ORGSTATS_X= is the same as no ORGSTATS_X."""
    assert Sample.from_env({"ORGSTATS_TOPIC": " ", "ORGSTATS_FLUSH_SECONDS": ""}) == Sample.from_env({})


def test_lists_are_separated_by_commas() -> None:
    """A list's variable holds its items between commas, blanks around them do not matter."""
    assert Sample.from_env({"ORGSTATS_TOPIC": "a, b,,c"}).topic == ("a", "b", "c")


def test_any_property_passes_through_a_dict() -> None:
    """ORGSTATS_KAFKA__FETCH_WAIT_MAX_MS becomes the property fetch.wait.max.ms."""
    env = {"ORGSTATS_KAFKA__FETCH_WAIT_MAX_MS": "7", "ORGSTATS_KAFKA__DEBUG": "", "ORGSTATS_KAFKA": "x"}
    assert Sample.from_env(env).kafka == {"fetch.wait.max.ms": "7"}


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    """ORGSTATS_X_FILE names a file with the text of ORGSTATS_X, which itself goes first; so do passwords of a dict."""
    (secret := tmp_path / "secret").write_text("from-file\n")
    file = str(secret)
    env = {"ORGSTATS_CLICKHOUSE_URL_FILE": file, "ORGSTATS_GROUP_FILE": file, "ORGSTATS_GROUP": "g"}
    env |= {"ORGSTATS_KAFKA__SASL_PASSWORD_FILE": file, "ORGSTATS_KAFKA__SASL_OAUTHBEARER_ASSERTION_FILE": "/x"}
    settings = Sample.from_env(env)
    assert (settings.clickhouse_url, settings.group) == ("from-file", "g")
    assert settings.kafka == {"sasl.password": "from-file", "sasl.oauthbearer.assertion.file": "/x"}
    assert settings.origins()["clickhouse_url"] == "environment"


def test_a_field_that_names_a_file_stays_what_it_is() -> None:
    """ORGSTATS_KEY_FILE is the field key_file where there is one, and not the text of key."""

    class Keys(Settings):
        """A key and a file of keys."""

        key: str | None = None
        key_file: Path | None = None

    keys = Keys.from_env({"ORGSTATS_KEY_FILE": "/keys"})
    assert (keys.key, keys.key_file) == (None, Path("/keys"))


def test_a_file_that_cannot_be_read_is_one_fault_among_others(tmp_path: Path) -> None:
    """The fault names the variable and the file; a missing value is not told a second time."""

    class Needy(Settings):
        """One field that must be given, one that must be a number."""

        url: str
        days: int = 1

    with pytest.raises(ConfigurationError) as error:
        Needy.from_env({"ORGSTATS_URL_FILE": f"{tmp_path}/absent", "ORGSTATS_DAYS": "x"})
    first, second = str(error.value).splitlines()
    assert first == f"ORGSTATS_URL_FILE: {tmp_path}/absent cannot be read: No such file or directory"
    assert second.startswith("ORGSTATS_DAYS: ")


def test_all_faults_come_together_with_variable_and_remedy() -> None:
    """One error names every variable that is wrong and says what would be right, without its value."""
    env = {"ORGSTATS_FLUSH_SECONDS": "s3cret", "ORGSTATS_PROJECTS": "maybe"}
    with pytest.raises(ConfigurationError) as error:
        Sample.from_env(env, colour="red")
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["ORGSTATS_FLUSH_SECONDS", "ORGSTATS_PROJECTS", "colour"]
    assert lines[0].endswith("; seconds between flushes, 0.2 to 60")
    assert "s3cret" not in str(error.value)


def test_a_fault_of_a_combination_says_what_the_settings_say() -> None:
    """A check over several settings speaks for itself."""
    with pytest.raises(ConfigurationError, match=r"^ORGSTATS_GROUP=other needs ORGSTATS_PROJECTS=false$"):
        Sample.from_env({"ORGSTATS_GROUP": "other"})


def test_settings_are_frozen() -> None:
    """Nothing changes settings once they are read."""
    with pytest.raises(ValidationError, match="frozen"):
        Sample().group = "x"


def test_no_secret_is_ever_shown() -> None:
    """Passwords, keys and tokens are masked in what is printed, also inside URLs and properties."""
    settings = Sample.from_env(
        {
            "ORGSTATS_CLICKHOUSE_URL": "clickhouse://me:pw1%40@host:9000/db",
            "ORGSTATS_KAFKA__SASL_PASSWORD": "pw2",
            "ORGSTATS_KAFKA__SSL_KEY_PEM": "pw3",
            "ORGSTATS_KAFKA__SASL_USERNAME": "me",
            "ORGSTATS_SIGNING_KEY": "pw4",
        }
    )
    assert settings.masked()["clickhouse_url"] == "clickhouse://me:****@host:9000/db"
    assert settings.masked()["kafka"] == {
        "sasl.password": "****",
        "ssl.key.pem": "****",
        "sasl.username": "me",
    }
    assert settings.masked()["signing_key"] == "****"
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "pw" not in text


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("clickhouse://a:b@h/d", "clickhouse://a:****@h/d"),
        ("clickhouse://:b@h", "clickhouse://:****@h"),
        ("clickhouse://a:b:c@d@h", "clickhouse://a:****@h"),
        ("clickhouse://a@h:9000/d", "clickhouse://a@h:9000/d"),
        ("clickhouse://h:9000/d", "clickhouse://h:9000/d"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, masked: str) -> None:
    """What stands between the user and the last @ is hidden."""
    assert mask_url(url) == masked
