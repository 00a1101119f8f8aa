"""Brokers that give topics no UUID: every command says so at once, and names the setting that stands for it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Producer

from orgstats.clickhouse.connect import connect
from orgstats.consumer.kafka.topics import Topics
from orgstats.consumer.topic_checks import topic_uuids
from orgstats.deploy.local import mock_kafka
from orgstats.errors import ConfigurationError
from tests.ops.conftest import Run, orgstats_runner
from tests.support import stored
from tests.support.daemon import Daemon
from tests.support.wait import wait_for

TOPIC = "outcomes"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker without controller and UUIDs, with a record in each partition of a topic."""
    running = mock_kafka.start(tmp_path_factory.mktemp("mock") / "mock.log")
    producer = Producer({"bootstrap.servers": running.bootstrap_servers})
    for partition in range(mock_kafka.PARTITIONS):
        producer.produce(TOPIC, b'{"timestamp":1700000000,"org_id":1,"outcome":0}', partition=partition)
    producer.produce(f"{TOPIC}-billing", b"{}")
    assert producer.flush(30) == 0
    yield running.bootstrap_servers
    running.kill()


@pytest.fixture
def run(broker: str, clickhouse_url: str) -> Run:
    """Runs the command."""
    return orgstats_runner(broker, TOPIC, "group", clickhouse_url)


@pytest.mark.parametrize(
    "words",
    [
        ("lag", "--interval", "0"),
        ("audit",),
        ("replay", "plan"),
        ("replay", "apply"),
        ("dead-letters", "redrive"),
    ],
)
def test_commands_name_the_setting(run: Run, words: Sequence[str], clickhouse_url: str) -> None:
    """Not that the broker does not answer, which it does, but what it lacks and what to set."""
    with connect(clickhouse_url, client_name="tests") as client:
        client.execute("INSERT INTO dead_letters (source_id, topic, reason) VALUES", [(1, TOPIC, "not_json")])
    answer = run(*words)
    assert answer.returncode == 69
    assert "ORGSTATS_TOPIC_ID" in answer.stderr
    assert "timed out" not in answer.stderr


def test_the_doctor_names_the_setting(run: Run) -> None:
    """And is content when it is set; a topic that by its name may hold outcomes too is told in any case."""
    found = run("doctor").stdout
    assert "ORGSTATS_TOPIC_ID" in found
    assert f"topic {TOPIC}-billing is not counted" in found
    assert "ORGSTATS_TOPIC_ID stands for the topics' UUIDs" in run("doctor", ORGSTATS_TOPIC_ID="one").stdout


@pytest.mark.campaign
def test_a_consumer_names_the_setting_and_counts_once_it_is_set(
    broker: str, clickhouse_url: str, run: Run, tmp_path: Path
) -> None:
    """With it the other commands answer too."""
    daemon = Daemon("consumer", tmp_path, broker, TOPIC, clickhouse_url)
    try:
        wait_for(lambda: "ORGSTATS_TOPIC_ID" in daemon.child.log.read_text(), 30)
        daemon.child.kill()
        daemon.start(ORGSTATS_TOPIC_ID="one")
        wait_for(lambda: stored.progress(clickhouse_url) == dict.fromkeys(range(mock_kafka.PARTITIONS), 1), 60)
    finally:
        daemon.child.kill()
    for words in (("lag", "--interval", "0"), ("audit", "--recount"), ("replay", "plan")):
        answer = run(*words, ORGSTATS_TOPIC_ID="one")
        assert answer.returncode == 0, (words, answer.stdout, answer.stderr)


class WithoutIds:
    """What a broker before 2.8 answers."""

    def describe(self, names: Sequence[str]) -> dict[str, tuple[str, int]]:
        return dict.fromkeys(names, ("AAAAAAAAAAAAAAAAAAAAAA", 1))


def test_a_broker_that_answers_without_uuids_is_told_by_name() -> None:
    """It will never do otherwise: 78."""
    with pytest.raises(ConfigurationError, match=r"no UUID.*ORGSTATS_TOPIC_ID"):
        topic_uuids([TOPIC], cast("Topics", cast("Any", WithoutIds())), None)
    assert topic_uuids([TOPIC], cast("Topics", cast("Any", WithoutIds())), "one") == {TOPIC: None}
