"""Records that tell right from wrong replays: a mistaken rule, broken records, several days, three chunks."""

import json
from typing import Any, Final

from confluent_kafka import Producer

from tests.support.oracle import CHUNK, accept_all

RECORDS: Final = 2 * CHUNK + CHUNK // 8
EVERY_MS: Final = 4_000
DAY: Final = 86_400

MISTAKE: Final = """
[[rule]]
outcome = "filtered"
reason = "bad-deploy"
org_id = [2]
release = ["2.*"]
"""
CORRECTED: Final = """
[[rule]]
outcome = "filtered"
reason = "robots"
user_agent = ["*bot*"]
"""
MISTAKEN_SECONDS: Final = 3_600


def record(i: int, first_ms: int) -> tuple[bytes, int]:
    """(value, Kafka timestamp): three organizations, times of four minutes, half not classified, some broken."""
    timestamp_ms = first_ms + i * EVERY_MS
    event: dict[str, Any] = {"timestamp": timestamp_ms // 240_000 * 240, "org_id": 1 + i % 3, "project_id": i % 2}
    event["key_id"] = i % 5 // 4
    if i % 1000 == 0:
        event["quantity"] = "3"
    elif i % 2:
        event["outcome"] = (0, 0, 2, 1)[i // 2 % 4]
        event["reason"] = "by-hand"
    else:
        event["release"] = f"{1 + i // 6 % 3}.{i % 5}"
    return json.dumps(event, separators=(",", ":")).encode(), timestamp_ms


def produce(bootstrap_servers: str, topic: str, first_ms: int, records: int = RECORDS, first: int = 0) -> None:
    """Put records first … first + records onto partition 0."""
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "queue.buffering.max.messages": 400_000, "linger.ms": 50}
    )
    for i in range(first, first + records):
        value, timestamp_ms = record(i, first_ms)
        producer.produce(topic, value, partition=0, timestamp=timestamp_ms)
        if i % 20_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0


def mistaken_from_ms(first_ms: int) -> int:
    """When the mistaken rule came into force: in the first chunk."""
    return first_ms + CHUNK // 6 * EVERY_MS


def classify_with_mistake(first_ms: int) -> Any:
    """The classification while the mistaken rule is in the history."""
    since = mistaken_from_ms(first_ms)

    def classify(event: dict[str, Any], kafka_ms: int) -> tuple[int, str]:
        mistaken = since <= kafka_ms < since + MISTAKEN_SECONDS * 1000
        if mistaken and event["org_id"] == 2 and (event["release"] or "").startswith("2."):
            return 1, "bad-deploy"
        return accept_all(event, kafka_ms)

    return classify
