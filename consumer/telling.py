"""Stores what the operators' page shows of the logs, which otherwise only this process knows.

It is read by no consumer, and nothing is decided by it. Failure semantics: a row that is not stored is followed by
another one. It may take a moment only, and after a failure none is tried for a while, so that the metrics of the logs,
which the same thread keeps, stay fresh while ClickHouse is away or slow.
"""

import socket
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from orgstats.clickhouse.connect import INSERT_SETTINGS
from orgstats.consumer.store.store import Store
from orgstats.consumer.watch import Seen
from orgstats.errors import OrgstatsError
from orgstats.schemas.tables import WatchedRow, insert
from orgstats.times import LAST_SECOND

RETRY_SECONDS: Final = 60.0
INSERT_SECONDS: Final = 5.0
"""ClickHouse's time for one insert."""

logger = structlog.get_logger("orgstats.consumer")


class Telling:
    """Tells of what was seen, and why nothing is read at the moment."""

    def __init__(self, store: Store, instance_id: str | None, pause_reasons: Callable[[], Collection[str]]) -> None:
        """`store` is for this alone; without an `instance_id` a consumer has the name of its host."""
        self._store = store
        self._name = instance_id or socket.gethostname()
        self._pause_reasons = pause_reasons
        self._not_before = 0.0

    def __call__(self, seen: Sequence[Seen], now: float) -> None:
        """Store it; `now` in epoch seconds."""
        if not seen or now < self._not_before:
            return
        reasons, at = list(self._pause_reasons()), datetime.fromtimestamp(now, UTC)
        rows = [
            WatchedRow(
                one.topic,
                one.partition,
                self._name,
                one.log_start,
                one.log_end,
                one.readable_end,
                _moment(one.retention_deadline),
                reasons,
                at,
            )
            for one in seen
        ]
        try:
            # Not as a flush is inserted: nothing that a test makes happen after one may happen here.
            self._store.run(lambda client: client.execute(insert("watched"), rows, settings=INSERT_SETTINGS))
        except OrgstatsError as error:
            logger.warning("cannot tell the operators' page of the logs", error=str(error))
            self._not_before = now + RETRY_SECONDS


def _moment(deadline: float | None) -> datetime:
    """As it is stored; one that is centuries away is none."""
    return datetime.fromtimestamp(deadline if deadline and deadline < LAST_SECOND else 0, UTC)
