# /// script
# requires-python = ">=3.11"
# dependencies = ["bytewax[kafka]==0.21.1", "clickhouse-driver[lz4]==0.2.11", "msgspec==0.22.0"]
# ///
"""bytewax: a Kafka source that ends with the log, a map, and a sink that inserts when it has enough rows."""

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

from tests.bench.ingest.programs.job import BATCH, Job, Row
from tests.bench.ingest.programs.rows import row


class Rows(StatelessSinkPartition[Row | None]):
    """Inserts a batch whenever it is full, and what is left at the end."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._inserter = job.inserter()
        self._rows: list[Row] = []

    def write_batch(self, items: list[Row | None]) -> None:
        """Take rows as they come."""
        self._job.take(len(items))
        self._rows += [one for one in items if one is not None]
        if len(self._rows) >= BATCH:
            self._insert()

    def close(self) -> None:
        """The log is at its end."""
        self._insert()

    def _insert(self) -> None:
        self._inserter.insert(self._rows)
        self._rows = []


class Sink(DynamicSink[Row | None]):
    """One for the one worker."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Rows:
        """As bytewax asks for it."""
        return Rows(self._job)


def main() -> None:
    """Run until the log ends."""
    job = Job()
    extra = {name: str(value) for name, value in job.fetching.items()}
    source = KafkaSource([job.bootstrap_servers], [job.topic], tail=False, batch_size=10_000, add_config=extra)
    flow = Dataflow("rows")
    stream = op.input("read", flow, source)
    op.output("write", op.map("decode", stream, lambda message: row(message.value)), Sink(job))
    cluster_main(flow, [], 0)
    job.done()


if __name__ == "__main__":
    main()
