"""librdkafka's mock cluster in a process of its own: a Kafka for demos and quick tests that needs nothing installed.

What it is not (seen with librdkafka 2.16, see tests/local/test_kafka.py):

- A partition keeps the newest 5 MiB of batches as they were sent, so after compression: some 25,000 records of
  200 bytes, three to five times that with lz4. A consumer that falls behind that far has a gap.
- Everything is in memory and gone with the process; the next one starts at offset 0 again, so each start needs
  an ORGSTATS_TOPIC_ID of its own.
- Topics come into being when a client asks for their metadata, always with 4 partitions. There is no
  controller: creating, deleting or describing topics (and so their UUIDs) times out.
- Offsets cannot be looked up by time, and records cannot be deleted.
"""

import ctypes
import json
import signal
import sys
from pathlib import Path
from typing import Final

import confluent_kafka
from confluent_kafka import Producer

from orgstats.deploy.local import processes
from orgstats.errors import Unavailable

PARTITIONS: Final = 4
_PRODUCER: Final = 0  # RD_KAFKA_PRODUCER


class Running:
    """A started mock; its data ends with it."""

    def __init__(self, child: processes.Child, bootstrap_servers: str):
        self.child = child
        self.bootstrap_servers = bootstrap_servers

    @property
    def pid(self) -> int:
        """The process id."""
        return self.child.pid

    def stop(self) -> None:
        """End it."""
        self.child.stop()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.child.kill()


def start(log: Path) -> Running:
    """A mock in a child process, answering when this returns. Raises Unavailable when it does not come up."""
    child = processes.start("mock Kafka", [sys.executable, "-m", __name__], log=log)
    ready = processes.wait_ready(child, child.first_json_line, seconds=20)
    return Running(child, ready["bootstrap_servers"])


def main() -> int:
    """Run a mock until SIGTERM or SIGINT; one JSON line says where it listens."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    library = next(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*"), None)
    if library is not None:
        bootstrap_servers = _quick_cluster(ctypes.CDLL(str(library)))
    else:
        owner = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 3})
        (broker,) = owner.list_topics(timeout=10).brokers.values()
        bootstrap_servers = f"{broker.host}:{broker.port}"
    print(json.dumps({"bootstrap_servers": bootstrap_servers}), flush=True)
    signal.sigwait(signals)
    return 0


def _quick_cluster(library: ctypes.CDLL) -> str:
    """A cluster whose groups form at once; its address. It lives as long as the process.

    A cluster made by the property alone lets the first member of a group wait for 3 s, and only librdkafka's C
    functions can change that.
    """
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    error = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    owner = library.rd_kafka_new(_PRODUCER, conf, error, ctypes.c_size_t(len(error)))
    if not owner:
        raise Unavailable(f"librdkafka's mock cluster did not start: {error.value.decode()}")
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(owner), 1))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    address: bytes = library.rd_kafka_mock_cluster_bootstraps(cluster)
    return address.decode()


if __name__ == "__main__":
    sys.exit(main())
