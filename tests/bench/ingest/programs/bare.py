"""Our own loop without the guarantee: the same reading, decoding and tallying into cells that are added up by the
server, no chunks, versions, positions or fingerprints. What the daemon costs more than this is what the
guarantee costs.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from confluent_kafka import Consumer, Message

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.batch import BatchCounter, Record
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.kafka.properties import DEFAULTS
from orgstats.consumer.settings import ConsumerSettings
from orgstats.schemas.outcomes import STAT_CATEGORIES
from tests.bench.ingest.programs.job import Job

_CELL = "org_id, bucket, project_id, category, outcome, reason, quantity, events"
INSERTS = (
    f"INSERT INTO bare_counts ({_CELL}) VALUES",
    f"INSERT INTO bare_hourly ({_CELL}) VALUES",
    "INSERT INTO bare_totals (org_id, width, bucket, accepted, filtered, rate_limited) VALUES",
)
Cells = dict[tuple[Any, ...], list[int]]


class Bare:
    """Cells since the last insert; an insert is made beside the reading, as the daemon makes its own."""

    def __init__(self, job: Job) -> None:
        self._batch = BatchCounter(AgeLimits(), RuleHistory([]))
        self._client = connect(job.clickhouse_url, client_name="bare")
        self._thread = ThreadPoolExecutor(1)
        self._pending = self._batch.pending()
        self.cells: tuple[Cells, Cells, Cells] = ({}, {}, {})
        self._flight: Future[None] | None = None

    def count(self, messages: list[Message]) -> None:
        """Tally a batch; dead letters are only left out."""
        self._batch.count(cast("list[Record]", messages), self._pending)

    def begin_insert(self) -> None:
        """Hand the cells to the inserting thread."""
        counts, hourly, totals = self.cells
        for tally, events in self._batch.fold(self._pending):
            quantity = events * (1 if tally.quantity is None else tally.quantity)
            org, category = tally.org_id or 0, 1 if tally.category is None else tally.category
            hour = tally.bucket // 3600 * 3600
            rest = (tally.project_id or 0, category, tally.outcome, (tally.reason or "")[:64])
            for cells, bucket in ((counts, tally.bucket), (hourly, hour)):
                cell = cells.setdefault((org, bucket, *rest), [0, 0])
                cell[0] += quantity
                cell[1] += events
            if category in STAT_CATEGORIES and tally.outcome <= 2:
                for width, bucket in ((10, tally.bucket), (3600, hour)):
                    totals.setdefault((org, width, bucket), [0, 0, 0])[tally.outcome] += quantity
        rows = [[(*key, *cell) for key, cell in cells.items()] for cells in self.cells]
        self.cells = ({}, {}, {})
        self._flight = self._thread.submit(self._insert, rows)

    @property
    def inserting(self) -> bool:
        """Whether an insert is under way."""
        return self._flight is not None and not self._flight.done()

    def inserted(self) -> bool:
        """Wait for the insert under way, if any; whether there was one. Raises what went wrong."""
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.result()
        return flight is not None

    def _insert(self, rows: list[list[tuple[Any, ...]]]) -> None:
        for statement, some in zip(INSERTS, rows, strict=True):
            if some:
                self._client.execute(statement, list(zip(*some, strict=True)), columnar=True)


def main() -> None:
    """Read, tally and insert all records."""
    job = Job()
    bare = Bare(job)
    size: int = ConsumerSettings.model_fields["batch_size"].default
    consumer = Consumer({**DEFAULTS, **job.properties()})
    consumer.subscribe([job.topic])
    due = time.monotonic() + 1
    finished = False
    while not finished:
        messages = consumer.consume(size, 0.1)
        if messages:
            bare.count(messages)
            finished = job.take(len(messages))
        if not bare.inserting and time.monotonic() > due:
            if bare.inserted():
                consumer.commit(asynchronous=True)
            bare.begin_insert()
            due = time.monotonic() + 1
    bare.inserted()
    bare.begin_insert()
    bare.inserted()
    job.done()
    consumer.close()


if __name__ == "__main__":
    main()
