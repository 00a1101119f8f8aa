# /// script
# requires-python = ">=3.11"
# dependencies = ["clickhouse-driver[lz4]==0.2.11", "confluent-kafka==2.16.1", "pydantic==2.14.3"]
# ///
"""The script that one would write first: poll, a pydantic model, one row per event, an insert when there are enough."""

import time
from contextlib import suppress
from datetime import datetime

from confluent_kafka import Consumer
from pydantic import BaseModel, ValidationError

from tests.bench.ingest.programs.job import BATCH, BATCH_SECONDS, Job, Row


class Event(BaseModel):
    """One outcome."""

    timestamp: datetime
    org_id: int | None = None
    project_id: int | None = None
    key_id: int | None = None
    outcome: int | None = None
    reason: str | None = None
    category: int | None = None
    quantity: int | None = None


def row_of(event: Event) -> Row:
    """As it is inserted."""
    return (
        event.org_id or 0,
        event.project_id or 0,
        event.key_id or 0,
        event.timestamp,
        event.outcome or 0,
        event.reason or "",
        event.category or 1,
        event.quantity or 1,
    )


def main() -> None:
    """Poll until all records were inserted."""
    job = Job()
    inserter = job.inserter()
    consumer = Consumer(job.properties())
    consumer.subscribe([job.topic])
    rows: list[Row] = []
    due = time.monotonic() + BATCH_SECONDS
    finished = False
    while not finished:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            finished = job.take(1)
            with suppress(ValidationError):  # as such scripts do
                rows.append(row_of(Event.model_validate_json(message.value() or b"")))
        if finished or len(rows) >= BATCH or time.monotonic() > due:
            inserter.insert(rows)
            if rows:
                consumer.commit(asynchronous=False)
            rows.clear()
            due = time.monotonic() + BATCH_SECONDS
    job.done()
    consumer.close()


if __name__ == "__main__":
    main()
