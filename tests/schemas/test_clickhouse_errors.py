"""What the driver raises, told in one line with host or remedy."""

import pytest
from clickhouse_driver import errors as driver_errors

from orgstats.clickhouse.connect import connect, translate
from orgstats.errors import ConfigurationError, Unavailable


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    """Only the kind of error was told."""
    with pytest.raises(driver_errors.NetworkError) as away:
        connect("clickhouse://u:S3cret@127.0.0.1:1/x", client_name="tests").execute("SELECT 1")
    told = translate(away.value)
    assert isinstance(told, Unavailable)
    assert "127.0.0.1:1" in str(told)
    assert "refused" in str(told)
    assert "S3cret" not in str(told)
    assert "\n" not in str(told)


@pytest.mark.parametrize(
    "text", ["Cannot modify 'max_threads' setting in readonly mode", "u: Cannot execute query in readonly mode."]
)
def test_a_user_that_is_readonly_is_told_what_to_change(text: str) -> None:
    """It was tried again for ever."""
    told = translate(driver_errors.ServerException(text, 164))
    assert isinstance(told, ConfigurationError)
    assert "the API needs readonly=2" in str(told)


def test_a_server_that_is_switched_over_is_tried_again() -> None:
    """The same code, for another reason."""
    assert isinstance(translate(driver_errors.ServerException("Database is read-only", 164)), Unavailable)
