"""What `group.protocol=consumer` (KIP-848) does not take, from our defaults and from the operator."""

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from orgstats.consumer.kafka.errors import Fenced, Unreleased, translate
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer
from orgstats.consumer.kafka.properties import FIXED, REFUSED_BY_CONSUMER_PROTOCOL, defaults
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import ConfigurationError, Unavailable

ENV = {
    "ORGSTATS_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "ORGSTATS_TOPIC": "outcomes",
    "ORGSTATS_CLICKHOUSE_URL": "clickhouse://nobody@127.0.0.1:1/nowhere",
    "ORGSTATS_KAFKA__GROUP_PROTOCOL": "consumer",
}


def test_our_own_defaults_make_a_consumer_of_either_protocol() -> None:
    """librdkafka refuses a client with what the broker decides; those of our defaults are left out without a word."""
    for env in (ENV, ENV | {"ORGSTATS_KAFKA__GROUP_PROTOCOL": "classic"}):
        properties = ConsumerSettings.from_env(env).kafka_properties()
        Consumer({"log_level": 0, **defaults(properties), **properties, **FIXED}).close()


def test_longer_messages_are_fetched() -> None:
    """librdkafka refuses a client that may fetch less than the longest message; an operator sets that alone."""
    env = ENV | {"ORGSTATS_KAFKA__MESSAGE_MAX_BYTES": "20000000"}
    properties = ConsumerSettings.from_env(env).kafka_properties()
    assert defaults(properties)["fetch.max.bytes"] == 20_000_000
    Consumer({"log_level": 0, **defaults(properties), **properties, **FIXED}).close()


@pytest.mark.parametrize("name", REFUSED_BY_CONSUMER_PROTOCOL)
def test_what_an_operator_sets_in_vain_is_a_fault(name: str) -> None:
    """The operator's own setting is not left out in silence: 78, naming the variable and the remedy."""
    variable = f"ORGSTATS_KAFKA__{name.upper().replace('.', '_')}"
    with pytest.raises(ConfigurationError, match=f"{variable}: group.protocol=consumer leaves this to the broker"):
        ConsumerSettings.from_env(ENV | {variable: "1"})


@pytest.mark.parametrize(
    "error",
    [
        KafkaError(KafkaError.UNRELEASED_INSTANCE_ID),
        KafkaError(
            KafkaError._FATAL,
            "Fatal error: Broker: The instance ID is still used by another member in the consumer group: "
            "ConsumerGroupHeartbeat fatal error: Broker: The instance ID is still used by another member in the "
            "consumer group",
        ),
    ],
    ids=["heard", "after-it-was-heard"],
)
def test_a_name_that_is_still_taken_is_waited_for_however_it_is_told(error: KafkaError) -> None:
    """Once the client has failed, each call gets a fatal error of another code, whose text names the cause."""
    assert isinstance(translate(error), Unreleased)


class _Failed:
    """A librdkafka client that has failed for good; a commit is told so, and not why."""

    def commit(self, **_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "Commit failed: Local: Fatal error"))


def test_why_a_member_failed_is_waited_for_when_a_commit_is_told_first() -> None:
    """Fenced by a broker that has forgotten it, it would join again: no commit ends it before that is heard."""
    member = GroupConsumer(
        {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0},
        ["outcomes"],
        Callbacks(print, print, print, print),
    )
    consumer, member._consumer = member._consumer, cast("Consumer", _Failed())
    tp = ("outcomes", 0)
    with pytest.raises(Unavailable, match="Commit failed"):
        member.commit({tp: 1}, {tp: ""}, wait=True)
    member._hear(KafkaError(KafkaError._FATAL, "Fatal error: static consumer fenced by other consumer with same id"))
    with pytest.raises(Fenced):
        member.commit({tp: 1}, {tp: ""}, wait=True)
    consumer.close()
