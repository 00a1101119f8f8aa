"""The one way to a ClickHouse server: URL in, client out, failures as this project's errors."""

from typing import Any, Final
from urllib.parse import unquote, urlsplit

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors

from schemas.errors import ConfigurationError, OrgstatsError, Unavailable

INSERT_SETTINGS: Final[dict[str, Any]] = {
    "async_insert": 0,  # the answer must mean "stored", or a commit could pass uncounted records
    "max_partitions_per_insert_block": 0,  # late events of many months are still one flush
    "insert_deduplicate": 0,  # the version decides; a deduplication window would only be a second opinion
}

RETRYABLE_CODES: Final = frozenset(
    {
        159,  # TIMEOUT_EXCEEDED
        160,  # TOO_SLOW
        164,  # READONLY: a server that is being switched over
        201,  # QUOTA_EXCEEDED
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        225,  # NO_ZOOKEEPER
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        285,  # TOO_FEW_LIVE_REPLICAS
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        999,  # KEEPER_EXCEPTION
    }
)
"""Server errors after which the same call may succeed; any other code needs a person."""


def connect(url: str, *, client_name: str, timeout_seconds: float = 30.0, **settings: Any) -> Client:
    """A client for `clickhouse://user:password@host:port/database`; it connects on first use.

    A client serves one thread at a time. Raises ConfigurationError for a URL of another form.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("clickhouse", "clickhouses") or not parts.hostname:
        raise ConfigurationError(
            "ORGSTATS_CLICKHOUSE_URL must look like clickhouse://user:password@host:9000/database"
        )
    secure = parts.scheme == "clickhouses"
    return Client(
        parts.hostname,
        port=parts.port or (9440 if secure else 9000),
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")) or "default",
        secure=secure,
        compression="lz4",
        client_name=client_name,
        connect_timeout=min(timeout_seconds, 10.0),
        send_receive_timeout=timeout_seconds,
        sync_request_timeout=5.0,
        tcp_keepalive=True,
        settings={"max_execution_time": max(1, int(timeout_seconds)), **settings},
    )


def translate(error: Exception) -> OrgstatsError:
    """A driver's or socket's exception as one of ours: Unavailable when a retry can help.

    The text carries the server's code and its first line only: no SQL, no password.
    """
    if isinstance(error, driver_errors.ServerException):
        first_line = str(error.message).split("\n", 1)[0].split("Stack trace", 1)[0].strip()[:300]
        kind = Unavailable if error.code in RETRYABLE_CODES else OrgstatsError
        return kind(f"ClickHouse error {error.code}: {first_line}")
    if isinstance(error, (driver_errors.Error, OSError, EOFError)):
        return Unavailable(f"ClickHouse does not answer: {type(error).__name__}")
    return OrgstatsError(f"unexpected {type(error).__name__} from the ClickHouse client")
