"""Redrives that are killed, limited, run side by side or too late: each letter's record is in the log once."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient

from orgstats import failpoints
from orgstats.clickhouse.connect import connect
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.ops import dead_letters, sending
from orgstats.consumer.ops.connections import Connections, open_connections
from orgstats.consumer.ops.dead_letters import Filter, groups
from orgstats.consumer.ops.redrive import RedriveOptions, RedriveResult, redrive
from orgstats.consumer.ops.targets import deleted_too_soon, source_ids
from orgstats.consumer.ops.transforms import origin_of
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import OrgstatsError, Refused
from orgstats.schemas.tables import insert
from tests.ops.conftest import Run, orgstats_runner
from tests.support.servers import Kafka

LETTERS = 100
HOUR_MS = 3_600_000
PAYLOAD = b'{"timestamp":1700000000,"org_id":1,"outcome":0}'


@dataclass(frozen=True)
class Letters:
    """100 dead letters of a topic, as a consumer would have stored them, and the servers that hold them."""

    kafka: Kafka
    topic: str
    url: str
    source_id: int
    connections: Connections

    def redrive(self, **options: Any) -> RedriveResult:
        """Redrive in this process."""
        return redrive(
            self.connections, Filter(topics=(self.topic,)), RedriveOptions(execute=True, by="tests", **options)
        )

    def runner(self, group: str = "one", *, process: bool = False) -> Run:
        """Runs the command."""
        return orgstats_runner(self.kafka.bootstrap_servers, self.topic, group, self.url, process=process)

    def in_the_log(self) -> list[int]:
        """Letters by their offsets, one for each record of theirs that a consumer reads."""
        tp = (self.topic, 0)
        first, end = self.connections.topics.starts([tp])[tp], self.connections.topics.ends([tp], "read_committed")[tp]
        with LogReader(self.connections.settings.kafka_properties(), "read_committed") as reader:
            runs = [run for run, _ in reader.read(tp, first, end)] if first < end else []
        origins = [origin_of(message.headers() or ()) for run in runs for message in run]  # type: ignore[arg-type]
        return sorted(origin[1] for origin in origins if origin is not None)

    def actions(self) -> dict[str, int]:
        """How many letters are in which state."""
        return {group.action: group.records for group in groups(self.connections.store, Filter(handled=True), [])}

    def ask(self, sql: str, rows: list[Any] | None = None) -> None:
        """A statement to the store."""
        with connect(self.url, client_name="tests") as client:
            client.execute(sql, rows)

    def delete_before(self, offset: int) -> None:
        """What retention does."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        asked = KafkaTopicPartition(self.topic, 0, offset)
        admin.delete_records([asked])[asked].result(30)


@pytest.fixture
def make_letters(real_kafka: Kafka, clickhouse_url: str) -> Iterator[Callable[..., Letters]]:
    """Makes a topic with `config`, and dead letters of it of this age."""
    sites: list[Connections] = []

    def make(age_ms: int = 0, **config: str) -> Letters:
        topic = real_kafka.create_topic(1, {name.replace("_", "."): value for name, value in config.items()})
        settings = ConsumerSettings(
            bootstrap_servers=real_kafka.bootstrap_servers,
            topic=(topic,),
            group="one",
            clickhouse_url=clickhouse_url,
        )
        connections = open_connections(settings)
        sites.append(connections)
        (source_id,) = source_ids(connections, topic)
        at = datetime.fromtimestamp((time.time_ns() // 1_000_000 - age_ms) / 1000, UTC)
        rows: list[Any] = [
            (source_id, offset, topic, 0, at, b"key", [], PAYLOAD, len(PAYLOAD), "field_invalid", "", False, offset)
            for offset in range(LETTERS)
        ]
        letters = Letters(real_kafka, topic, clickhouse_url, source_id, connections)
        letters.ask(insert("dead_letters"), rows)
        return letters

    yield make
    for connections in sites:
        connections.store.close()


@pytest.fixture
def letters(make_letters: Callable[..., Letters]) -> Letters:
    """100 of now."""
    return make_letters()


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Letters, str], None]:
    """Redrives until a failpoint, where it ends."""

    def run(letters: Letters, place: str) -> None:
        monkeypatch.setattr(failpoints, "_armed", {place: ("raise", 1)})
        monkeypatch.setattr(failpoints, "_reached", {})
        with pytest.raises(OrgstatsError, match="failpoint"):
            letters.redrive()
        monkeypatch.setattr(failpoints, "_armed", {})

    return run


ALL = list(range(LETTERS))


def test_limited_runs_after_an_interrupted_one_send_nothing_twice(letters: Letters) -> None:
    """100 letters, killed after the commit, three times ten, then all: 100 records."""
    run = letters.runner()
    killed = run("dead-letters", "redrive", "--execute", ORGSTATS_FAILPOINTS="redrive_committed=kill")
    assert killed.returncode == -signal.SIGKILL
    for limit in (("--limit", "10"),) * 3 + ((),):
        finished = run("dead-letters", "redrive", "--execute", *limit)
        assert finished.returncode == 0, finished.stderr
    assert letters.in_the_log() == ALL


@pytest.mark.parametrize("place", ["redrive_sent", "redrive_marked", "redrive_committed"])
def test_limited_runs_finish_what_an_interrupted_one_began(letters: Letters, interrupted: Any, place: str) -> None:
    """Wherever it was interrupted, runs of ten send what is missing and nothing else."""
    interrupted(letters, place)
    for _ in range(LETTERS // 10):
        letters.redrive(limit=10)
    assert letters.in_the_log() == ALL
    assert letters.actions() == {"sent": LETTERS}


def test_clocks_of_hosts_do_not_order_actions(
    letters: Letters, interrupted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redrive from a host five minutes ahead is interrupted; one from another host goes on, twice."""
    monkeypatch.setattr(dead_letters, "now", lambda: datetime.fromtimestamp(time.time() + 300, UTC))
    interrupted(letters, "redrive_marked")
    monkeypatch.setattr(dead_letters, "now", lambda: datetime.fromtimestamp(time.time(), UTC))
    assert letters.redrive().sent == LETTERS
    assert letters.redrive().sent == 0
    assert letters.in_the_log() == ALL


def test_what_can_no_longer_be_looked_for_is_not_sent_again(letters: Letters, interrupted: Any) -> None:
    """Retention has passed the place: refused with the remedy, sent only when an operator says so."""
    interrupted(letters, "redrive_committed")
    producer = Producer({"bootstrap.servers": letters.kafka.bootstrap_servers})
    producer.produce(letters.topic, b"another", partition=0)
    assert producer.flush(30) == 0
    letters.delete_before(LETTERS)
    refused = letters.runner()("dead-letters", "redrive", "--execute")
    assert (refused.returncode, refused.stdout[:6]) == (78, "0 sent"), refused.stderr
    assert "--send-unknown" in refused.stderr
    assert letters.in_the_log() == []
    assert letters.redrive(send_unknown=True).sent == LETTERS
    assert letters.in_the_log() == ALL


def test_a_redrive_of_another_group_ends_the_one_before(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one stands before its commit another group's sends everything: the first may not commit any more."""
    monkeypatch.setattr(sending, "TRANSACTION_SECONDS", 120)  # or the broker ends a transaction that takes too long
    reached: list[str] = []

    def retention_passes(place: str) -> None:
        reached.append(place)
        if reached == ["redrive_sent"]:
            other = letters.runner("two", process=True)("dead-letters", "redrive", "--execute")
            assert (other.returncode, other.stdout[:8]) == (0, "100 sent"), other.stderr

    monkeypatch.setattr(sending, "failpoint", retention_passes)
    with pytest.raises(Refused, match="another redrive"):
        letters.redrive()
    assert reached == ["redrive_sent", "redrive_marked"]
    assert letters.redrive().sent == 0
    assert letters.in_the_log() == ALL


def test_letters_that_retention_would_delete_are_not_sent(make_letters: Callable[..., Letters]) -> None:
    """Older than retention.ms: refused with the remedy; with the present time they are sent, and stay."""
    letters = make_letters(2 * HOUR_MS, retention_ms=str(HOUR_MS), segment_ms="60000")
    refused = letters.runner()("dead-letters", "redrive", "--execute")
    assert (refused.returncode, refused.stdout[:6]) == (78, "0 sent"), refused.stderr
    assert "retention.ms=3600000" in refused.stderr
    assert letters.in_the_log() == []
    assert letters.redrive(timestamp_now=True).sent == LETTERS
    assert letters.in_the_log() == ALL


def test_letters_are_not_sent_to_a_compacted_topic(make_letters: Callable[..., Letters]) -> None:
    """A record that compaction removes can neither be counted nor looked for."""
    letters = make_letters(cleanup_policy="compact")
    with pytest.raises(Refused, match="compacted"):
        letters.redrive()


def test_a_letter_is_redriven_when_its_record_was_counted(letters: Letters) -> None:
    """Sent until progress has passed it; lost, and sent again, when the record was deleted before.

    So also when it was deleted before anybody began to count its partition, which lists no gap.
    """
    letters.redrive(limit=10)
    letters.redrive()
    assert letters.actions() == {"sent": LETTERS}
    at = datetime.now(UTC)
    letters.ask("INSERT INTO progress (source_id, next_offset, version) VALUES", [(letters.source_id, 5, 5)])
    assert letters.actions() == {"redriven": 5, "sent": LETTERS - 5}
    shown = letters.runner()("dead-letters", "ls")
    assert "95 of them were sent and are not yet counted" in shown.stderr
    letters.ask(insert("gaps"), [(letters.source_id, 5, 8, "retention", at)])
    assert letters.actions() == {"redriven": 5, "lost": 3, "sent": LETTERS - 8}
    assert letters.redrive().sent == 3
    assert letters.in_the_log() == sorted([*ALL, 5, 6, 7])
    assert letters.actions() == {"redriven": 5, "sent": LETTERS - 5}
    letters.ask(insert("sources"), [(letters.source_id, letters.topic, "", 0, 131_072, "read_committed", 2, at)])
    assert letters.actions() == {"redriven": 3, "lost": 2, "sent": LETTERS - 5}


def test_what_was_done_with_a_letter_hides_no_other_record_at_its_offset(letters: Letters) -> None:
    """The log was cut back and other records came to offsets 3 and 4: these are letters with which nothing was done.

    The same record stored again, as a recount or an undone repair does it, keeps what was done with it.
    """
    letters.redrive()
    letters.ask("INSERT INTO progress (source_id, next_offset, version) VALUES", [(letters.source_id, LETTERS, 5)])
    assert letters.actions() == {"redriven": LETTERS}
    letters.ask(
        "INSERT INTO dead_letters SELECT * REPLACE (bitOr(version, bitShiftLeft(1, 48)) AS version,"
        " if(offset IN (3, 4), 'another', payload) AS payload) FROM dead_letters FINAL"
    )
    assert letters.actions() == {"redriven": LETTERS - 2, "": 2}
    run = letters.runner()
    assert f"{letters.topic}/0/3" in run("dead-letters", "ls").stdout
    dropped = run("dead-letters", "drop", "--place", f"{letters.topic}/0/3", "--execute")
    assert dropped.returncode == 0, dropped.stderr
    assert letters.actions() == {"redriven": LETTERS - 2, "dropped": 1, "": 1}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_hours_are_the_same_in_any_time_zone(letters: Letters, zone: str) -> None:
    """`ls --by hour` and `show` answer in UTC, whatever zone the process is in."""
    moved = "toDateTime64('2026-03-01 12:34:56', 3, 'UTC') AS kafka_timestamp, version + 1 AS version"
    letters.ask(f"INSERT INTO dead_letters SELECT * REPLACE ({moved}) FROM dead_letters FINAL")
    run = letters.runner()
    assert '"hour": "2026-03-01T12:00:00Z"' in run("dead-letters", "ls", "--by", "hour", "--json", TZ=zone).stdout
    assert "2026-03-01T12:34:56Z" in run("dead-letters", "show", "--limit", "1", TZ=zone).stdout


@pytest.mark.parametrize(
    ("settings", "age_ms", "expected"),
    [
        ({"retention.ms": "-1"}, 10**12, None),
        ({"retention.ms": str(10 * HOUR_MS)}, 8 * HOUR_MS, None),
        ({"retention.ms": str(10 * HOUR_MS)}, 9 * HOUR_MS + 1, "retention.ms=36000000"),
        ({"retention.ms": str(HOUR_MS)}, HOUR_MS * 9 // 10 + 1, "retention.ms=3600000"),
        ({"retention.ms": str(HOUR_MS), "message.timestamp.type": "LogAppendTime"}, 9 * HOUR_MS, None),
        ({"retention.ms": "-1", "message.timestamp.before.max.ms": "1000"}, 1001, "message.timestamp.before.max.ms"),
        ({"message.timestamp.before.max.ms": str(2**63 - 1)}, HOUR_MS, None),
        ({"message.timestamp.difference.max.ms": "1000"}, 1001, "message.timestamp.difference.max.ms"),
    ],
)
def test_what_a_topic_keeps_is_known_before_sending(
    settings: dict[str, str], age_ms: int, expected: str | None
) -> None:
    """By its age and the topic's settings, with an hour or a tenth of the retention left for counting."""
    now_ms = 1_790_000_000_000
    why = deleted_too_soon(settings, now_ms - age_ms, now_ms)
    assert why is None if expected is None else why is not None and expected in why
