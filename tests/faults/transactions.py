"""Transactions by the hundred on one topic: open for long, committed, aborted, left behind and fenced."""

import itertools
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from tests.faults.plan import MISCHIEF, Plan, cycle, end_idlers
from tests.faults.round import Round, Unequal
from tests.faults.traffic import value

PRODUCERS: Final = 4
LEFT_OPEN_SECONDS: Final = 20
"""After which the broker aborts what its producer has left behind."""
WAIT_SECONDS: Final = 60.0
ENDS: Final = ("committed", "committed", "committed", "aborted", "fenced", "left behind")
ENOUGH: Final = (*(f"transactions {how}" for how in ENDS), "looks at an open transaction", "killed")


@dataclass
class Open:
    """A transaction, the values that it has sent, and when it is to end; monotonic seconds."""

    producer: Producer
    ends_at: float
    sent: list[bytes] = field(default_factory=list)


class Transactions:
    """Producers that each have a transaction open nearly always, and one that sends beside them.

    `kept` is how often each value was acknowledged for good, as the producers know it.
    """

    def __init__(self, one: Round) -> None:
        self._one = one
        self._chance = one.chance
        self._common = {"bootstrap.servers": one.site.bootstrap_servers, "linger.ms": 5, "log_level": 0}
        self._plain = Producer({**self._common, "enable.idempotence": True})
        self._names = itertools.count()
        self.open: dict[str, Open] = {}
        self.kept: Counter[bytes] = Counter()

    def turn(self) -> None:
        """A few records beside and within every transaction, and the end of those whose time has come."""
        beside = self._send(self._plain, self._chance.randrange(60))
        self._flush(self._plain)
        self.kept.update(beside)
        while len(self.open) < PRODUCERS:
            name = f"{self._one.topic}-{next(self._names)}"
            self.open[name] = self._begin(name)
        for name, now in list(self.open.items()):
            try:
                now.sent += self._send(now.producer, self._chance.randrange(40))
            except KafkaException:  # on a slow machine the broker gives a transaction up first
                del self.open[name]
                self._one.done["transactions given up by the broker"] += 1
                continue
            now.producer.flush(WAIT_SECONDS)
            if time.monotonic() > now.ends_at:
                self.end(name)

    def _begin(self, name: str) -> Open:
        """What another one of this name has left open is aborted, and that one is fenced."""
        named = {"transactional.id": name, "transaction.timeout.ms": LEFT_OPEN_SECONDS * 1000}
        producer = Producer({**self._common, **named})
        producer.init_transactions(WAIT_SECONDS)
        producer.begin_transaction()
        return Open(producer, time.monotonic() + self._chance.choice((0.0, 0.5, 2.0, 8.0)))

    def end(self, name: str) -> None:
        """Commit it, abort it, let another producer of its name do that, or walk away: then the broker does."""
        ended = self.open.pop(name)
        how = self._chance.choice(ENDS)
        if how == "committed":
            if _commits(ended.producer):
                self.kept.update(ended.sent)
            else:
                how = "given up by the broker"
        elif how == "aborted":
            with suppress(KafkaException):
                ended.producer.abort_transaction(WAIT_SECONDS)
        elif how == "fenced":
            self.open[name] = self._begin(name)
            # Of a transaction without records librdkafka tells the broker nothing, so it ends well.
            if _commits(ended.producer) and ended.sent:
                raise Unequal("a fenced producer has committed")
        self._one.done[f"transactions {how}"] += 1

    def end_all(self) -> None:
        """None is open any more, but for those left behind."""
        while self.open:
            self.end(next(iter(self.open)))

    def _send(self, producer: Producer, records: int) -> list[bytes]:
        values = [value(self._chance) for _ in range(records)]
        for body in values:
            producer.produce(self._one.topic, body, partition=self._chance.randrange(self._one.partitions))
        return values

    @staticmethod
    def _flush(producer: Producer) -> None:
        if producer.flush(WAIT_SECONDS):
            raise Unequal("the broker does not acknowledge")


def _commits(producer: Producer) -> bool:
    """Whether it could; asked again while nobody knows."""
    while True:
        try:
            producer.commit_transaction(WAIT_SECONDS)
        except KafkaException as error:
            if error.args[0].retriable():
                continue
            if error.args[0].txn_requires_abort():
                with suppress(KafkaException):
                    producer.abort_transaction(WAIT_SECONDS)
            elif not error.args[0].fatal() and error.args[0].code() != KafkaError._FENCED:
                raise
            return False
        return True


def transactions(plan: Plan, one: Round, seconds: float) -> None:
    """Consumers kill themselves at failpoints and inserts go wrong, while transactions are open and end in every way.

    What is counted never reaches into an open transaction. In the end the log holds what the producers know to be kept.
    """
    failpoints = cycle(one.chance)
    plan.site.proxy.chances = dict(MISCHIEF)
    traffic = Transactions(one)
    for name in ("a", "b"):
        one.start(name, next(failpoints))
    looked = time.monotonic()
    until = looked + seconds
    while time.monotonic() < until or not all(one.done[kind] for kind in ENOUGH):
        traffic.turn()
        one.tend(lambda: next(failpoints))
        if time.monotonic() > looked + 2.0:
            if time.monotonic() > until + 300.0:
                raise Unequal(f"not all of it has come up: {dict(one.done)}")
            looked = time.monotonic()
            end_idlers(one, failpoints)
            _look(one)
    traffic.end_all()
    plan.site.proxy.chances = {}
    one.drain(300)
    one.compare()
    found = Counter(record.value or b"" for record in one.ledgers[-1].records)
    if found != traffic.kept:
        raise Unequal(f"read and not kept: {found - traffic.kept}, kept and not read: {traffic.kept - found}"[:20_000])


def _look(one: Round) -> None:
    counted = one.progress()
    stable, ends = one.told_ends()
    if beyond := {p: (at, stable[p]) for p, at in counted.items() if at > stable.get(p, at)}:
        raise Unequal(f"counted beyond the first open transaction: partition: (position, stable end) {beyond}")
    one.done["looks at partitions"] += len(stable)
    one.done["looks at an open transaction"] += sum(stable[p] < ends[p] for p in stable)
