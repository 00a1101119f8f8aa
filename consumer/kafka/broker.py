"""What operators ask of Kafka beyond what the daemon does: offsets by time, topic settings, groups, commits.

Failure semantics: these only read; what Kafka does not answer is Unavailable and may be asked again.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from orgstats.consumer.kafka.admin import ANSWER_SECONDS, Admin
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.properties import without_consumer_only
from orgstats.errors import Unavailable

_OF_A_MEMBER: Final = (
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "partition.assignment.strategy",
    "session.timeout.ms",
)

Answer = TypeVar("Answer")


class Broker:
    """An admin client; `properties` are librdkafka's, of the daemon."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self.properties = properties
        self._admin = Admin(without_consumer_only(properties))

    def offsets_at(self, tps: Iterable[TopicPartition], epoch_ms: int) -> dict[TopicPartition, int | None]:
        """First offset whose Kafka timestamp is not before; None when there is none."""
        spec = OffsetSpec.for_timestamp(epoch_ms)
        asked = {KafkaTopicPartition(*tp): spec for tp in tps}
        if not asked:
            return {}
        answer = self._admin.client.list_offsets(asked, request_timeout=ANSWER_SECONDS)
        found = {(tp.topic, tp.partition): self._result(future, "list offsets") for tp, future in answer.items()}
        return {tp: one.offset if one.offset >= 0 else None for tp, one in found.items()}

    def topic_settings(self, topic: str) -> dict[str, str]:
        """The topic's settings, the broker's defaults included."""
        try:
            return self._admin.topic_settings(topic)
        except KafkaException as error:
            raise _unavailable("describe configs", error) from error

    def group_members(self, group: str) -> int:
        """Members of a consumer group now; 0 for a group that there is not."""
        future = self._admin.client.describe_consumer_groups([group], request_timeout=ANSWER_SECONDS)[group]
        return len(self._result(future, "describe group").members)

    def committed(self, group: str, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's committed offsets; places without one are absent."""
        asked = [KafkaTopicPartition(*tp) for tp in tps]
        if not asked:
            return {}
        request = [ConsumerGroupTopicPartitions(group, asked)]
        future = self._admin.client.list_consumer_group_offsets(request, request_timeout=ANSWER_SECONDS)[group]
        answer = self._result(future, "list group offsets").topic_partitions
        return {(one.topic, one.partition): one.offset for one in answer if one.error is None and one.offset >= 0}

    def topics(self) -> list[str]:
        """Every topic that the principal may see."""
        return sorted(self._metadata().topics)

    def cluster(self) -> tuple[str, list[str]]:
        """(cluster id, host:port of each broker)."""
        metadata = self._metadata()
        return str(metadata.cluster_id), [f"{b.host}:{b.port}" for b in metadata.brokers.values()]

    def _metadata(self) -> Any:
        try:
            return self._admin.metadata()
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error.args[0].name()}: {error.args[0].str()}") from error

    def _result(self, future: "Future[Answer]", what: str) -> Answer:
        try:
            return self._admin.result(future, what)
        except KafkaException as error:
            raise _unavailable(what, error) from error


def _unavailable(what: str, error: KafkaException) -> Unavailable:
    return Unavailable(f"Kafka: {what}: {error.args[0].name()}: {error.args[0].str()}")


def reading_properties(properties: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Properties for a consumer that is assigned partitions by hand: it never joins the daemon's group."""
    own = {name: value for name, value in properties.items() if name not in _OF_A_MEMBER}
    return {"log_level": 2, **own, "group.id": group}


def closing(consumer: Consumer) -> None:
    """Leave nothing behind; a consumer that never subscribed has no group to leave."""
    consumer.unassign()
    consumer.close()
