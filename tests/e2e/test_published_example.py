"""The published example of the endpoint, from producer to HTTP answer."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from orgstats.deploy.local import processes
from tests.support import stored
from tests.support.daemon import Daemon
from tests.support.servers import Kafka
from tests.support.wait import wait_for

FIRST_HOUR = 1_584_824_400
PUBLISHED = [
    *(6090, 6096, 5775, 7998, 7166, 8057, 5760, 8618, 7681, 6941, 7282, 6614),
    *(6944, 8150, 6883, 5380, 7545, 8002, 6579, 5715, 7054, 6862, 7460, 11448),
]
SLUG = "the-interstellar-jurisdiction"
ORGSTATS = str(Path(sys.executable).with_name("orgstats"))


def produce_example(kafka: Kafka, topic: str) -> None:
    """172,100 accepted, filtered and rate limited events, spread over each hour, stamped by Kafka with that day."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "queue.buffering.max.messages": 200_000})
    for hour, count in enumerate(PUBLISHED):
        for i in range(count):
            second = FIRST_HOUR + hour * 3_600 + i * 3_600 // count
            event = {"timestamp": second, "org_id": 7, "project_id": 1 + i % 3, "outcome": (0, 0, 0, 1, 2)[i % 5]}
            producer.produce(topic, json.dumps(event), key=b"7", timestamp=second * 1000 + 999)
        producer.poll(0)
    assert producer.flush(60) == 0


def orgstats(url: str, *words: str) -> str:
    """Run a command of orgstats and give what it prints."""
    env = {**os.environ, "ORGSTATS_CLICKHOUSE_URL": url}
    return subprocess.run([ORGSTATS, *words], check=True, capture_output=True, text=True, env=env, timeout=60).stdout


@pytest.fixture
def counted(kafka: Kafka, make_topic: object, tmp_path: Path, clickhouse_url: str) -> str:
    """A store that has counted the example; no retention on either side."""
    topic = make_topic(4, {"retention.ms": "-1"} if kafka.real else None)  # type: ignore[operator]
    produce_example(kafka, topic)
    daemon = Daemon(
        "example", tmp_path, kafka.bootstrap_servers, topic, clickhouse_url,
        **({} if kafka.real else {"ORGSTATS_TOPIC_ID": topic}),
    )  # fmt: skip
    try:
        wait_for(lambda: sum(stored.progress(clickhouse_url).values()) == sum(PUBLISHED), 60)
        assert daemon.child.stop() == 0, daemon.child.tail()
    finally:
        daemon.child.kill()
    return clickhouse_url


@pytest.fixture
def endpoint(counted: str, tmp_path: Path) -> Iterator[str]:
    """The base URL of an API over that store."""
    child = processes.start(
        "serve",
        [ORGSTATS, "serve"],
        log=tmp_path / "serve.log",
        env={
            **os.environ,
            "ORGSTATS_CLICKHOUSE_URL": counted,
            "ORGSTATS_LISTEN": "127.0.0.1:0",
            "ORGSTATS_RETENTION_DAYS": "0",
        },
    )
    try:
        line = processes.wait_ready(child, child.first_json_line, seconds=30)
        yield f"http://{line['listen']}"
        assert child.stop() == 0, child.tail()
    finally:
        child.kill()


def test_the_published_answer(counted: str, endpoint: str) -> None:
    """The endpoint answers the published 24 points, and every header of the contract."""
    orgstats(counted, "orgs", "add", SLUG, "--id", "7")
    token = orgstats(counted, "tokens", "create", "--org", SLUG).strip()
    answer = httpx.get(
        f"{endpoint}/api/0/organizations/{SLUG}/stats/",
        params={"since": FIRST_HOUR, "until": FIRST_HOUR + 23 * 3_600, "resolution": "1h"},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == [[float(FIRST_HOUR + i * 3_600), count] for i, count in enumerate(PUBLISHED)]
    assert answer.text.startswith("[[1584824400.0,6090],[1584828000.0,6096]") or answer.text.startswith(
        "[[1584824400.0, 6090], [1584828000.0, 6096]"
    )
    expected = {
        "content-type": "application/json",
        "content-length": str(len(answer.content)),
        "x-xss-protection": "1; mode=block",
        "x-content-type-options": "nosniff",
        "x-frame-options": "deny",
        "content-language": "en",
        "vary": "Accept-Language, Cookie",
        "allow": "GET, HEAD, OPTIONS",
        "access-control-allow-methods": "GET, HEAD, OPTIONS",
        "access-control-allow-origin": "*",
        "access-control-allow-headers": "X-Sentry-Auth, X-Requested-With, Origin, Accept, Content-Type, "
        "Authentication, Authorization",
        "access-control-expose-headers": "X-Sentry-Error, Retry-After, ETag, X-Stats-Complete-Until, "
        "X-Stats-Retained-Since",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert float(answer.headers["x-stats-complete-until"]) > FIRST_HOUR
    assert "x-stats-retained-since" not in answer.headers
