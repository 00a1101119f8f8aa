"""Seeded traffic: good, odd and broken records, transactions that are kept and that are given up."""

import json
import random
import threading
import time
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from tests.support.oracle import CHUNK

BROKEN: Final = (
    b"",
    b"{",
    b"[]",
    b'{"timestamp": "x"}',
    b'{"timestamp": 1, "outcome": 256}',
    b'{"timestamp": 1, "org_id": -1}',
)


def value(chance: random.Random) -> bytes:
    """One record's value; about one in a hundred is broken, a few have a time out of bounds."""
    if chance.random() < 0.01:
        return chance.choice(BROKEN)
    now = time.time()
    event: dict[str, Any] = {
        "timestamp": _timestamp(now - chance.choice((0, 0, 1, 5, 20, 40, 200 * 86_400, -3600)), chance),
        "org_id": chance.randint(1, 8),
        "project_id": chance.randint(1, 3),
        "key_id": chance.choice((None, 1, 2)),
        "outcome": chance.choice((0, 0, 0, 1, 2, 3, 9, None)),
        "reason": chance.choice((None, "", "spike", "quota", "é" * 70)),
        "category": chance.choice((None, 1, 2)),
        "quantity": chance.choice((None, 1, 3, 1_000)),
    }
    return json.dumps({name: item for name, item in event.items() if item is not None}).encode()


def _timestamp(second: float, chance: random.Random) -> str | float:
    if chance.random() < 0.1:
        return round(second, 3)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return text + chance.choice(("Z", "Z", ".5Z", ".999999999Z", "+00:00"))


class Traffic:
    """Produces onto a topic, by itself on a thread between `start` and `stop`, or as much as it is told."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self._topic = topic
        self._partitions = partitions
        properties = {
            "bootstrap.servers": bootstrap_servers,
            "linger.ms": 5,
            "log_level": 0,
            "topic.metadata.refresh.interval.ms": 1_000,
        }
        self._plain = Producer({**properties, "enable.idempotence": True, "queue.buffering.max.messages": 400_000})
        self._transactions: Final[dict[str, Any]] = {
            **properties,
            "transactional.id": f"traffic-{topic}",
            "transaction.timeout.ms": 20_000,  # the broker gives up what a restart has left open
            "queue.buffering.max.messages": 400_000,
        }
        self._transactional = self._new_transactional()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def produce(self, records: int) -> None:
        """Records on random partitions; all of them are there when this returns."""
        for _ in range(records):
            self._plain.produce(self._topic, value(self._chance), partition=self._chance.randrange(self._partitions))
        self._plain.flush(60)

    def transaction(self, records: int, partition: int | None = None, *, keep: bool) -> None:
        """The same in one transaction, which is committed or aborted; aborted ones only use up offsets."""
        self._transactional.begin_transaction()
        for _ in range(records):
            at = self._chance.randrange(self._partitions) if partition is None else partition
            body = value(self._chance) if keep else b"aborted"
            self._transactional.produce(self._topic, body, partition=at)
        self._transactional.flush(60)
        (self._transactional.commit_transaction if keep else self._transactional.abort_transaction)(30)

    def start(self, records_per_second: int) -> None:
        """Produce until `stop`: small groups of records, some transactions, now and then half a chunk of nothing."""
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, args=(records_per_second,), name="traffic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; everything is in the log afterwards."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join(120)
            self._thread = None
        self._plain.flush(60)

    def _run(self, records_per_second: int) -> None:
        while not self._ending.wait(0.1):
            at = self._chance.random()
            try:
                if at < 0.04:
                    self.transaction(self._chance.randint(1, 300), keep=True)
                elif at < 0.08:
                    self.transaction(self._chance.randint(1, 300), keep=False)
                elif at < 0.10:
                    self.transaction(CHUNK // 2, self._chance.randrange(self._partitions), keep=False)
                else:
                    self.produce(records_per_second // 10)
            except KafkaException:  # the broker is being restarted; an unfinished transaction is given up
                self._give_up()

    def _new_transactional(self) -> Producer:
        producer = Producer(self._transactions)
        producer.init_transactions(30)
        return producer

    def _give_up(self) -> None:
        fatal = False
        while not self._ending.wait(0.5):
            try:
                if fatal:  # the broker had given it up first, and knows this producer no longer
                    self._transactional = self._new_transactional()
                else:
                    self._transactional.abort_transaction(10)
            except KafkaException as error:
                fatal = fatal or error.args[0].fatal()
                if not fatal and not error.args[0].retriable():
                    return
            else:
                return
