"""The connection to ClickHouse: what it makes of times, whatever time zone the process has."""

import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from orgstats.clickhouse.connect import connect

MOMENT = 1_790_000_400


@pytest.mark.parametrize(
    "column",
    ["toDateTime(%(at)s)", "toStartOfHour(toDateTime(%(at)s))", "toDateTime64(%(at)s, 3)", "toDateTime(%(at)s, 'UTC')"],
)
def test_a_time_is_the_same_moment_in_any_time_zone_of_the_process(clickhouse_url: str, column: str) -> None:
    """A column whose type names no time zone gives the moment that was stored, and takes it back."""
    with connect(clickhouse_url, client_name="tests") as client:
        seconds, moment = client.execute(f"SELECT toUnixTimestamp({column}), {column}", {"at": MOMENT})[0]
        assert moment.timestamp() == seconds
        client.execute("CREATE TEMPORARY TABLE moments (at DateTime)")
        client.execute("INSERT INTO moments (at) VALUES", [(datetime.fromtimestamp(MOMENT, UTC),), (moment,)])
        stored = client.execute("SELECT toUnixTimestamp(at) FROM moments")
        assert stored == [(MOMENT,), (seconds,)]


def test_tests_and_what_they_start_are_not_in_utc() -> None:
    """Or none of them would notice a time that was taken for a local one."""
    command = [sys.executable, "-c", "import time; print(time.tzname[0])"]
    started = subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    assert (time.tzname[0], started) == ("IST", "IST")
