"""How fast the endpoint answers over many rows: `python -m tests.bench.serving --rows 50000000`.

Counts of a heavy-tailed thousand organizations over 90 days are put into an engine of its own, the real server
is started over it, and 64 connections ask as fast as they get answers, while the real consumer counts events
of a real Kafka beside them. "The same" asks for one window again and again, as dashboards do: after each flush
it is read once, then answered from memory. "Its own" asks for another window each time, which always reads.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import apache_kafka, chdb_server, processes
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.migrate import migrate
from tests.bench.query.asking import DAY, HOUR, Kind, load
from tests.bench.usage import cpu_seconds
from tests.query.seeding import make_token
from tests.query.serving import running_api
from tests.support.daemon import Daemon

ORGANIZATIONS = 1_000
DAYS = 90
END = 1_700_006_400 // 86_400 * 86_400
BUSIEST, MEDIAN = 1, 500
EVENTS_A_SECOND = 5_000


KINDS = [
    Kind(f"{length}, {who} organization", org_id, seconds, resolution, END - 1, spread)
    for length, seconds, resolution, spread in (
        ("24 h at 1 h", DAY, "1h", 60 * DAY),
        ("1 h at 10 s", HOUR, "10s", 80 * DAY),
        ("90 d at 1 d", 90 * DAY, "1d", 60 * DAY),
    )
    for who, org_id in (("busiest", BUSIEST), ("median", MEDIAN))
]


def fill(url: str, rows: int) -> None:
    """Organization k gets a share that falls with 1/k; each row of 10 s is a cell of its own."""
    slices = 2 * DAYS  # each inserted by itself, so that no insert needs much memory
    with connect(url, client_name="bench", timeout_seconds=600) as client:
        for number in range(slices):
            first = END - DAYS * DAY + number * DAY // 2
            client.execute(
                f"""INSERT INTO totals
                SELECT toUInt64(exp(cityHash64(number, {number}) / 18446744073709551616 * log({ORGANIZATIONS}))),
                       10, {first} + 10 * (number % 4320), number % 4, number,
                       1 + number % 100, number % 3, number % 2, 1
                FROM numbers({rows // slices})"""
            )
        # As if a chunk held some 50 s of the traffic.
        client.execute(
            """INSERT INTO totals
            SELECT org_id, 3600, toStartOfHour(bucket) AS hour, source_id, chunk % 70 AS part,
                   sum(accepted), sum(filtered), sum(rate_limited), 1
            FROM totals WHERE width = 10 GROUP BY org_id, hour, source_id, part"""
        )


@contextmanager
def consuming(url: str, scratch: Path) -> Iterator[None]:
    """A broker, EVENTS_A_SECOND made-up events, and the real consumer counting them into the same engine."""
    broker = apache_kafka.start(scratch / "kafka")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic("outcomes", 4, 1)])["outcomes"].result(30)
    daemon = Daemon("consume", scratch, broker.bootstrap_servers, "outcomes", url)
    words = [f"--bootstrap-servers={broker.bootstrap_servers}", "--topic=outcomes", f"--rate={EVENTS_A_SECOND}"]
    command = [str(Path(sys.executable).with_name("orgstats")), "generate", *words]
    traffic = processes.start("generate", command, log=scratch / "generate.log")
    try:
        yield
        if not (daemon.child.running and traffic.running):
            raise SystemExit(f"the consumer or its traffic has ended:\n{daemon.child.tail()}\n{traffic.tail()}")
    finally:
        for child in (traffic, daemon.child):
            child.stop()
        broker.kill()


def main() -> None:
    """Fill, serve, ask, and print the figures as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--data", type=Path, help="keep the engine's data here, and use it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or Path(scratch) / "engine"
        fresh = not (data / "filled").exists()
        engine = chdb_server.start(data, wait_seconds=120)
        try:
            if fresh:
                migrate(engine.url, retention_days=0)
                fill(engine.url, arguments.rows)
                (data / "filled").write_text(json.dumps(arguments.rows))
            measure(engine, Path(scratch), arguments)
        finally:
            engine.stop()


def measure(engine: chdb_server.Running, scratch: Path, arguments: argparse.Namespace) -> None:
    """The load of each kind, then of all of them with the consumer beside."""
    with Database(engine.url, size=1) as database:
        directory = Directory(database)
        for org_id in (BUSIEST, MEDIAN):
            directory.add_organization(Wanted(f"org-{org_id}", key=org_id), time.time())
        token = make_token(database, None)
    print("| requests | a second | p50 | p95 | p99 | processor: server | ClickHouse |\n|---|---|---|---|---|---|---|")
    with running_api(engine.url, scratch) as api:

        def run(name: str, kinds: list[Kind], connections: int) -> None:
            pids = (api.child.pid, engine.pid)
            before = [cpu_seconds(pid) for pid in pids]
            took = load(api.url, token, lambda: random.choice(kinds).path(), connections, arguments.seconds)
            used = [cpu_seconds(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
            cuts = statistics.quantiles(took, n=100)
            cells = [
                f"{name}; {connections} connection{'s' * (connections > 1)}",
                f"{len(took) / arguments.seconds:.0f}",
            ]
            cells += [f"{cuts[percent - 1] * 1000:.1f} ms" for percent in (50, 95, 99)]
            cells += [f"{seconds / len(took) * 1000:.2f} ms" for seconds in used]
            print(f"| {' | '.join(cells)} |", flush=True)

        same = [replace(kind, spread=0) for kind in KINDS]
        with consuming(engine.url, scratch):
            # Reading 90 days of the busiest costs 64 at once more than the time for one request.
            short = [kind for kind in KINDS if kind.seconds <= DAY]
            for windows, kinds in (("the same", same), ("its own", short)):
                for kind in kinds:
                    run(f"{kind.name}, {windows} window", [kind], arguments.connections)
                run(f"all of these, {windows} window", kinds, arguments.connections)
            run("all of these, its own window", short, 1)


if __name__ == "__main__":
    main()
