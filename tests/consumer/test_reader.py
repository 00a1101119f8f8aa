"""What a broker tells a reader of ranges instead of records."""

import pytest
from confluent_kafka import KafkaError, Message

from orgstats.consumer.kafka import reader
from orgstats.errors import ConfigurationError, Refused


@pytest.mark.parametrize(
    ("code", "raised", "remedy"),
    [
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            ConfigurationError,
            "grant the principal READ and DESCRIBE on the topic",
        ),
        (KafkaError._PARTITION_EOF, Refused, "replay apply --repair --rewind"),
        (KafkaError.OFFSET_OUT_OF_RANGE, Refused, "ask again"),
    ],
)
def test_what_stands_in_the_way_of_reading_is_told_with_its_remedy(
    code: int, raised: type[Exception], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: none of it is mended by asking the broker again."""
    told = Message(topic="events", partition=0, offset=3, error=KafkaError(code))
    monkeypatch.setattr(reader, "consume", lambda *_, **__: [told])
    with (
        reader.LogReader({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, "read_committed") as log,
        pytest.raises(raised, match=remedy),
    ):
        list(log.read(("events", 0), 3, 10))


def test_a_group_that_is_not_allowed_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader is in none; librdkafka looks for a coordinator all the same, and records come after its complaint."""
    told = [
        Message(error=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)),
        Message(topic="events", partition=0, offset=3, value=b"{}"),
    ]
    monkeypatch.setattr(reader, "consume", lambda *_, **__: told)
    with reader.LogReader({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, "read_committed") as log:
        assert [position for _, position in log.read(("events", 0), 3, 4)] == [4]
