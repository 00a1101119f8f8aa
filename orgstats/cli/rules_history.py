"""Where the history of rules is: what the commands of `orgstats rules` share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from clickhouse_driver import Client


@contextmanager
def clickhouse() -> Iterator["Client"]:
    """A connection to ORGSTATS_CLICKHOUSE_URL, its failures as this project's errors."""
    from clickhouse_driver import errors as driver_errors

    from orgstats.clickhouse.connect import connect, translate
    from orgstats.settings import ClickHouseSettings

    client = connect(ClickHouseSettings.from_env(os.environ).clickhouse_url, client_name="orgstats-rules")
    try:
        yield client
    except (driver_errors.Error, OSError, EOFError) as error:
        raise translate(error) from error
    finally:
        client.disconnect()


def moment(client: "Client", text: str) -> "datetime":
    """A time as people give it, relative to the server's clock; raises ConfigurationError."""
    from datetime import UTC, datetime

    from orgstats.consumer.store.rules import server_now
    from orgstats.errors import ConfigurationError
    from orgstats.times import parse_time

    try:
        return datetime.fromtimestamp(parse_time(text, server_now(client).timestamp()), UTC)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
