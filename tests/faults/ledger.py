"""The oracle's eyes: every record of a topic read exactly once, before anything deletes it."""

import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.support import oracle, stored

CELLS = ("counts", "hourly", "totals")
Gap = tuple[int, int, int]
"""(partition, from offset, to offset)."""


class Ledger:
    """What one topic has held; `ends` are the positions that a reader of all of it is at."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int) -> None:
        self.records: list[oracle.Record] = []
        self.ends = dict.fromkeys(range(partitions), 0)
        self._topic = topic
        self._properties = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "ledger",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "log_level": 0,
        }

    def add_partitions(self, partitions: int) -> None:
        """The topic has been given more partitions."""
        for partition in range(partitions):
            self.ends.setdefault(partition, 0)

    def catch_up(self) -> None:
        """Read what has come since; call it before records are deleted."""
        consumer = Consumer(self._properties)
        try:
            consumer.assign([TopicPartition(self._topic, *tp) for tp in self.ends.items()])
            left = set(self.ends)
            deadline = time.monotonic() + 120
            while left:
                for message in consumer.consume(1_000, 0.2):
                    self._take(message, left)
                if time.monotonic() > deadline:
                    raise TimeoutError("the log was not read to its end within 120 s")
        finally:
            consumer.close()

    def _take(self, message: Any, left: set[int]) -> None:
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is None:
            self.records.append(oracle.Record(partition, offset, message.timestamp()[1], message.value()))
            self.ends[partition] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            self.ends[partition] = max(offset, self.ends[partition])
            left.discard(partition)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise AssertionError(f"records were deleted before the ledger had read them: {error.str()}")

    def truth(self, gaps: Iterable[Gap] = (), *, max_age_seconds: int = 90 * 86_400) -> oracle.Truth:
        """What the counts must be, without the records in the gaps."""
        missing = list(gaps)
        kept = (
            record
            for record in self.records
            if not any(p == record.partition and start <= record.offset < end for p, start, end in missing)
        )
        return oracle.count(kept, max_age_seconds=max_age_seconds)


def differences(url: str, truths: list[oracle.Truth]) -> dict[str, Any]:
    """Every cell and dead letter in which the store differs from the sum of the truths, by table; as `stored` does."""
    whole = oracle.Truth()
    for truth in truths:
        whole.quantity += truth.quantity
        whole.events += truth.events
    found: dict[str, Any] = {table: wrong for table, wrong in stored.differences(url, whole).items() if table in CELLS}
    dead, wanted = stored.dead_letters(url), sorted(letter for truth in truths for letter in truth.dead_letters)
    return found if dead == wanted else found | {"dead_letters": {"stored": dead, "wanted": wanted}}
