"""Kafka's errors as ours: what may be asked again, and what a person has to mend."""

from typing import Final

from confluent_kafka import KafkaError

from orgstats.errors import ConfigurationError, OrgstatsError, Unavailable

_FENCED: Final = (KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID)
_UNRELEASED: Final = KafkaError.UNRELEASED_INSTANCE_ID
_UNRELEASED_TEXT: Final = KafkaError(_UNRELEASED).str()
"""What librdkafka's fatal error says of it, whose own code is _FATAL whatever the cause."""
POSITION_LOST: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
"""The log does not have the offset that was to be read next."""
NEEDS_A_PERSON: Final = {
    KafkaError._AUTHENTICATION: "the broker refuses the credentials in ORGSTATS_KAFKA__SASL_*",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant the principal READ and DESCRIBE on the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant the principal READ on the group",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "the group has members of another protocol; use a group of its own",
}


class Fenced(ConfigurationError):
    """The broker knows another member by this name: there is one, or the broker has lost its memory of us."""


class Unreleased(Fenced):
    """KIP-848: a member by this name is still in the group; it lives, or was killed and its session goes on."""


def ends_the_client(error: KafkaError) -> bool:
    """Whether the client that met this error is of no more use."""
    return error.fatal() or error.code() in (KafkaError._FATAL, _UNRELEASED, *_FENCED)


def translate(error: KafkaError) -> OrgstatsError:
    """Unavailable where a retry can help, else a ConfigurationError with the remedy."""
    if error.code() in _FENCED or (error.code() == KafkaError._FATAL and "fenced" in error.str()):
        return Fenced("Kafka: another process uses the same group.instance.id; give each its own ORGSTATS_INSTANCE_ID")
    if error.code() == _UNRELEASED or (error.code() == KafkaError._FATAL and _UNRELEASED_TEXT in error.str()):
        return Unreleased(
            "Kafka: another process uses the same group.instance.id, or one was killed lately; give each "
            "its own ORGSTATS_INSTANCE_ID"
        )
    remedy = NEEDS_A_PERSON.get(error.code())
    if remedy is not None:
        return ConfigurationError(f"Kafka: {error.str()}: {remedy}")
    if ends_the_client(error):
        return ConfigurationError(f"Kafka: {error.str()}: this member cannot go on")
    return Unavailable(f"Kafka: {error.name()}: {error.str()}")
