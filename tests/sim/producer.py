"""As confluent_kafka's transactional `Producer`, as far as a redrive uses it, on a simulated Kafka."""

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from orgstats.errors import OrgstatsError
from tests.sim.kafka import SimKafka, no_effect


class SimProducer:
    """One of a transactional id; who comes later by the same id ends its transaction, and it gets through no more."""

    def __init__(self, kafka: SimKafka, config: dict[str, Any], effect: Callable[[], None] = no_effect) -> None:
        self._kafka = kafka
        self._id = config["transactional.id"]
        self._effect = effect
        self._transaction = 0
        self._answers: list[Callable[[KafkaError | None], None]] = []

    def init_transactions(self, _seconds: float) -> None:
        """End what another one left open, and fence it."""
        self._ask()
        before = self._kafka.producers.get(self._id, 0)
        self._end(before, commit=False)
        self._kafka.transactions += 2  # odd ones are aborted by who ends them all
        self._transaction = self._kafka.producers[self._id] = self._kafka.transactions

    def begin_transaction(self) -> None:
        """Nothing is said of it yet."""
        self._ask()
        self._refuse_fenced()

    def produce(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int,
        timestamp: int,
        headers: Sequence[Any],
        on_delivery: Any,
        **_: Any,
    ) -> None:
        """Append within the transaction."""
        self._ask()
        self._refuse_fenced()
        log = self._kafka.log((topic, partition))
        at = log.append(value, timestamp, self._kafka.clock.epoch_ms(), pairs=tuple(headers))
        log.open.setdefault(self._transaction, []).append(at)
        self._answers.append(lambda error: on_delivery(error, _Delivered(partition, at)))

    def poll(self, _seconds: float) -> None:
        """Answers come with `flush`."""

    def flush(self, _seconds: float) -> None:
        """All were taken, but for what is planned to go wrong."""
        self._effect()
        trouble, self._kafka.undelivered = self._kafka.undelivered, ""
        answers, self._answers = self._answers, []
        for answer in answers[: -1 if trouble else None]:
            answer(None)
        if trouble == "refused":
            answers[-1](KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))

    def commit_transaction(self, _seconds: float) -> None:
        """Those who read committed records may have them from here on."""
        self._ask()
        self._refuse_fenced()
        self._end(self._transaction, commit=True)
        self._effect()

    def _ask(self) -> None:
        self._effect()
        try:
            self._kafka.answer()
        except OrgstatsError as error:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from error

    def _refuse_fenced(self) -> None:
        if self._kafka.producers[self._id] != self._transaction:
            raise KafkaException(KafkaError(KafkaError._FENCED))

    def _end(self, transaction: int, *, commit: bool) -> None:
        for tp in self._kafka.tps():
            if transaction in self._kafka.log(tp).open:
                self._kafka.log(tp).finish(transaction, commit=commit)


class _Delivered:
    """As much of a message as an answer has."""

    def __init__(self, partition: int, offset: int) -> None:
        self._at = partition, offset

    def partition(self) -> int:
        """Where it was put."""
        return self._at[0]

    def offset(self) -> int:
        """And at which offset."""
        return self._at[1]
