"""What topics there are: identities, partitions, policies and the ends of logs.

Failure semantics: what Kafka answers late or not at all is Unavailable and may be asked again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

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
                raise translate(error.args[0]) from error
            raise
        return {(tp.topic, tp.partition): one.offset for tp, one in found.items()}
