"""Puts records of dead letters into a topic in transactions, and says in the store what was done."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from orgstats.consumer.kafka.acls import REDRIVE_PREFIX
from orgstats.consumer.kafka.properties import READ_COMMITTED, without_consumer_only
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.ops.dead_letters import UNCERTAIN, DeadLetter, Destination, mark
from orgstats.consumer.ops.targets import Target
from orgstats.consumer.ops.transforms import redriven_headers
from orgstats.errors import OrgstatsError, Refused, Unavailable
from orgstats.failpoints import failpoint

ANSWER_SECONDS: Final = 30.0
TRANSACTION_SECONDS: Final = 10
"""A killed redrive holds up consumers of the target this long, unless it is run again before."""

Transformed = tuple[DeadLetter, bytes, int]
"""A dead letter, the payload to send, and the Kafka timestamp that the record gets, epoch milliseconds."""


class Sender:
    """A transactional producer for the dead letters of one topic, wherever they are sent.

    Its transactional id names that topic and nothing else: so whoever redrives the same letters next, in whatever
    group or from whatever host, ends this one's open transaction and keeps it from beginning another.
    """

    def __init__(self, connections: Connections, letters_topic: str) -> None:
        if connections.settings.isolation != READ_COMMITTED:
            raise Refused(
                "a redrive needs consumers with isolation.level=read_committed: others count what was taken back"
            )
        self._connections = connections
        # Whoever makes a sender has asked the admin client before, which tells of refused credentials.
        self._producer = Producer(
            {
                "log_level": 2,
                **without_consumer_only(connections.settings.kafka_properties()),
                "error_cb": lambda _error: None,  # what librdkafka does not retry by itself comes out of the calls
                "transactional.id": REDRIVE_PREFIX + letters_topic,
                "transaction.timeout.ms": TRANSACTION_SECONDS * 1000,
            }
        )
        _call(lambda: self._producer.init_transactions(ANSWER_SECONDS))

    def send(self, target: Target, batch: Sequence[Transformed], by: str) -> None:
        """One transaction: produced, marked as being sent, committed, marked as sent.

        Producing comes before marking, since only a sender that no other has ended gets through: so the ends that are
        marked are never beyond what another redrive sent.
        """
        tps = [(target.topic, partition) for partition in range(len(target.source_ids))]
        ends = self._connections.topics.ends(tps, "read_uncommitted")
        put = self._produce(target, batch)
        failpoint("redrive_sent")
        letters = [letter for letter, _, _ in batch]
        destinations = [
            Destination(target.topic, [ends[tp] for tp in tps], target.source_ids[partition], offset)
            for partition, offset in put
        ]
        mark(self._connections.store, letters, UNCERTAIN, by, destinations)
        failpoint("redrive_marked")
        _call(lambda: self._producer.commit_transaction(ANSWER_SECONDS))
        failpoint("redrive_committed")
        mark(self._connections.store, letters, "sent", by, destinations, step=2)

    def _produce(self, target: Target, batch: Sequence[Transformed]) -> list[tuple[int, int]]:
        """Where each record was put, (partition, offset); nobody reads it before the commit."""
        put: dict[int, tuple[int, int]] = {}
        failed: list[KafkaError] = []

        def answer_of(at: int) -> Callable[[KafkaError | None, Message], None]:
            def answered(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    failed.append(error)
                else:
                    put[at] = (message.partition() or 0, message.offset() or 0)

            return answered

        _call(self._producer.begin_transaction)
        for at, (letter, payload, timestamp_ms) in enumerate(batch):
            record: dict[str, Any] = {
                "key": letter.key or None,
                "headers": redriven_headers(letter.headers, letter.source_id, letter.offset),
                "timestamp": timestamp_ms,
                # The same for every redrive, so that each looks where the one before has put it.
                "partition": letter.partition % len(target.source_ids),
                "on_delivery": answer_of(at),
            }
            _call(partial(self._producer.produce, target.topic, payload, **record))
            self._producer.poll(0)
        _call(lambda: self._producer.flush(ANSWER_SECONDS))
        if failed:
            raise _translate(failed[0])
        if len(put) < len(batch):
            raise Unavailable("Kafka does not answer: the records were not taken in time; nothing was sent of them")
        return [put[at] for at in range(len(batch))]


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except KafkaException as error:
        raise _translate(error.args[0]) from error


def _translate(error: KafkaError) -> OrgstatsError:
    if error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
        return Refused(
            "another redrive of this topic's dead letters has begun, or a transaction of this one took longer than "
            f"{TRANSACTION_SECONDS} s: let the other one finish, then see what is left: orgstats dead-letters ls"
        )
    return Unavailable(f"Kafka: {error.name()}: {error.str()}; what is uncertain is looked up when this is run again")
