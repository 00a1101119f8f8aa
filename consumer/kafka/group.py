"""The daemon's side of Kafka, behind a handful of methods: read, seek, commit, and ask what is there.

Failure semantics: what Kafka answers late or not at all is Unavailable and may be asked again; librdkafka
reconnects by itself. What it will never answer otherwise (fenced, no rights) is a ConfigurationError.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition

from orgstats.consumer.kafka import reading
from orgstats.consumer.kafka.admin import ANSWER_SECONDS, Heard
from orgstats.consumer.kafka.errors import NEEDS_A_PERSON, POSITION_LOST, ends_the_client, translate
from orgstats.consumer.kafka.properties import FIXED, defaults, incremental
from orgstats.consumer.kafka.reading import Runs, Told
from orgstats.errors import Unavailable

TopicPartition = reading.TopicPartition
_NOT_YET: Final = (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS)
_AGAIN_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Records by place in offset order, positions reached at the end of a log, places to look at again, and
    troubles that librdkafka mends by itself.
    """

    runs: Runs
    ends: list[tuple[TopicPartition, int]]
    lost_position: list[TopicPartition]
    troubles: list[KafkaError]


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's commit: the next offset, and what the committer wrote beside it."""

    next_offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a group tells its member."""

    on_assign: Callable[[list[TopicPartition]], None]
    on_revoke: Callable[[list[TopicPartition]], None]
    on_lost: Callable[[list[TopicPartition]], None]
    on_error: Callable[[KafkaError], None]


class GroupConsumer:
    """A consumer of topics in a group. Callbacks come out of `read` and `close`, on the caller's thread.

    `batches` asks for reading by compiled code, where that works.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        topics: Sequence[str],
        callbacks: Callbacks,
        *,
        batches: bool = False,
    ) -> None:
        self._fatal: KafkaError | None = None
        self._heard = Heard(properties)
        self._tell = callbacks
        self._incremental = incremental(properties)
        self._reading: set[TopicPartition] = set()
        # What librdkafka would write to stderr comes to `_hear` as well, and is logged as everything else is.
        self._consumer, self._records = reading.make(
            {"log_level": 2, **defaults(properties), **properties, **FIXED, "error_cb": self._hear}, batches=batches
        )
        self._consumer.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._were_lost
        )

    def _hear(self, error: KafkaError) -> None:
        self._heard(error)
        if ends_the_client(error):
            self._fatal = error  # `read` says so
        else:
            self._tell.on_error(error)

    def _assigned(self, consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
        self._heard.answered()
        # Nothing is read before it is known where to go on; see `start`.
        (consumer.incremental_assign if self._incremental else consumer.assign)([])
        self._tell.on_assign(_tps(partitions))

    def _revoked(self, _consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
        self._tell.on_revoke(_tps(partitions))
        self._unassign(partitions)

    def _were_lost(self, _consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
        self._tell.on_lost(_tps(partitions))
        self._unassign(partitions)

    def _unassign(self, partitions: list[KafkaTopicPartition]) -> None:
        if self._incremental:
            # Only what is being read can be taken out; but it has to be called, which tells the group.
            read = [KafkaTopicPartition(*tp) for tp in self._reading & set(_tps(partitions))]
            self._reading -= set(_tps(read))
            self._records.start(self._reading, anew=False, assign=lambda: self._consumer.incremental_unassign(read))
        else:
            self._reading.clear()
            self._records.start((), anew=True, assign=self._consumer.unassign)

    def read(self, most: int, seconds: float) -> ReadBatch:
        """Up to `most` records, as many as come within `seconds`; also of partitions that were just taken away."""
        try:
            runs, told = self._records.read(most, seconds)
        except KafkaException as error:
            raise translate(error.args[0]) from error
        if self._fatal is not None:
            raise translate(self._fatal)
        if not runs and not told:
            self._heard.check(patient=True)
        batch = ReadBatch(runs, [], [], [])
        for one in told:
            _sort(one, batch)
        return batch

    def start(self, offsets: Mapping[TopicPartition, int], epochs: Mapping[TopicPartition, int] | None = None) -> None:
        """Read these partitions and no others, from these offsets; what is being read already is at them, and goes on.

        Nothing is read when there are none; membership in the group goes on as long as `read` is called.

        Where the leader epoch of the record before the offset is given, and the broker says that it ends earlier, the
        log was cut back: `read` then tells that the position was lost.
        """
        if not offsets and not self._reading:
            return
        tps = {tp: KafkaTopicPartition(*tp, offset) for tp, offset in offsets.items()}
        going_on = self._reading if self._incremental else set[TopicPartition]()
        checked = {tp: epoch for tp, epoch in (epochs or {}).items() if tp not in going_on}

        def assign() -> None:
            if not self._incremental:
                self._consumer.assign(list(tps.values()))
                return
            if gone := self._reading - tps.keys():
                self._consumer.incremental_unassign([KafkaTopicPartition(*tp) for tp in gone])
            self._reading -= gone
            if new := tps.keys() - self._reading:
                self._consumer.incremental_assign([tps[tp] for tp in new])

        def assign_and_check() -> None:
            assign()
            for tp, epoch in checked.items():
                self._have_checked(KafkaTopicPartition(*tp, offsets[tp], "", epoch))

        try:
            self._records.start(tps, anew=not self._incremental, assign=assign_and_check)
        except KafkaException as error:
            raise translate(error.args[0]) from error
        self._reading = set(tps)

    def _have_checked(self, position: KafkaTopicPartition) -> None:
        """Have the broker asked where the epoch ends, before anything is read.

        librdkafka asks when it seeks or finds a new leader, and not for an assignment, whatever epoch that names. It
        cannot seek yet while it stops what was assigned before.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                self._consumer.seek(position)
            except KafkaException as error:
                if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                return

    def commit(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], *, wait: bool
    ) -> None:
        """Commit next offsets, on the thread that reads: during a rebalance it is the only one that gets an answer.

        Without waiting, a failure shows nowhere but in lag tools, until the next commit covers it. Unavailable also
        where the client is of no more use and it has not told why yet: the next `read` hears that.
        """
        commits = [KafkaTopicPartition(*tp, next_offset, metadata[tp]) for tp, next_offset in offsets.items()]
        try:
            if wait:
                self._consumer.commit(offsets=commits, asynchronous=False)
            else:
                self._consumer.commit(offsets=commits, asynchronous=True)
        except KafkaException as error:
            why = self._fatal or error.args[0]
            if why.code() == KafkaError._FATAL and self._fatal is None:
                raise Unavailable(f"Kafka: {why.str()}") from error
            raise translate(why) from error

    def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        """The group's commits; places without one are absent."""
        try:
            answer = self._consumer.committed([KafkaTopicPartition(*tp) for tp in tps], timeout=ANSWER_SECONDS)
        except KafkaException as error:
            raise translate(error.args[0]) from error
        for one in answer:
            if one.error is not None:
                raise translate(one.error)
        return {
            (one.topic, one.partition): Committed(one.offset, one.metadata or "") for one in answer if one.offset >= 0
        }

    def close(self) -> None:
        """Leave the group; `on_revoke` comes first."""
        self._records.close()
        self._consumer.close()


def _sort(told: Told, batch: ReadBatch) -> None:
    """Say in the batch what came instead of a record; raises what an operator must decide."""
    tp, error, offset = told
    if error.code() == KafkaError._PARTITION_EOF:
        batch.ends.append((tp, offset))
    elif error.code() in POSITION_LOST:
        batch.lost_position.append(tp)
    elif ends_the_client(error) or error.code() in NEEDS_A_PERSON:
        raise translate(error)
    else:
        batch.troubles.append(error)


def _tps(partitions: Iterable[KafkaTopicPartition]) -> list[TopicPartition]:
    return [(one.topic, one.partition) for one in partitions]
