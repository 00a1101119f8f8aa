# /// script
# requires-python = ">=3.11"
# dependencies = ["aiokafka[lz4]==0.14.0", "clickhouse-driver[lz4]==0.2.11", "msgspec==0.22.0"]
# ///
"""aiokafka: getmany, one row per event, and the insert on a thread while the next records come."""

import asyncio

from aiokafka import AIOKafkaConsumer

from tests.bench.ingest.programs.job import BATCH, Job, Row
from tests.bench.ingest.programs.rows import row


async def main() -> None:
    """Read until all records were inserted."""
    job = Job()
    inserter = job.inserter()
    consumer = AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap_servers,
        group_id=job.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    rows: list[Row] = []
    finished = False
    while not finished:
        for messages in (await consumer.getmany(timeout_ms=100, max_records=10_000)).values():
            finished = job.take(len(messages))
            rows += [one for one in (row(message.value) for message in messages) if one is not None]
        if finished or len(rows) >= BATCH:
            await asyncio.to_thread(inserter.insert, rows)
            await consumer.commit()
            rows = []
    job.done()
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
