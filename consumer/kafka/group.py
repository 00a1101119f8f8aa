"""The daemon's side of Kafka, behind a handful of methods: read, seek, commit, and ask what is there.

Failure semantics: what Kafka answers late or not at all is Unavailable and may be asked again; librdkafka
reconnects by itself. What it will never answer otherwise (fenced, no rights) is a ConfigurationError.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
)
from confluent_kafka import (
    TopicPartition as KafkaTopicPartition,
)
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.admin._listoffsets import OffsetSpec

from orgstats.consumer.kafka.admin import ANSWER_SECONDS, Admin, Heard
from orgstats.consumer.kafka.properties import without_consumer_only
from orgstats.errors import ConfigurationError, OrgstatsError, Unavailable

TopicPartition = tuple[str, int]
"""(topic, partition)."""

READ_COMMITTED: Final = "read_committed"

DEFAULTS: Final[Mapping[str, Any]] = {
    "fetch.queue.backoff.ms": 10,  # the default, 1000, cuts catch-up 4 to 20 times
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 4_096,  # per partition: the default, 64 MiB, is 4 GiB with 64 of them
    "fetch.wait.max.ms": 100,
    "session.timeout.ms": 30_000,
    "topic.metadata.refresh.interval.ms": 10_000,  # new partitions are noticed within this time
    "isolation.level": READ_COMMITTED,
    "partition.assignment.strategy": "range,roundrobin",
}

REFUSED_BY_CONSUMER_PROTOCOL: Final = (
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "group.protocol.type",
)
"""Where `group.protocol=consumer` (KIP-848), the broker decides these, and librdkafka refuses them."""

FIXED: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # a jump is a decision, made in consumer/counting/resume.py and listed in `gaps`
    "enable.partition.eof": True,  # tells the position behind control records, which are no records
}
"""Properties that the guarantee needs; settings refuse others."""

_EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # no types upstream
_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]

_NOT_TOLD: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,
)
_FENCED: Final = (KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID)
_UNRELEASED: Final = KafkaError.UNRELEASED_INSTANCE_ID
_UNRELEASED_TEXT: Final = KafkaError(_UNRELEASED).str()
"""What librdkafka's fatal error says of it, whose own code is _FATAL whatever the cause."""
_NEEDS_A_PERSON: Final = {
    KafkaError._AUTHENTICATION: "the broker refuses the credentials in ORGSTATS_KAFKA__SASL_*",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant the principal READ and DESCRIBE on the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant the principal READ on the group",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "the group has members of another protocol; use a group of its own",
}


class Fenced(ConfigurationError):
    """The broker knows another member by this name: there is one, or the broker has lost its memory of us."""


class Unreleased(Fenced):
    """KIP-848: a member by this name is still in the group; it lives, or was killed and its session goes on."""


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Records by place in offset order, positions reached at the end of a log, places to look at again, and
    troubles that librdkafka mends by itself.
    """

    runs: list[tuple[TopicPartition, Sequence[Message]]]
    ends: list[tuple[TopicPartition, int]]
    lost_position: list[TopicPartition]
    troubles: list[KafkaError]


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's commit: the next offset, and what the committer wrote beside it."""

    next_offset: int
    metadata: str


class GroupConsumer:
    """A consumer of topics in a group. Callbacks come out of `read` and `close`, on the caller's thread."""

    def __init__(
        self,
        properties: Mapping[str, Any],
        topics: Sequence[str],
        *,
        on_assign: Callable[[list[TopicPartition]], None],
        on_revoke: Callable[[list[TopicPartition]], None],
        on_lost: Callable[[list[TopicPartition]], None],
        on_error: Callable[[KafkaError], None],
    ) -> None:
        self._several_topics = len(topics) > 1
        self._topic = topics[0]
        # Of one topic the partition is enough, and takes no Python per record.
        self._tp_of: Callable[[Message], Any] = _tp_of if self._several_topics else Message.partition
        self._fatal: KafkaError | None = None

        self._heard = Heard(properties)

        def heard(error: KafkaError) -> None:
            self._heard(error)
            if _ends_the_client(error):
                self._fatal = error  # the client is of no more use; `read` says so
            else:
                on_error(error)

        self._incremental = incremental(properties)
        self._reading: set[TopicPartition] = set()
        # What librdkafka would write to stderr comes to `heard` as well, and is logged as everything else is.
        self._consumer = Consumer({"log_level": 2, **defaults(properties), **properties, **FIXED, "error_cb": heard})

        def assigned(consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
            self._heard.answered()
            # Nothing is read before it is known where to go on; see `start`.
            (consumer.incremental_assign if self._incremental else consumer.assign)([])
            on_assign(_tps(partitions))

        def unassign(partitions: list[KafkaTopicPartition]) -> None:
            if self._incremental:
                # Only what is being read can be taken out; but it has to be called, which tells the group.
                read = self._reading & set(_tps(partitions))
                self._consumer.incremental_unassign([KafkaTopicPartition(*tp) for tp in read])
                self._reading -= read
            else:
                self._consumer.unassign()
                self._reading.clear()

        def revoked(_consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
            on_revoke(_tps(partitions))
            unassign(partitions)

        def lost(_consumer: Consumer, partitions: list[KafkaTopicPartition]) -> None:
            on_lost(_tps(partitions))
            unassign(partitions)

        self._consumer.subscribe(list(topics), on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def read(self, most: int, seconds: float) -> ReadBatch:
        """Up to `most` records, waiting up to `seconds` for the first."""
        try:
            messages = self._consumer.consume(most, seconds)
        except KafkaException as error:
            raise _translate(error.args[0]) from error
        if self._fatal is not None:
            raise _translate(self._fatal)
        if not messages:
            self._heard.check(patient=True)
        ends: list[tuple[TopicPartition, int]] = []
        lost: list[TopicPartition] = []
        troubles: list[KafkaError] = []
        if any(map(Message.error, messages)):
            messages = self._without_errors(messages, ends, lost, troubles)
        return ReadBatch(self._runs(messages), ends, lost, troubles)

    def _runs(self, messages: Sequence[Message]) -> list[tuple[TopicPartition, Sequence[Message]]]:
        """Records by place."""
        by_tp: dict[Any, list[Message]] = {}
        for tp, run in groupby(messages, self._tp_of):
            by_tp.setdefault(tp, []).extend(run)
        if self._several_topics:
            return list(by_tp.items())
        return [((self._topic, partition), run) for partition, run in by_tp.items()]

    def _without_errors(
        self,
        messages: Iterable[Message],
        ends: list[tuple[TopicPartition, int]],
        lost: list[TopicPartition],
        troubles: list[KafkaError],
    ) -> list[Message]:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
                continue
            tp = (message.topic() or "", message.partition() or 0)
            if error.code() == KafkaError._PARTITION_EOF:
                ends.append((tp, message.offset() or 0))
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                lost.append(tp)
            elif _ends_the_client(error) or error.code() in _NEEDS_A_PERSON:
                raise _translate(error)
            else:
                troubles.append(error)
        return records

    def start(self, offsets: Mapping[TopicPartition, int], epochs: Mapping[TopicPartition, int] | None = None) -> None:
        """Read these partitions and no others, from these offsets; what is being read already is at them, and goes on.

        Where the leader epoch of the record before the offset is given, and the broker says that it ends earlier, the
        log was cut back: `read` then tells that the position was lost.
        """
        known = epochs or {}
        tps = {
            tp: KafkaTopicPartition(*tp, offset, "", known[tp]) if tp in known else KafkaTopicPartition(*tp, offset)
            for tp, offset in offsets.items()
        }
        try:
            if not self._incremental:
                self._consumer.assign(list(tps.values()))
            else:
                if gone := self._reading - tps.keys():
                    self._consumer.incremental_unassign([KafkaTopicPartition(*tp) for tp in gone])
                self._reading -= gone
                if new := tps.keys() - self._reading:
                    self._consumer.incremental_assign([tps[tp] for tp in new])
            self._reading = set(tps)
        except KafkaException as error:
            raise _translate(error.args[0]) from error

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        """Stop fetching; membership in the group goes on as long as `read` is called."""
        self._consumer.pause([KafkaTopicPartition(*tp) for tp in tps])

    def resume(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch again."""
        self._consumer.resume([KafkaTopicPartition(*tp) for tp in tps])

    def commit(
        self, offsets: Mapping[TopicPartition, int], metadata: Mapping[TopicPartition, str], *, wait: bool
    ) -> None:
        """Commit next offsets, on the thread that reads: during a rebalance it is the only one that gets an answer.

        Without waiting, a failure shows nowhere but in lag tools, until the next commit covers it.
        """
        commits = [KafkaTopicPartition(*tp, next_offset, metadata[tp]) for tp, next_offset in offsets.items()]
        try:
            if wait:
                self._consumer.commit(offsets=commits, asynchronous=False)
            else:
                self._consumer.commit(offsets=commits, asynchronous=True)
        except KafkaException as error:
            raise _translate(error.args[0]) from error

    def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        """The group's commits; places without one are absent."""
        try:
            answer = self._consumer.committed([KafkaTopicPartition(*tp) for tp in tps], timeout=ANSWER_SECONDS)
        except KafkaException as error:
            raise _translate(error.args[0]) from error
        for one in answer:
            if one.error is not None:
                raise _translate(one.error)
        return {
            (one.topic, one.partition): Committed(one.offset, one.metadata or "") for one in answer if one.offset >= 0
        }

    def close(self) -> None:
        """Leave the group; `on_revoke` comes first."""
        self._consumer.close()


class Topics:
    """What topics there are: identities, partitions and ends. A client of its own, for any one thread."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = without_consumer_only(properties)
        self._admin = Admin(self._properties)

    def describe(self, topics: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(UUID, partitions) by topic; a topic that does not exist is absent."""
        found: dict[str, tuple[str, int]] = {}
        if not topics:
            return found
        for name, future in self._admin.client.describe_topics(
            TopicCollection(list(topics)), request_timeout=ANSWER_SECONDS
        ).items():
            try:
                description = self._admin.result(future, "describe topics")
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise _translate(error.args[0]) from error
            found[name] = (str(description.topic_id), len(description.partitions))
        return found

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, asked in a way that a broker without UUIDs answers; 0 without a topic."""
        try:
            metadata = self._admin.metadata(topic).topics.get(topic)
        except KafkaException as error:
            raise _translate(error.args[0]) from error
        return len(metadata.partitions) if metadata and metadata.error is None else 0

    def cleanup_policy(self, topic: str) -> str:
        """The topic's cleanup.policy; empty when the broker, or the right to ask, does not say."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        future = self._admin.client.describe_configs([resource], request_timeout=ANSWER_SECONDS)[resource]
        try:
            entry = self._admin.result(future, "describe configs").get("cleanup.policy")
        except KafkaException as error:
            if error.args[0].code() in _NOT_TOLD:
                return ""
            raise _translate(error.args[0]) from error
        return str(entry.value) if entry else ""

    def starts(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """First offset that each log still has."""
        return self._offsets(tps, _EARLIEST, IsolationLevel.READ_UNCOMMITTED)

    def ends(self, tps: Iterable[TopicPartition], isolation: str) -> dict[TopicPartition, int]:
        """Next offset of each log now, as a consumer of this isolation sees it."""
        level = IsolationLevel.READ_COMMITTED if isolation == READ_COMMITTED else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(tps, _LATEST, level)

    def _offsets(
        self, tps: Iterable[TopicPartition], spec: OffsetSpec, level: IsolationLevel
    ) -> dict[TopicPartition, int]:
        asked = {KafkaTopicPartition(*tp): spec for tp in tps}
        if not asked:
            return {}
        answer = self._admin.client.list_offsets(asked, isolation_level=level, request_timeout=ANSWER_SECONDS)
        try:
            found = {tp: self._admin.result(future, "list offsets") for tp, future in answer.items()}
        except (KafkaException, Unavailable) as error:
            # It would go on asking with the leaders it knows, for five minutes after they or the partitions changed.
            self._admin = Admin(self._properties, self._admin.heard)
            if isinstance(error, KafkaException):
                raise _translate(error.args[0]) from error
            raise
        return {(tp.topic, tp.partition): one.offset for tp, one in found.items()}


def incremental(properties: Mapping[str, Any]) -> bool:
    """Whether partitions come and go one by one (KIP-848), not all at a time."""
    return str(properties.get("group.protocol", "")).lower() == "consumer"


def defaults(properties: Mapping[str, Any]) -> dict[str, Any]:
    """DEFAULTS, without what a client with these properties refuses."""
    left_out = REFUSED_BY_CONSUMER_PROTOCOL if incremental(properties) else ()
    return {name: value for name, value in DEFAULTS.items() if name not in left_out}


def _tp_of(message: Message) -> tuple[str | None, int | None]:
    return message.topic(), message.partition()


def _tps(partitions: Iterable[KafkaTopicPartition]) -> list[TopicPartition]:
    return [(one.topic, one.partition) for one in partitions]


def _ends_the_client(error: KafkaError) -> bool:
    return error.fatal() or error.code() in (KafkaError._FATAL, _UNRELEASED, *_FENCED)


def _translate(error: KafkaError) -> OrgstatsError:
    if error.code() in _FENCED or (error.code() == KafkaError._FATAL and "fenced" in error.str()):
        return Fenced("Kafka: another process uses the same group.instance.id; give each its own ORGSTATS_INSTANCE_ID")
    if error.code() == _UNRELEASED or (error.code() == KafkaError._FATAL and _UNRELEASED_TEXT in error.str()):
        return Unreleased(
            "Kafka: another process uses the same group.instance.id, or one was killed lately; give each "
            "its own ORGSTATS_INSTANCE_ID"
        )
    remedy = _NEEDS_A_PERSON.get(error.code())
    if remedy is not None:
        return ConfigurationError(f"Kafka: {error.str()}: {remedy}")
    if _ends_the_client(error):
        return ConfigurationError(f"Kafka: {error.str()}: this member cannot go on")
    return Unavailable(f"Kafka: {error.name()}: {error.str()}")
