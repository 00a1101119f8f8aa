"""The one way to a ClickHouse server: URL in, client out, failures as this project's errors."""

import logging
import re
from typing import Any, Final

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors

from orgstats.clickhouse.arrays import ArrayClient
from orgstats.clickhouse.url import FORM, parse
from orgstats.errors import ConfigurationError, OrgstatsError, Unavailable

# The driver logs a stack trace with each failure that it also raises; ours is one line, and says what follows.
logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)

INSERT_SETTINGS: Final[dict[str, Any]] = {
    "async_insert": 0,  # the answer must mean "stored", or a commit could pass uncounted records
    "max_partitions_per_insert_block": 0,  # late events of many months are still one flush
    "insert_deduplicate": 0,  # a window would drop a row that is needed again: a partition restored, a zero undone
    # The rest is for clusters; a single server has nothing to do with it.
    "insert_distributed_sync": 1,  # stored on the shards, not on its way there
    "insert_quorum": "auto",  # what a majority of the replicas has, the loss of one server does not lose
    "insert_quorum_parallel": 1,  # or each consumer would wait for all others
    "parallel_distributed_insert_select": 0,  # each row goes where its key says, whatever it was read from
    "insert_quorum_timeout": 20_000,  # ms, before the client's own time is over
}

READ_SETTINGS: Final[dict[str, Any]] = {
    "do_not_merge_across_partitions_select_final": 0,  # a dead letter's rows may be in two weeks
    # The rest is for clusters; a single server has nothing to do with it.
    "skip_unavailable_shards": 0,  # a part of an answer is none
    "max_replica_delay_for_distributed_queries": 10,
    "fallback_to_stale_replicas_for_distributed_queries": 0,
    "distributed_product_mode": "deny",  # a join of two split tables would miss what is on other shards
    "optimize_skip_unused_shards": 1,  # an organization's series is asked of its shard alone
}

RETRYABLE_CODES: Final = frozenset(
    {
        # What a disk that is full answers in the middle of an insert (https://github.com/ClickHouse/ClickHouse/issues/6252)
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR
        76,  # CANNOT_OPEN_FILE
        32,  # ATTEMPT_TO_READ_AFTER_EOF: a shard was killed while it was sent its part of an insert
        159,  # TIMEOUT_EXCEEDED
        160,  # TOO_SLOW
        164,  # READONLY: a server that is being switched over; of a user that is readonly see `translate`
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
        341,  # UNFINISHED: a server of the cluster has not yet done its part
        369,  # ALL_REPLICAS_ARE_STALE
        173,  # CANNOT_ALLOCATE_MEMORY
        198,  # DNS_ERROR
        236,  # ABORTED: the server is shutting down
        244,  # UNEXPECTED_ZOOKEEPER_ERROR
        279,  # ALL_CONNECTION_TRIES_FAILED
        289,  # REPLICA_IS_NOT_IN_QUORUM
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        473,  # DEADLOCK_AVOIDED
        499,  # S3_ERROR
        722,  # ASYNC_LOAD_WAIT_FAILED
        733,  # TABLE_IS_BEING_RESTARTED
        745,  # SERVER_OVERLOADED
        999,  # KEEPER_EXCEPTION
    }
)
"""Server errors after which the same call may succeed; any other code needs a person."""


_REMEDIES: Final = {
    16: "the tables are of another version: run orgstats migrate",
    60: "run orgstats migrate",
    81: "run orgstats migrate, or correct the database in ORGSTATS_CLICKHOUSE_URL",
    192: "correct the user in ORGSTATS_CLICKHOUSE_URL",
    193: "correct the password in ORGSTATS_CLICKHOUSE_URL",
    497: "orgstats grants prints what the user needs",
    516: "correct user and password in ORGSTATS_CLICKHOUSE_URL",
}
"""What a person is to do about errors that no retry mends."""
_READONLY: Final = 164
_READONLY_REMEDY: Final = (
    "the user of ORGSTATS_CLICKHOUSE_URL has readonly in its profile, which the consumer may not have: the API's "
    "settings must be allowed, as orgstats grants --role api prints it; else the API needs readonly=2"
)

_OURS: Final = (
    driver_errors.TypeMismatchError,
    driver_errors.UnknownTypeError,
    driver_errors.TooLargeStringSize,
    driver_errors.CannotParseUuidError,
    driver_errors.CannotParseDomainError,
    driver_errors.LogicalError,
)
"""The driver's complaints about what it was told to send: sent again, they would come again."""


TIMEOUT_SECONDS: Final = 30.0
"""A client's time for one statement, unless it is given another."""


def connect(
    url: str,
    *,
    client_name: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    database: str | None = None,
    **settings: object,
) -> Client:
    """A client for `clickhouse://user:password@host:port/database`; it connects on first use.

    `database` goes over the URL's. A client serves one thread at a time. Raises ConfigurationError for a URL of
    another form.
    """
    try:
        address = parse(url)
    except ValueError as error:
        raise ConfigurationError(f"ORGSTATS_CLICKHOUSE_URL: {error}; {FORM}") from None
    return ArrayClient(
        address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=database or address.database,
        secure=address.secure,
        compression="lz4",
        client_name=client_name,
        connect_timeout=min(timeout_seconds, 10.0),
        send_receive_timeout=timeout_seconds,
        sync_request_timeout=5.0,
        tcp_keepalive=True,
        settings={
            **READ_SETTINGS,
            # Where a column names no time zone the driver gives times without one. These must be in this process's,
            # which is what Python takes them for, and not in the server's.
            "use_client_time_zone": True,
            "max_execution_time": max(1, int(timeout_seconds)),
            **settings,
        },
    )


_STATEMENT: Final = re.compile(r"Stack trace|In scope|[Ww]hile (?:processing|executing)|\(in query")
"""Where an error's text goes on with the statement that caused it, parameters included."""


def translate(error: Exception) -> OrgstatsError:
    """A driver's or socket's exception as one of ours: Unavailable when a retry can help.

    The text carries the server's code and its first line only: no SQL, no password.
    """
    if isinstance(error, driver_errors.ServerException):
        first_line = _STATEMENT.split(str(error.message).split("\n", 1)[0], maxsplit=1)[0].strip()[:300]
        text = f"ClickHouse error {error.code}: {first_line}"
        if error.code == _READONLY and "readonly mode" in first_line:  # the user's profile, which no retry changes
            return ConfigurationError(f"{text}: {_READONLY_REMEDY}")
        if error.code in _REMEDIES:
            return ConfigurationError(f"{text}: {_REMEDIES[error.code]}")
        return Unavailable(text) if error.code in RETRYABLE_CODES else OrgstatsError(text)
    if isinstance(error, _OURS):
        return OrgstatsError(f"{type(error).__name__} from the ClickHouse client: {error}"[:300])
    if isinstance(error, (driver_errors.NetworkError, driver_errors.SocketTimeoutError)):
        # The driver's text is the cause and, in brackets, host:port.
        return Unavailable(
            f"ClickHouse does not answer: {type(error).__name__}: {' '.join(str(error.message).split())}"
        )
    if isinstance(error, (driver_errors.Error, OSError, EOFError)):
        return Unavailable(f"ClickHouse does not answer: {type(error).__name__}")
    return OrgstatsError(f"unexpected {type(error).__name__} from the ClickHouse client")
