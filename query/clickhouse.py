"""The one way from the query side to ClickHouse: a bounded pool of connections with limits on every statement."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors

from orgstats import tracing
from orgstats.clickhouse.cluster import catch_up
from orgstats.clickhouse.connect import INSERT_SETTINGS, READ_SETTINGS, connect, translate
from orgstats.errors import Unavailable
from orgstats.query import metrics
from orgstats.query.params import InvalidQuery
from orgstats.query.sql import Statement
from orgstats.schemas import tables

_TOO_MUCH: Final = frozenset({158, 307, 396})  # TOO_MANY_ROWS, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
SENT_SETTINGS: Final = frozenset(
    {
        *READ_SETTINGS,
        *("do_not_merge_across_partitions_select_final", "enable_multiple_prewhere_read_steps", "join_use_nulls"),
        *("max_execution_time", "max_result_rows", "max_rows_to_read", "max_threads", "prefer_localhost_replica"),
        *("read_overflow_mode", "result_overflow_mode", "timeout_overflow_mode", "use_client_time_zone"),
    }
)
"""Settings that are sent with what is read, which a user that is read only must be allowed; a test has them refused."""
_CLICKHOUSE: Final = {"db.system.name": "clickhouse"}


class Database:
    """At most `size` connections, each lent to one thread at a time and made when first needed.

    Failure semantics: a statement is asked once. Whatever goes wrong on the way closes that connection, so
    the next statement starts on a new one; the error is Unavailable when asking again can help. A statement
    that reaches a limit of time or rows fails, it never answers with a part.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int = 8,
        timeout_seconds: float = 10.0,
        max_rows_to_read: int = 0,
        max_threads: int = 2,
    ) -> None:
        self.size = size
        self._timeout_seconds = timeout_seconds
        self._clients: list[Client] = [
            connect(
                url,
                client_name="orgstats-query",
                timeout_seconds=timeout_seconds,
                server_side_params=True,
                max_rows_to_read=max_rows_to_read,
                read_overflow_mode="throw",
                result_overflow_mode="throw",
                timeout_overflow_mode="throw",
                max_threads=max_threads,
                prefer_localhost_replica=0,  # or, alone of its shard, one that is behind would answer all the same
            )
            for _ in range(size)
        ]
        # Last in, first out: the connection used last is the one most likely to be alive.
        self._free: queue.LifoQueue[Client] = queue.LifoQueue()
        for client in self._clients:
            self._free.put(client)

    @property
    def in_use(self) -> int:
        """Connections lent at the moment."""
        return self.size - self._free.qsize()

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """The rows that a statement answers with.

        Raises Unavailable, InvalidQuery when it would read more rows than the limit, OrgstatsError for a
        fault of ours.
        """
        with tracing.span("read " + statement.name, _CLICKHOUSE), self._client() as client, metrics.read_seconds.time():
            return _rows(client, statement)

    def read_caught_up(self, statement: Statement) -> list[tuple[Any, ...]]:
        """The same for whoever goes on to change something: nothing that any server has acknowledged is missing.

        On a cluster this waits for replicas, which needs the right SYSTEM SYNC REPLICA; requests take `read`.
        """
        with self._client() as client:
            catch_up(client, statement.text)
            return _rows(client, statement)

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows as `orgstats.schemas.tables` has them; when this returns they are stored.

        Asked again after a failure it may write them twice, which the table's engine makes one.
        """
        with self._client() as client:
            client.execute(tables.insert(table), list(rows), settings=INSERT_SETTINGS)

    def close(self) -> None:
        """Close every connection; a statement under way on one fails."""
        for client in self._clients:
            client.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _client(self) -> Iterator[Client]:
        """Lend a connection; a failure inside of it closes it and comes out as one of our errors."""
        try:
            client = self._free.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise Unavailable(f"all {self.size} connections to ClickHouse are busy") from None
        try:
            yield client
        except Exception as error:
            client.disconnect()
            metrics.read_failures.inc()
            if isinstance(error, driver_errors.ServerException) and error.code in _TOO_MUCH:
                raise InvalidQuery("This range needs more rows than one request may read; ask for less.") from None
            raise translate(error) from error
        finally:
            self._free.put(client)


def _rows(client: Client, statement: Statement) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = client.execute(
        statement.text, dict(statement.parameters), settings=dict(statement.settings)
    )
    return rows
