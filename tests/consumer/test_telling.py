"""What a consumer tells the operators' page, and that it waits for nothing."""

from clickhouse_driver import Client
from structlog.testing import capture_logs

from orgstats.clickhouse.connect import connect
from orgstats.consumer.store.store import Store
from orgstats.consumer.telling import RETRY_SECONDS, Telling
from orgstats.consumer.watch import Seen
from orgstats.errors import Unavailable

NOW = 1_800_000_000.0
SEEN = [Seen("outcomes", 0, 5, 90, 80, NOW + 60), Seen("outcomes", 1, 0, 7, 7, 1e15)]


def test_the_last_look_is_stored_with_the_reasons_to_pause(clickhouse_url: str) -> None:
    """A row a partition; a deadline that is centuries away is none."""
    reasons = ["rules"]
    store = Store(lambda: connect(clickhouse_url, client_name="tests"))
    telling = Telling(store, "c-1", lambda: reasons)
    telling(SEEN, NOW - 5)
    reasons.clear()
    telling(SEEN, NOW)
    store.close()
    with connect(clickhouse_url, client_name="tests") as client:
        rows = client.execute(
            "SELECT topic, partition, consumer, log_start, log_end, readable_end,"
            " toUnixTimestamp(retention_deadline), pause_reasons, toUnixTimestamp(at) FROM watched FINAL ORDER BY ALL"
        )
    assert rows == [
        ("outcomes", 0, "c-1", 5, 90, 80, int(NOW) + 60, [], int(NOW)),
        ("outcomes", 1, "c-1", 0, 7, 7, 0, [], int(NOW)),
    ]


def test_after_a_failure_it_does_not_try_for_a_while() -> None:
    """The metrics of the same thread must stay fresh while ClickHouse is away."""
    tried = []

    def away() -> Client:
        tried.append(1)
        raise Unavailable("away")

    telling = Telling(Store(away), None, list)
    with capture_logs() as lines:
        for later in (0.0, 5.0, RETRY_SECONDS - 1, RETRY_SECONDS):
            telling(SEEN, NOW + later)
    assert len(tried) == len(lines) == 2
