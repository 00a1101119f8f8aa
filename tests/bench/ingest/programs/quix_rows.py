# /// script
# requires-python = ">=3.11"
# dependencies = ["clickhouse-driver[lz4]==0.2.11", "msgspec==0.22.0", "quixstreams==3.28.1"]
# ///
"""quixstreams: a dataframe over the topic, and a batching sink that inserts with every checkpoint."""

from typing import Any

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from tests.bench.ingest.programs.job import BATCH, BATCH_SECONDS, Job
from tests.bench.ingest.programs.rows import row


class Rows(BatchingSink):
    """Inserts what a checkpoint brings."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._inserter = job.inserter()

    def add(self, *args: Any, **named: Any) -> None:
        """Start the stopwatch with the first record."""
        if self._job.taken == 0:
            self._job.take(0)
        super().add(*args, **named)

    def write(self, batch: SinkBatch) -> None:
        """One insert."""
        rows = [item.value for item in batch]
        self._inserter.insert([one for one in rows if one is not None])
        self._job.take(len(rows))


def main() -> None:
    """Run until all records were inserted."""
    job = Job()
    app = Application(
        broker_address=job.bootstrap_servers,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_interval=BATCH_SECONDS,
        commit_every=BATCH,
        use_changelog_topics=False,
        loglevel="WARNING",
        consumer_extra_config=job.fetching,
    )
    topic = app.topic(job.topic, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).apply(row).sink(Rows(job))
    app.run(count=job.records)
    job.done()


if __name__ == "__main__":
    main()
