"""What topics there are: identities, partitions, policies and the ends of logs.

Failure semantics: what Kafka answers late or not at all is Unavailable and may be asked again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from orgstats.consumer.kafka.admin import ANSWER_SECONDS, Admin, NoController
from orgstats.consumer.kafka.errors import translate
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.properties import READ_COMMITTED, without_consumer_only
from orgstats.errors import Unavailable

_EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # no types upstream
_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]

_NOT_TOLD: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,
)


class ToldEnds(NamedTuple):
    """Next offsets by partition, and why it is not told of others, each for itself."""

    ends: dict[TopicPartition, int]
    silent: dict[TopicPartition, Unavailable]


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
        self._admin.need_controller()
        for name, future in self._admin.client.describe_topics(
            TopicCollection(list(topics)), request_timeout=ANSWER_SECONDS
        ).items():
            try:
                description = self._admin.result(future, "describe topics")
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise translate(error.args[0]) from error
            found[name] = (str(description.topic_id), len(description.partitions))
        return found

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, asked in a way that a broker without UUIDs answers; 0 without a topic."""
        try:
            metadata = self._admin.metadata(topic).topics.get(topic)
        except KafkaException as error:
            raise translate(error.args[0]) from error
        return len(metadata.partitions) if metadata and metadata.error is None else 0

    def cleanup_policy(self, topic: str) -> str:
        """The topic's cleanup.policy; empty when the broker, or the right to ask, does not say.

        A broker without a controller is only asked for topics whose id the operator named: then it has none to tell.
        """
        try:
            return self._admin.topic_settings(topic).get("cleanup.policy", "")
        except NoController:
            return ""
        except KafkaException as error:
            if error.args[0].code() in _NOT_TOLD:
                return ""
            raise translate(error.args[0]) from error

    def starts(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """First offset that each log still has."""
        return self._offsets(tps, _EARLIEST, IsolationLevel.READ_UNCOMMITTED)

    def ends(self, tps: Iterable[TopicPartition], isolation: str) -> dict[TopicPartition, int]:
        """Next offset of each log now, as a consumer of this isolation sees it."""
        return self._offsets(tps, _LATEST, _level(isolation))

    def told_ends(self, tps: Iterable[TopicPartition], isolation: str) -> ToldEnds:
        """As `ends`, but partitions of which it is not told, having no leader, hold back no others.

        Raises ConfigurationError when a right is missing. While Kafka is away it is told of none.
        """
        return self._ask(tps, _LATEST, _level(isolation))

    def _offsets(
        self, tps: Iterable[TopicPartition], spec: OffsetSpec, level: IsolationLevel
    ) -> dict[TopicPartition, int]:
        told = self._ask(tps, spec, level)
        for error in told.silent.values():
            raise error
        return told.ends

    def _ask(self, tps: Iterable[TopicPartition], spec: OffsetSpec, level: IsolationLevel) -> ToldEnds:
        told = ToldEnds({}, {})
        asked = {KafkaTopicPartition(*tp): spec for tp in tps}
        if not asked:
            return told
        admin = self._admin
        answer = admin.client.list_offsets(asked, isolation_level=level, request_timeout=ANSWER_SECONDS)
        try:
            for tp, future in answer.items():
                try:
                    told.ends[tp.topic, tp.partition] = admin.result(future, "list offsets").offset
                except Unavailable as error:
                    told.silent[tp.topic, tp.partition] = error
                except KafkaException as error:
                    why = translate(error.args[0])
                    if not isinstance(why, Unavailable):
                        raise why from error
                    told.silent[tp.topic, tp.partition] = why
        finally:
            if len(told.ends) < len(asked):
                # It would go on asking with the leaders it knows, for five minutes after they or partitions changed.
                self._admin = Admin(self._properties, admin.heard)
        return told


def _level(isolation: str) -> IsolationLevel:
    return IsolationLevel.READ_COMMITTED if isolation == READ_COMMITTED else IsolationLevel.READ_UNCOMMITTED
