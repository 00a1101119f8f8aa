"""Some of the model's figures, measured on this machine, as TOML: python -m orgstats.deploy.capacity.measure.

The real counting code over made-up traffic, its flushes stored in chDB's engine by the real client; times are
processor times, so what else runs beside disturbs them little.
"""

import argparse
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from orgstats.clickhouse.connect import connect
from orgstats.consumer.store.rows import Flush
from orgstats.consumer.store.store import Store
from orgstats.deploy.capacity.model import TABLES
from orgstats.deploy.capacity.simulation import Counted, Traffic, flushes, simulate
from orgstats.deploy.local import chdb_server
from orgstats.schemas.migrate import migrate

FINGERPRINT = "measured"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m orgstats.deploy.capacity.measure", description=__doc__)
    parser.add_argument("--events-per-second", type=int, default=10_000)
    parser.add_argument("--orgs", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=30)
    asked = parser.parse_args(arguments)
    traffic = Traffic(asked.events_per_second, asked.seconds, asked.orgs, 4, keyed=False)
    found = {
        "record_bytes": _record_bytes(traffic),
        "cell_bytes": cell_bytes(traffic),
        **stored(traffic),
    }
    for name, value in found.items():
        print(f"[{name}]\nvalue = {value:.3g}\n")
    return 0


def _record_bytes(traffic: Traffic) -> float:
    counted = simulate(traffic._replace(seconds=1))
    return counted.record_bytes / counted.records


def cell_bytes(traffic: Traffic) -> float:
    """Memory of a cell or project cell in an open chunk."""
    tracemalloc.start()
    kept = [changes.chunks for _, changes in flushes(traffic._replace(seconds=5, flush_seconds=5), Counted())]
    chunks = [part.chunk for some in kept for part in some]
    cells = sum(len(chunk.cells) + len(chunk.project_cells or ()) for chunk in chunks)
    kept.clear()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / cells


class Spent(NamedTuple):
    """What it took: records, rows, inserts, and processor time of counting, of the client and of the server."""

    records: int
    rows: int
    inserts: int
    count_seconds: float
    client_seconds: float
    server_seconds: float


def stored(traffic: Traffic) -> dict[str, float]:
    """What records, rows and inserts cost, merges included, and how large rows are on disk.

    Two lengths of flushes tell what is paid by record, what by row and what by insert.
    """
    with tempfile.TemporaryDirectory() as directory:
        engine = chdb_server.start(Path(directory))
        store = Store(lambda: connect(engine.url, client_name="capacity"))
        try:
            migrate(engine.url, retention_days=0)
            many, few = (_stored(engine, store, traffic._replace(flush_seconds=length)) for length in (1, 10))
            sizes = {f"{table}_bytes_per_row": _bytes_per_row(store, table) for table in TABLES}
        finally:
            store.close()
            engine.stop()
    count_row, count_record = _solve(many, few, "count_seconds", "records")
    server_row, server_insert = _solve(many, few, "server_seconds", "inserts")
    return {
        "count_us_per_record": count_record * 1e6,
        "store_us_per_row": (count_row + many.client_seconds / many.rows) * 1e6,
        "server_us_per_row": server_row * 1e6,
        "server_ms_per_insert": server_insert * 1e3,
        **sizes,
    }


def _stored(engine: chdb_server.Running, store: Store, traffic: Traffic) -> Spent:
    rows, inserts, spent, before = 0, 0, 0.0, _cpu_seconds(engine.pid)
    counted = Counted()
    made = [changes for _, changes in flushes(traffic, counted)]
    for first in range(0, len(made), traffic.partitions):  # one consumer stores all partitions together
        began = time.process_time()
        written = store.write(Flush(made[first : first + traffic.partitions], FINGERPRINT, 0))
        spent += time.process_time() - began
        rows += sum(written[table] for table in TABLES)
        inserts += len(TABLES)
    for table in TABLES:
        store.run(lambda client, table=table: client.execute(f"OPTIMIZE TABLE {table} FINAL"))  # type: ignore[misc]
    server = _cpu_seconds(engine.pid) - before
    return Spent(counted.records, rows, inserts, counted.seconds, spent, server)


def _solve(many: Spent, few: Spent, what: str, other: str) -> tuple[float, float]:
    """Seconds by row, and by record or insert, from two runs."""
    first, second = getattr(many, what), getattr(few, what)
    some, others = getattr(many, other), getattr(few, other)
    by_row = (first * others - second * some) / (many.rows * others - few.rows * some)
    return by_row, (first - by_row * many.rows) / some


def _bytes_per_row(store: Store, table: str) -> float:
    sql = (
        "SELECT sum(data_compressed_bytes) / sum(rows) FROM system.parts"
        " WHERE active AND table = %(table)s AND database = currentDatabase()"
    )
    return float(store.run(lambda client: client.execute(sql, {"table": table}))[0][0])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
