"""What every program is told and tells: which records, where to, and how long they took. Standard library only,
and the ClickHouse driver: the others run in environments of their own.
"""

import json
import os
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

BATCH = 50_000
"""Rows per insert, and 2 s at most: Snuba's defaults, which all others get."""
BATCH_SECONDS = 2.0

COLUMNS = ("org_id", "project_id", "key_id", "timestamp", "outcome", "reason", "category", "quantity")
Row = tuple[int, int, int, datetime, int, str, int, int]


class Job:
    """The records to take, and a stopwatch from the first of them to the end of the work."""

    def __init__(self) -> None:
        self.bootstrap_servers = os.environ["BENCH_BOOTSTRAP_SERVERS"]
        self.topic = os.environ["BENCH_TOPIC"]
        self.group = os.environ["BENCH_GROUP"]
        self.records = int(os.environ["BENCH_RECORDS"])
        self.clickhouse_url = os.environ.get("BENCH_CLICKHOUSE_URL", "")
        self.fetching: dict[str, Any] = json.loads(os.environ["BENCH_FETCHING"])
        """librdkafka's properties as the daemon has them, so that none of the others is slower for its settings."""
        self.taken = 0
        self._began = 0.0
        self._began_cpu = 0.0

    def properties(self) -> dict[str, Any]:
        """For confluent-kafka."""
        own = {"bootstrap.servers": self.bootstrap_servers, "group.id": self.group}
        return {**self.fetching, **own, "enable.auto.commit": False, "auto.offset.reset": "earliest"}

    def take(self, records: int) -> bool:
        """Note that so many came; true when these were the last."""
        if not self._began:
            self._began, self._began_cpu = time.perf_counter(), time.process_time()
        self.taken += records
        return self.taken >= self.records

    def done(self) -> None:
        """Tell, as one line of JSON on stdout, how long it took since the first record, and ends there."""
        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._began_cpu
        print(json.dumps({"records": self.taken, "seconds": seconds, "cpu_seconds": cpu}), flush=True)

    def inserter(self) -> "Inserter":
        """Where rows go; nowhere when this run is without inserts."""
        return Inserter(self.clickhouse_url)


class Inserter:
    """Inserts batches of rows, one row per event."""

    def __init__(self, url: str) -> None:
        self._client = None
        if url:
            from clickhouse_driver import Client

            self._client = Client.from_url(url)

    def insert(self, rows: Sequence[Row]) -> None:
        """One insert; columns are handed over, since that is the driver's fastest way."""
        if self._client is not None and rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            self._client.execute(f"INSERT INTO raw_events ({', '.join(COLUMNS)}) VALUES", columns, columnar=True)


def row_of(event: dict[str, Any]) -> Row:
    """The row of a decoded event; raises what Python raises when it is not one."""
    return (
        event.get("org_id") or 0,
        event.get("project_id") or 0,
        event.get("key_id") or 0,
        datetime.fromisoformat(event["timestamp"]),
        event.get("outcome") or 0,
        event.get("reason") or "",
        event.get("category") or 1,
        event.get("quantity") or 1,
    )
