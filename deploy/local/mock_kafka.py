"""librdkafka's mock cluster in a process of its own: a Kafka for demos and quick tests that needs nothing installed.

What it is not (seen with librdkafka 2.16, see tests/local/test_kafka.py):

- A partition keeps the newest 5 MiB of batches as they were sent, so after compression: some 25,000 records of
  200 bytes, three to five times that with lz4. A consumer that falls behind that far has a gap.
- Everything is in memory and gone with the process; the next one starts at offset 0 again, so each start needs
  an ORGSTATS_INCARNATION of its own.
- Topics come into being when a client asks for their metadata, always with 4 partitions. There is no
  controller: creating, deleting or describing topics (and so their UUIDs) times out.
- Offsets cannot be looked up by time, and records cannot be deleted.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from deploy.local import processes
from schemas.errors import Unavailable

PARTITIONS: Final = 4


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
    producer = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 3})
    brokers = list(producer.list_topics(timeout=10).brokers.values())
    if not brokers:
        raise Unavailable("librdkafka's mock cluster did not start")
    print(json.dumps({"bootstrap_servers": f"{brokers[0].host}:{brokers[0].port}"}), flush=True)
    signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
