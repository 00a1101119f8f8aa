"""A broker with a filled topic, an engine, and a way to run programs on them one after the other."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Final

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

from orgstats.clickhouse.connect import connect
from orgstats.consumer.kafka.properties import DEFAULTS
from orgstats.deploy.generate import GenerateSettings, send
from orgstats.deploy.local import apache_kafka, chdb_server, processes
from orgstats.deploy.local.paths import free_ports
from orgstats.deploy.traffic import Mix, Slot, records
from orgstats.schemas.migrate import migrate, split
from tests.bench.ingest import native
from tests.bench.usage import cpu_seconds, memory_mib
from tests.support.wait import wait_for

ROOT: Final = Path(__file__).parents[3]
PROGRAMS: Final = Path(__file__).with_name("programs")
PER_SECOND: Final = 20_000
"""Events of one second of the topic's time: a backlog of five minutes is 6 million."""
OUTCOMES: Final = Mix(organizations=1_000, broken=0.0, raw=0.0, late=0.005, astray=0.0, spelled=0.0)
RAW: Final = Mix(organizations=1_000, broken=0.0, raw=1.0, late=0.005, astray=0.0, spelled=0.0)
FETCHING: Final = ("fetch.max.bytes", "fetch.queue.backoff.ms", "queued.min.messages", "queued.max.messages.kbytes")
RUN_SECONDS: Final = 600.0
"""The most that a program may take for a topic."""
LOOK_SECONDS: Final = 0.25
"""Between two looks at a daemon's metrics."""
TOGETHER: Final = {"group.initial.rebalance.delay.ms": "3000"}
"""Two consumers that are started together are members before either reads: else the first would have read it all."""
LIVE: Final = "orgstats_live_cells"

TABLES: Final = Path(__file__).with_name("tables.sql")


Sums = tuple[int, ...]
"""Events, quantity, cells, and the sum of quantities times a weight of each cell: those who agree counted the same."""
SUMS: Final = """
SELECT sum(events), sum(quantity), count(), sum(quantity * (weight % 1000003))
FROM (
    SELECT sum(counts.events) AS events, sum(counts.quantity) AS quantity,
        any(org_id + 3 * intDiv(toUnixTimestamp(bucket), 10) + 5 * project_id + 7 * category + 11 * outcome
            + 13 * lengthUTF8(reason)) AS weight
    FROM counts FINAL
    GROUP BY org_id, bucket, project_id, category, outcome, reason
)"""


@dataclass(frozen=True)
class Run:
    """What one program did: wall and processor seconds, the latter by who spent them."""

    records: int
    seconds: float
    cpu_seconds: float
    broker_cpu_seconds: float
    engine_cpu_seconds: float
    rows: int = 0
    memory_mib: float = 0.0
    cells: int = 0
    steadiness: float = 0.0
    """The rate over the whole run, as a share of that of its best second."""

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time per record in the program alone."""
        return self.cpu_seconds / self.records * 1e6

    @property
    def all_cpu_us(self) -> float:
        """The same with broker and engine."""
        spent = self.cpu_seconds + self.broker_cpu_seconds + self.engine_cpu_seconds
        return spent / self.records * 1e6


@dataclass
class Stage:
    """Broker and engine; a topic is filled once and read by every program in a group of its own."""

    directory: Path
    broker: apache_kafka.Running
    engine: chdb_server.Running
    topics: dict[str, int] = field(default_factory=dict)
    """Records by topic."""
    sums: dict[str, Sums] = field(default_factory=dict)
    """What a topic's events add up to, as the first program said that counted it."""

    def topic(self, count: int, mix: Mix = OUTCOMES, *, partitions: int = 4, per_second: int = PER_SECOND) -> str:
        """A topic with so many records that end now, lz4."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap_servers})
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[name].result(30)
        wait_for(lambda: len(admin.list_topics(name, timeout=10).topics[name].partitions) == partitions, 30)
        span_ms = count * 1000 // per_second
        start_ms = int(time.time() * 1000) - span_ms
        steps = max(1, span_ms // 1000)
        slots = (
            Slot(start_ms + span_ms * n // steps, span_ms // steps, count * (n + 1) // steps - count * n // steps)
            for n in range(steps)
        )
        settings = GenerateSettings(bootstrap_servers=self.broker.bootstrap_servers, topic=(name,))
        summary = send(records(7, slots, mix), settings, stop=Event())
        if summary.sent != count:
            raise RuntimeError(f"only {summary.sent} of {count} records were taken")
        self.topics[name] = count
        return name

    def database(self) -> str:
        """The URL of a fresh, migrated database; the one before is dropped."""
        name = f"bench_{uuid.uuid4().hex[:8]}"
        with connect(self.engine.url, client_name="bench") as client:
            for (old,) in client.execute("SELECT name FROM system.databases WHERE name LIKE 'bench_%%'"):
                client.execute(f"DROP DATABASE `{old}`")
        url = self.engine.url.rsplit("/", 1)[0] + f"/{name}"
        migrate(url, retention_days=0)
        with connect(url, client_name="bench") as client:
            for statement in split(TABLES.read_text(encoding="utf-8")):
                client.execute(statement)
        return url

    def run(self, program: str, topic: str, *arguments: str, insert: bool = True) -> Run:
        """Run one of `programs/` over the whole topic: with its own environment when it names one."""
        path = PROGRAMS / f"{program}.py"
        own = "# /// script" in path.read_text(encoding="utf-8")
        uv = str(Path(sys.executable).with_name("uv"))
        start = [uv, "run", "--quiet", "--python", sys.executable, "--script"] if own else [sys.executable]
        return self.execute([*start, str(path), *arguments], topic, url=self.database() if insert else "")

    def execute(self, command: Sequence[str], topic: str, *, url: str = "") -> Run:
        """Run a program over the whole topic. Raises RuntimeError when it fails, or counts otherwise than another."""
        group, fetching = f"bench-{uuid.uuid4().hex[:8]}", {name: DEFAULTS[name] for name in FETCHING}
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "BENCH_TOPIC": topic,
            "BENCH_GROUP": group,
            "BENCH_RECORDS": str(self.topics[topic]),
            "BENCH_FETCHING": json.dumps(fetching),
            "BENCH_PROPERTIES": native.properties(self.broker.bootstrap_servers, group, fetching),
            "BENCH_CLICKHOUSE_URL": url,
        }
        before = self._others()
        ended = subprocess.run(
            command, env=env, cwd=self.directory, capture_output=True, check=False, timeout=RUN_SECONDS
        )
        after = self._others()
        lines = ended.stdout.decode().splitlines()
        if ended.returncode or not lines:
            raise RuntimeError(f"{command} ended with {ended.returncode}:\n{ended.stderr.decode()[-2000:]}")
        told = json.loads(lines[-1])
        if "sums" in told:
            self._agree(topic, tuple(told["sums"]))
        return Run(told["records"], told["seconds"], told["cpu_seconds"], after[0] - before[0], after[1] - before[1])

    def _agree(self, topic: str, sums: Sums) -> None:
        if self.sums.setdefault(topic, sums) != sums:
            raise RuntimeError(f"two programs count differently: {self.sums[topic]} and {sums}")

    def _others(self) -> tuple[float, float]:
        """Processor seconds that broker and engine have used so far."""
        return cpu_seconds(self.broker.pid), cpu_seconds(self.engine.pid)

    def consume(
        self,
        topic: str,
        *,
        consumers: int = 1,
        prepare: Callable[[str], None] | None = None,
    ) -> Run:
        """The real daemons over the whole topic: from the first record counted to all of them stored.

        Raises RuntimeError when the counts are not what the topic holds. `prepare` is given the database's URL; what
        it puts there changes the counts, so they are compared with nobody's.
        """
        url = self.database()
        if prepare is not None:
            prepare(url)
        daemons = [self.daemon(topic, url, f"consumer-{n}") for n in range(consumers)]
        total = self.topics[topic]
        try:
            for daemon in daemons:
                wait_for(lambda daemon=daemon: daemon.counted() > 0, 60, poll_seconds=0.01)  # type: ignore[misc]
            # What was counted until the last one began is not part of what is measured.
            marks = [(time.time(), sum(daemon.counted() for daemon in daemons))]
            cpu, before = sum(cpu_seconds(d.child.pid) for d in daemons), self._others()
            cells = [0.0]

            def all_is_stored() -> bool:
                told = [daemon.metrics("orgstats_next_offset", "orgstats_records_total", LIVE) for daemon in daemons]
                stored, counted, live = (sum(one) for one in zip(*told, strict=True))
                marks.append((time.time(), counted))
                cells.append(live)
                return bool(stored >= total)

            wait_for(all_is_stored, RUN_SECONDS, poll_seconds=LOOK_SECONDS)
            after = self._others()
            ended = max(daemon.metric("orgstats_last_flush_timestamp_seconds") for daemon in daemons)
            cpu = sum(cpu_seconds(d.child.pid) for d in daemons) - cpu
            rows = sum(daemon.metric("orgstats_rows_written_total") for daemon in daemons)
            memory = max(memory_mib(d.child.pid) for d in daemons)
        finally:
            for daemon in daemons:
                daemon.child.stop(30)
        with connect(url, client_name="bench") as client:
            if client.execute("SELECT sum(events) FROM counts FINAL") != [(total,)]:
                raise RuntimeError("the counts are wrong")
            (sums,) = client.execute(SUMS)
        if prepare is None:
            self._agree(topic, sums)
        began, begun = marks[0]
        spent = (ended - began, cpu, after[0] - before[0], after[1] - before[1])
        return Run(total - int(begun), *spent, int(rows), memory, int(max(cells)), _steadiness(marks, ended))

    def daemon(self, topic: str, url: str, name: str, env: Mapping[str, str] | None = None) -> "Daemon":
        """Start `orgstats consume` on a topic."""
        (port,) = free_ports(1)
        child = processes.start(
            name,
            [str(Path(sys.executable).with_name("orgstats")), "consume"],
            log=self.directory / f"{name}.log",
            env={
                **os.environ,
                "ORGSTATS_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
                "ORGSTATS_TOPIC": topic,
                "ORGSTATS_GROUP": url.rsplit("/", 1)[1],
                "ORGSTATS_CLICKHOUSE_URL": url,
                "ORGSTATS_METRICS_LISTEN": f"127.0.0.1:{port}",
                **(env or {}),
            },
        )
        return Daemon(child, port)


@dataclass(frozen=True)
class Daemon:
    """A running `orgstats consume` and where it tells its metrics."""

    child: processes.Child
    port: int

    def metric(self, name: str) -> float:
        """One of `metrics`."""
        return self.metrics(name)[0]

    def metrics(self, *names: str) -> list[float]:
        """Sums of metrics over their labels, of one moment; 0 while the daemon does not answer."""
        if not self.child.running:
            raise RuntimeError(f"the consumer ended:\n{self.child.tail()}")
        try:
            asked = urllib.parse.urlencode([("name[]", name) for name in names])  # the others would take time
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics?{asked}", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            lines = []
        return [
            sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
            for name in names
        ]

    def counted(self) -> float:
        """Records read and classified so far."""
        return self.metric("orgstats_records_total")


def _steadiness(marks: Sequence[tuple[float, float]], ended: float) -> float:
    """From (time, records so far) marks, and the time when the last record was stored."""
    (began, begun), (_, done) = marks[0], marks[-1]
    best = 0.0
    for at, so_far in marks:
        later = next((mark for mark in marks if mark[0] >= at + 1), None)
        best = max(best, (later[1] - so_far) / (later[0] - at)) if later else best
    return (done - begun) / (ended - began) / best if best else 1.0


@contextmanager
def running(directory: Path) -> Iterator[Stage]:
    """Broker and engine until the block ends; what they hold is deleted then."""
    broker = apache_kafka.start(directory / "kafka", heap_mb=1024, properties=TOGETHER)
    try:
        engine = chdb_server.start(directory / "engine", password=uuid.uuid4().hex)
        try:
            yield Stage(directory, broker, engine)
        finally:
            engine.stop()
    finally:
        broker.kill()
        shutil.rmtree(directory, ignore_errors=True)
