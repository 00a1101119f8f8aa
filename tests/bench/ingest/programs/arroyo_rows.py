# /// script
# requires-python = ">=3.11"
# dependencies = ["clickhouse-driver[lz4]==0.2.11", "msgspec==0.22.0", "sentry-arroyo==2.48.0"]
# ///
"""sentry-arroyo in the shape of Snuba's Python consumer: a task decodes, a reduce step batches, a task inserts."""

from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.processing.processor import StreamProcessor
from arroyo.processing.strategies import (
    CommitOffsets,
    ProcessingStrategy,
    ProcessingStrategyFactory,
    Reduce,
    RunTask,
)
from arroyo.types import BaseValue, Commit, FilteredPayload, Message, Partition, Topic

from tests.bench.ingest.programs.job import BATCH, BATCH_SECONDS, Job, Row
from tests.bench.ingest.programs.rows import row


def collect(rows: list[Row | None], value: BaseValue[Row | None]) -> list[Row | None]:
    """Add a row to its batch."""
    rows.append(value.payload)
    return rows


class Chain(ProcessingStrategyFactory[KafkaPayload]):
    """Decode → batch → insert → commit."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._inserter = job.inserter()
        self.processor: StreamProcessor[KafkaPayload] | None = None

    def create_with_partitions(
        self, commit: Commit, partitions: "dict[Partition, int]"
    ) -> ProcessingStrategy[FilteredPayload | KafkaPayload]:
        """The steps from last to first, as arroyo has them put together."""
        insert = RunTask(self._insert, CommitOffsets(commit))
        batch = Reduce(BATCH, BATCH_SECONDS, collect, list, insert)
        return RunTask(self._row, batch)

    def _row(self, message: Message[KafkaPayload]) -> Row | None:
        if self._job.taken == 0:
            self._job.take(0)
        return row(message.payload.value)

    def _insert(self, message: Message[list[Row | None]]) -> None:
        self._inserter.insert([one for one in message.payload if one is not None])
        if self._job.take(len(message.payload)) and self.processor is not None:
            self.processor.signal_shutdown()


def main() -> None:
    """Run until all records were inserted."""
    job = Job()
    configuration = build_kafka_consumer_configuration(
        job.fetching,
        bootstrap_servers=[job.bootstrap_servers],
        group_id=job.group,
        auto_offset_reset="earliest",
    )
    chain = Chain(job)
    chain.processor = StreamProcessor(KafkaConsumer(configuration), Topic(job.topic), chain)
    chain.processor.run()
    job.done()


if __name__ == "__main__":
    main()
