"""Our own core without the guarantee: the same reading, counting and cells, inserted every second by a thread beside.

There are no chunks, versions, positions, marks over the log, fingerprints or questions before an insert, and what was
read is committed by itself. So after a restart its counts are wrong. What the daemon costs more than this is what the
guarantee costs.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from orgstats.clickhouse.connect import INSERT_SETTINGS, connect
from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cell_table import Columns
from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.chunk import Chunk
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.daemon import tune_process
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer, TopicPartition
from orgstats.consumer.settings import ConsumerSettings
from tests.bench.ingest.programs.job import Job

DEFAULTS = {name: field.default for name, field in ConsumerSettings.model_fields.items()}


class Bare:
    """Cells of all that was read; those that changed are inserted whole, and the last one inserted holds."""

    def __init__(self, url: str) -> None:
        self.counter = BatchCounter(AgeLimits(), RuleHistory([]))
        self.pending = self.counter.pending()
        self._chunk = Chunk(0)
        self._client = connect(url, client_name="bare")
        self._thread = ThreadPoolExecutor(1)
        self._flight: Future[None] | None = None

    @property
    def inserting(self) -> bool:
        """Whether an insert is under way."""
        return self._flight is not None and not self._flight.done()

    def begin_insert(self, *, hourly: bool) -> None:
        """Hand the cells that changed to the inserting thread. Raises what went wrong with those before."""
        self.wait()
        self.counter.fold_into(self._chunk, self.pending)
        changes = self._chunk.take(seldom=hourly)
        self._flight = self._thread.submit(self._insert, changes.columns)

    def wait(self) -> None:
        """Until the insert under way has ended, if there is one. Raises what went wrong."""
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.result()

    def check(self, records: int) -> None:
        """Raises RuntimeError when the stored events are not as many as there are records."""
        found = self._client.execute("SELECT sum(events) FROM bare_counts FINAL")
        if found != [(records,)]:
            raise RuntimeError(f"{found} of {records} events")

    def _insert(self, columns: Columns) -> None:
        for family in FAMILIES:
            if columns[family] and columns[family][0]:
                names = ", ".join([*family.key._fields, *family.values])
                statement = f"INSERT INTO bare_{family.table} ({names}) VALUES"
                self._client.execute(statement, columns[family], columnar=True, settings=INSERT_SETTINGS)


def main() -> None:
    """Read, count and insert all records."""
    tune_process()
    job = Job()
    bare = Bare(job.clickhouse_url)
    assigned: set[TopicPartition] = set()
    forget = assigned.difference_update
    log = GroupConsumer(
        {"bootstrap.servers": job.bootstrap_servers, "group.id": job.group},
        [job.topic],
        Callbacks(assigned.update, forget, forget, lambda _: None),
        batches=True,
    )
    while not assigned:
        log.read(1, 0.1)
    log.start(dict.fromkeys(assigned, 0))
    due = hourly_due = 0.0
    offsets: dict[TopicPartition, int] = {}
    finished = False
    while not finished:
        for tp, run in log.read(DEFAULTS["batch_size"], 0.1).runs:
            bare.counter.count(run, bare.pending)
            offsets[tp] = offsets.get(tp, 0) + len(run)
            finished = job.take(len(run)) or finished
        now = time.monotonic()
        if offsets and not bare.inserting and now >= due:
            bare.begin_insert(hourly=now >= hourly_due)
            log.commit(offsets, dict.fromkeys(offsets, ""), wait=False)
            due = now + DEFAULTS["flush_seconds"]
            hourly_due = now + DEFAULTS["hourly_seconds"] if now >= hourly_due else hourly_due
    bare.begin_insert(hourly=False)
    bare.wait()
    job.done()
    bare.check(job.records)
    log.close()


if __name__ == "__main__":
    main()
