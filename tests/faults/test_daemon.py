"""What the daemon does when it cannot go on, or may not: it says so, ends as told, and nothing is lost."""

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.source import Source
from orgstats.consumer.store import rules as rules_store
from orgstats.consumer.store.rules import KNOWN_SECONDS, history, publish_file
from orgstats.deploy.local.paths import free_ports
from tests.faults.conftest import Place
from tests.faults.ledger import differences
from tests.faults.round import Member, Round
from tests.support import oracle, stored
from tests.support.oracle import CHUNK
from tests.support.wait import wait_for


def ends_with(one: Round, member: Member, seconds: float = 60) -> tuple[int, str]:
    """Exit code and last line of a member that ends by itself."""
    code = member.daemon.child.popen.wait(seconds)
    one.members.remove(member)
    return code, member.daemon.child.tail(1)


def says(member: Member, text: str) -> None:
    """Until its log has the text."""
    wait_for(lambda: text in member.daemon.child.log.read_text(), 60)


def execute(one: Round, *statements: str) -> list[Any]:
    """Run statements on the round's database; the last one's rows."""
    client = connect(one.url, client_name="tests")
    try:
        rows: list[Any] = [client.execute(sql) for sql in statements][-1]
        return rows
    finally:
        client.disconnect()


@pytest.mark.parametrize("settings", [{"ORGSTATS_DEAD_LETTER_SHARE": "0"}, {"ORGSTATS_DEAD_LETTER_RUN": "0"}])
def test_a_producer_gone_wrong_halts_its_partition_alone(
    new_round: Callable[..., Round], settings: dict[str, str]
) -> None:
    """Too many broken records, in a row or by share, halt their partition where they can be looked at.

    The other partitions are counted on, the process ends with 78 when it is stopped, and one without limits goes on.
    """
    # With the default batch the ends of the empty partitions would take places of the 10,000 that a share is made of.
    one = new_round(**settings, ORGSTATS_BATCH_SIZE="20000")
    one.traffic.produce(2_000)
    one.drain()
    one.stop_all()
    # A member that loses its session meanwhile opens the partition again, and lets as many pass again: enough for that.
    for at in range(50_000):
        one.traffic._plain.produce(one.topic, b"broken" if at % 3 or at < 2_000 else b'{"timestamp":1}', partition=0)
    before, rows = one.progress(), len(stored.dead_letters(one.url))
    one.traffic._plain.flush(30)
    member = one.start("a")
    says(member, "halted")
    one.traffic.produce(500)
    ends = one.ends()
    wait_for(lambda: all(one.progress().get(tp) == end for tp, end in ends.items() if tp != 0), 60)
    wait_for(lambda: one.progress()[0] > before[0], 60)
    assert one.progress()[0] < ends[0]
    assert len(stored.dead_letters(one.url)) >= rows + 1_000
    member.daemon.child.popen.terminate()
    code, last = ends_with(one, member)
    assert code == 78
    assert f"{one.topic}/0 at offset" in last
    assert "ORGSTATS_DEAD_LETTER" in last
    one.env |= {"ORGSTATS_DEAD_LETTER_SHARE": "0", "ORGSTATS_DEAD_LETTER_RUN": "0"}
    one.drain()
    one.compare()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ((60, "Table counts does not exist"), 78, "orgstats migrate"),
        ((497, "Not enough privileges"), 78, "grant"),
        ((27, "Cannot parse input"), 70, "ClickHouse error 27"),
    ],
)
def test_an_error_that_does_not_pass_ends_the_consumer_and_loses_nothing(
    one: Round, error: tuple[int, str], code: int, words: str
) -> None:
    """A fatal answer of ClickHouse ends it with the server's words and the remedy; started again, all is counted."""
    one.traffic.produce(500)
    one.drain()
    one.stop_all()
    one.traffic.produce(500)
    one.site.proxy.error = error
    found, last = ends_with(one, one.start("a"))
    one.site.proxy.error = None
    assert found == code
    assert words in last
    one.drain()
    one.compare()


def test_a_partition_that_cannot_be_opened_waits_alone(one: Round) -> None:
    """Its stored chunk cannot be read in time; the others are counted, and it is as soon as it can be."""
    one.traffic.produce(2_000)
    one.drain()
    one.stop_all()
    before = one.progress()
    one.delete_below({0: before[0] - 10})
    one.traffic.produce(500)
    (port,) = free_ports(1)
    asked = f"source_id = {Source(one.topic, one.uuid, 0).source_id} AND chunk >= "
    one.site.proxy.refused = asked.encode(), (159, "Timeout exceeded")
    one.env["ORGSTATS_METRICS_LISTEN"] = f"127.0.0.1:{port}"
    member = one.start("a")
    del one.env["ORGSTATS_METRICS_LISTEN"]
    for failures in (1, 3):
        says(member, f'"failures": {failures}')
        one.traffic.produce(500)
        ends = one.ends()
        wait_for(lambda: one.progress() == {**ends, 0: before[0]}, 60)  # noqa: B023 - asked at once
    assert (
        f'orgstats_not_opened{{partition="0",topic="{one.topic}"}} 1.0' in httpx.get(f"http://127.0.0.1:{port}/").text
    )
    one.site.proxy.refused = None
    one.drain()
    one.compare()


def test_it_waits_for_a_clickhouse_that_is_away_at_the_start(one: Round) -> None:
    """Started first, it waits, can be told to stop, and counts as soon as ClickHouse is there."""
    one.traffic.produce(500)
    one.site.proxy.set_state("away")
    waiting = one.start("a")
    says(waiting, "waiting for ClickHouse")
    one.stop(waiting)
    waiting = one.start("a")
    says(waiting, "waiting for ClickHouse")
    one.site.proxy.set_state("fine")
    one.drain()
    one.compare()


def test_readiness_means_counting(new_round: Callable[..., Round]) -> None:
    """Waiting for ClickHouse it is live and not ready; ready once it has counted, also when ClickHouse goes again."""
    (port,) = free_ports(1)
    one = new_round(ORGSTATS_METRICS_LISTEN=f"127.0.0.1:{port}")

    def asked(path: str) -> int:
        return httpx.get(f"http://127.0.0.1:{port}/healthz/{path}").status_code

    one.site.proxy.set_state("away")
    member = one.start("a")
    says(member, "waiting for ClickHouse")
    assert (asked("live"), asked("ready")) == (200, 503)
    one.site.proxy.set_state("fine")
    wait_for(lambda: asked("ready") == 200, 60)
    assert sum(one.progress().values()) == 0  # a topic without records has its checkpoints too
    one.site.proxy.set_state("away")
    one.traffic.produce(100)
    says(member, "not stored, trying again")
    assert (asked("live"), asked("ready")) == (200, 200)


def test_one_of_two_with_one_instance_id_ends_with_the_remedy(one: Round) -> None:
    """Of two static members with one name one ends, saying that each process needs its own; the other counts on."""
    one.traffic.produce(500)
    both = [one.start("a")]
    says(both[0], '"event": "assigned"')
    both.append(one.start("a"))
    ended = wait_for(lambda: [member for member in both if not member.daemon.child.running], 60)
    code, last = ends_with(one, ended[0])
    assert code == 78
    assert "ORGSTATS_INSTANCE_ID" in last
    one.drain()
    one.compare()


def test_a_store_restored_under_running_consumers_heals_by_itself(one: Round) -> None:
    """ClickHouse comes back as an older copy while consumers wait: they count again what it has lost."""
    tables = ("chunk_days", "counts", "hourly", "totals", "dead_letters", "progress", "sources", "gaps", "repairs")
    one.traffic.produce(2_000)
    one.drain()
    for table in tables:
        execute(one, f"CREATE TABLE copy_{table} AS {table}", f"INSERT INTO copy_{table} SELECT * FROM {table}")
    one.traffic.transaction(CHUNK, 0, keep=False)
    one.traffic.produce(3_000)
    one.drain()
    one.site.proxy.set_state("away")
    for table in tables:
        execute(one, f"TRUNCATE TABLE {table}", f"INSERT INTO {table} SELECT * FROM copy_{table}")
    one.traffic.produce(100)
    one.site.proxy.set_state("fine")
    one.drain()
    one.compare()


def test_a_position_that_retention_passes_is_a_gap_from_what_was_counted(new_round: Callable[..., Round]) -> None:
    """A consumer that was asleep stores what it has counted; the gap is exactly what it could not read."""
    one = new_round(ORGSTATS_KAFKA__SESSION_TIMEOUT_MS="60000")
    one.traffic.produce(2_000)
    sleeper = one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    before = one.progress()
    one._signal(sleeper, signal.SIGSTOP)
    one.traffic.produce(2_000)
    lows = {partition: end - 100 for partition, end in one.ends().items()}
    one.delete_below(lows)
    one._signal(sleeper, signal.SIGCONT)
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one.gaps = stored.gaps(one.url)  # it may have had some records in its buffers; the cells tell exactly which
    assert [(partition, low) for partition, _, low in one.gaps] == sorted(lows.items())
    assert all(start >= before[partition] for partition, start, _ in one.gaps)
    one.compare()


def test_an_accepted_skip_lists_whole_chunks(new_round: Callable[..., Round]) -> None:
    """--accept-skip goes on at the commit's chunk and lists what it leaves out; without it nothing is left out."""
    one = new_round(ORGSTATS_ACCEPT_SKIP="true")
    one.traffic.produce(500)
    one.drain()
    one.stop_all()
    counted = one.progress()[0]
    one.traffic.produce(500)
    one.traffic.transaction(CHUNK, 0, keep=False)
    one.traffic.produce(500)
    one.set_offsets({0: one.ends()[0] - 10})
    one.gaps = [(0, counted, CHUNK)]
    one.drain()
    one.compare()


def test_another_isolation_is_refused(one: Round) -> None:
    """What would mix two ways of counting does not start, and says what to do."""
    one.traffic.produce(100)
    one.drain()
    one.stop_all()
    one.env["ORGSTATS_KAFKA__ISOLATION_LEVEL"] = "read_uncommitted"
    code, last = ends_with(one, one.start("a"))
    assert code == 78
    assert "ISOLATION_LEVEL=read_committed" in last


def test_aborted_records_at_the_end_of_the_log_and_of_a_chunk_are_passed(one: Round) -> None:
    """The position moves over offsets without a record, also where nothing follows and where a chunk ends."""
    one.traffic.produce(100)
    one.traffic.transaction(50, 0, keep=False)
    one.drain()
    end = one.ends()[0]
    one.traffic.transaction(CHUNK - end - 1, 0, keep=False)  # its marker is the chunk's last offset
    one.drain()
    assert one.progress()[0] == CHUNK
    one.traffic.produce(100)
    one.drain()
    one.compare()


def test_it_leaves_in_time_when_kafka_is_away(place: Place, one: Round) -> None:
    """Asked to stop while no broker answers, it ends within its time, and the next one counts what was open.

    It may end in order, or give up on what does not answer: 69.
    """
    one.traffic.produce(1_000)
    member = one.start("a")
    says(member, '"event": "assigned"')
    place.broker.kill()
    try:
        one._signal(member, signal.SIGTERM)
        code, _ = ends_with(one, member)
    finally:
        place.broker.restart()
    assert code in (0, 69)
    one.drain()
    one.compare()


@pytest.mark.parametrize("away", ["Kafka", "ClickHouse"])
def test_what_was_not_stored_when_it_was_stopped_is_told_by_69(place: Place, one: Round, away: str) -> None:
    """0 would tell a supervisor that all that was counted is stored and committed; the next one counts it again."""
    one.traffic.produce(500)
    member = one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one.site.proxy.set_state("away")
    one.traffic.produce(500)
    says(member, "not stored, trying again")
    if away == "Kafka":
        place.broker.kill()
        one.site.proxy.set_state("fine")
    try:
        one._signal(member, signal.SIGTERM)
        code, last = ends_with(one, member)
    finally:
        one.site.proxy.set_state("fine")
        if away == "Kafka":
            place.broker.restart()
    assert code == 69
    assert "counts it again" in last or "leaving at once" in last
    one.drain()
    one.compare()


def test_a_signal_after_the_last_log_line_does_not_change_how_it_ends(one: Round) -> None:
    """A supervisor that signals once more hears 0, not that its signal ended the process."""
    one.traffic.produce(100)
    member = one.start("a")
    says(member, '"event": "assigned"')
    one._signal(member, signal.SIGTERM)
    says(member, '"event": "stopped"')

    def has_ended() -> bool:
        one._signal(member, signal.SIGTERM)
        return not member.daemon.child.running

    wait_for(has_ended, 60, poll_seconds=0.001)
    assert ends_with(one, member)[0] == 0


def test_a_consumer_that_slept_reads_the_rules_before_it_classifies(
    new_round: Callable[..., Round], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while rules came into force, it classifies nothing by the copy it went to sleep with."""
    one = new_round(ORGSTATS_KAFKA__SESSION_TIMEOUT_MS="120000")

    def produce() -> None:
        for at in range(400):
            event = {"timestamp": time.time(), "org_id": 1, "environment": ("dev", "live")[at % 2]}
            one.traffic._plain.produce(one.topic, json.dumps(event).encode(), partition=at % 4)
        one.traffic._plain.flush(30)

    produce()
    sleeper = one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one._signal(sleeper, signal.SIGSTOP)
    rules = one.site.directory / f"{one.topic}.toml"
    rules.write_text('[[rule]]\noutcome = "filtered"\nreason = "dev"\nenvironment = ["dev"]\n')
    client = connect(one.url, client_name="tests")
    monkeypatch.setattr(rules_store, "LEAD_SECONDS", KNOWN_SECONDS + 3)
    publish_file(client, rules)
    (in_force,) = [round(row.effective_from.timestamp() * 1000) for row in history(client)]
    client.disconnect()
    wait_for(lambda: time.time() * 1000 > in_force, 60, poll_seconds=0.2)
    produce()
    one._signal(sleeper, signal.SIGCONT)
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one.ledgers[-1].catch_up()

    def classify(event: dict[str, Any], kafka_ms: int) -> tuple[int, str]:
        return (1, "dev") if kafka_ms >= in_force and event["environment"] == "dev" else (0, "")

    assert differences(one.url, [oracle.count(one.ledgers[-1].records, classify)]) == {}


def test_a_compacted_topic_is_refused_unless_it_is_allowed(one: Round) -> None:
    """Records vanish from it, and a chunk counted again would become smaller; the text names both remedies."""
    resource = ConfigResource(ResourceType.TOPIC, one.topic)
    resource.add_incremental_config(
        ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
    )
    one.admin.incremental_alter_configs([resource])[resource].result(30)
    code, last = ends_with(one, one.start("a"))
    assert code == 78
    assert f"topic {one.topic} is compacted" in last
    assert "ORGSTATS_ALLOW_COMPACTION" in last
    one.env["ORGSTATS_ALLOW_COMPACTION"] = "true"
    record = b'{"timestamp": 1700000000, "org_id": 1, "outcome": 0}'
    for key in range(100):
        one.traffic._plain.produce(one.topic, record, key=str(key).encode(), partition=0)
    one.traffic._plain.flush(30)
    one.drain()
    one.compare()
