"""Dead letters on the way back: transformed, sent once, counted once, whatever is killed or run twice."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from orgstats.consumer.ops.connections import store_of
from orgstats.consumer.ops.dead_letters import Filter, find, groups
from orgstats.consumer.ops.transforms import hops_of, origin_of, redriven_headers, transform, transforms_of
from orgstats.errors import ConfigurationError
from tests.ops.conftest import Run, orgstats_runner
from tests.support import oracle, stored
from tests.support.daemon import Daemon
from tests.support.servers import Kafka
from tests.support.wait import wait_for

GOOD, BAD = 2_000, 10_000
FIX = ("--reason", "field_invalid", "--number", "org_id", "--number", "quantity", "--rename", "proj=project_id")


def produce(kafka: Kafka, topic: str) -> None:
    """Good records, and 10,000 of a producer that sent numbers as text for a while; three that no transform helps."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for i in range(GOOD + BAD):
        event: dict[str, Any] = {"timestamp": 1_700_000_000 + i // 10, "org_id": i % 5, "outcome": 0, "quantity": 2}
        if i % 6:
            event = {**event, "org_id": str(i % 5), "quantity": " 3 ", "proj": 7}
        producer.produce(topic, json.dumps(event), key=str(i % 5), timestamp=1_700_000_000_000 + i * 100)
        producer.poll(0)
    for value in (b"{broken", b"[1]", b"x" * 70_000):
        producer.produce(topic, value, partition=0, timestamp=1_700_000_000_000)
    assert producer.flush(60) == 0


@pytest.fixture
def counting(kafka: Kafka, topic: str, clickhouse_url: str, tmp_path: Path) -> Iterator[Daemon]:
    """A consumer of the topic, which stores 20,000 dead letters in a row if it must."""
    if not kafka.real:
        pytest.skip("needs transactions that hide what was taken back: the mock has none")
    produce(kafka, topic)
    daemon = Daemon(
        "counting", tmp_path, kafka.bootstrap_servers, topic, clickhouse_url,
        ORGSTATS_DEAD_LETTER_RUN="0", ORGSTATS_DEAD_LETTER_SHARE="0",
    )  # fmt: skip
    try:
        wait_for(lambda: sum(stored.progress(clickhouse_url).values()) == GOOD + BAD + 3, 60)
        yield daemon
        assert daemon.child.stop(grace_seconds=30) == 0
    finally:
        daemon.child.kill()


@pytest.fixture
def run(kafka: Kafka, topic: str, clickhouse_url: str) -> Run:
    """Runs the command against the test's topic and database."""
    return orgstats_runner(kafka.bootstrap_servers, topic, f"group-{topic}", clickhouse_url)


@pytest.mark.campaign
def test_ten_thousand_dead_letters_come_back_once(
    kafka: Kafka, topic: str, clickhouse_url: str, counting: Daemon, run: Run
) -> None:
    """After the producer's mistake is named, each of 10,000 dead letters is counted once, killed thrice, run twice."""
    before = oracle.count(oracle.read(kafka.bootstrap_servers, topic))
    planned = run("dead-letters", "redrive", *FIX)
    assert (planned.returncode, planned.stdout[:7]) == (0, "10,000 "), planned.stderr
    for failpoint in ("redrive_sent", "redrive_marked", "redrive_committed"):
        killed = run("dead-letters", "redrive", *FIX, "--execute", ORGSTATS_FAILPOINTS=f"{failpoint}=kill@3")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    for _ in range(2):
        finished = run("dead-letters", "redrive", *FIX, "--execute")
        assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("0 sent")
    after = oracle.count(oracle.read(kafka.bootstrap_servers, topic))
    assert sum(after.events.values()) == GOOD + BAD
    assert after.dead_letters == before.dead_letters
    assert sum(after.quantity.values()) == 2 * GOOD + 3 * BAD
    wait_for(lambda: sum(q for q, _ in stored.counts(clickhouse_url).values()) == 2 * GOOD + 3 * BAD, 60)
    assert stored.differences(clickhouse_url, after) == {}


def test_what_cannot_be_decoded_after_transforms_stays(
    clickhouse_url: str, counting: Daemon, run: Run, topic: str
) -> None:
    """Records that still do not decode are left alone and told; dropped ones are out of sight, not gone."""
    left = run("dead-letters", "redrive", "--reason", "not_json", "--set", "org_id=1", "--execute")
    assert "left alone: 2 (not a JSON object" in left.stderr
    listed = json.loads(run("dead-letters", "ls", "--reason", "not_json", "--json").stdout)
    assert [(one["topic"], one["records"], one["action"]) for one in listed] == [(topic, 2, "-")]
    shown = json.loads(run("dead-letters", "show", listed[0]["first"], "--json").stdout)
    assert (shown[0]["payload"], shown[0]["reason"]) == ("{broken", "not_json")
    assert "broken" not in run("dead-letters", "ls").stdout
    dropped = run("dead-letters", "drop", "--reason", "not_json", "--execute")
    assert dropped.stdout.startswith("2 dropped")
    store = store_of(clickhouse_url)
    assert groups(store, Filter(reasons=("not_json",))) == []
    assert [one.action for one in find(store, Filter(reasons=("not_json",), handled=True), 9)] == ["dropped"] * 2
    assert len(find(store, Filter(org_id=3), 100_000)) == BAD // 5
    store.close()


@pytest.mark.parametrize(
    ("payload", "options", "expected"),
    [
        ('{"org_id":"12"}', {"numbers": ["org_id"]}, {"org_id": 12}),
        ('{"org_id":"1x"}', {"numbers": ["org_id"]}, {"org_id": "1x"}),
        ('{"quantity":3.0}', {"numbers": ["quantity"]}, {"quantity": 3}),
        ('{"time":5}', {"renames": ["time=timestamp"]}, {"timestamp": 5}),
        ('{"a":null,"b":2}', {"defaults": ["a=1", "b=1"], "removes": ["c"]}, {"a": 1, "b": 2}),
        ('{"a":1}', {"sets": ['a="x"']}, {"a": "x"}),
        ("{}", {"timestamp_from_kafka": True}, {"timestamp": 1.5}),
    ],
)
def test_transforms_correct_the_usual_mistakes(payload: str, options: Any, expected: Any) -> None:
    """Each transform changes what it names and nothing else."""
    transformed = transform(payload.encode(), 1500, transforms_of(**options))
    assert transformed is not None
    assert json.loads(transformed) == expected


def test_an_invalid_transform_is_refused() -> None:
    """A value that is not JSON is told with its remedy, before anything is read."""
    with pytest.raises(ConfigurationError, match="quotes"):
        transforms_of(sets=["reason=text"])


def test_the_way_of_a_record_is_in_its_headers() -> None:
    """A redriven record names its origin, and counts how often it went round."""
    once = redriven_headers([("trace", b"1")], 7, 9)
    twice = redriven_headers(once, 8, 1)
    assert (origin_of(twice), hops_of(twice), twice[0]) == ((8, 1), 2, ("trace", b"1"))
