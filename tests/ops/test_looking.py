"""Lag, doctor and explain against a real Kafka and the engine, and the sums behind them."""

import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from clickhouse_driver import Client

from orgstats.consumer.kafka.retention import Retention, retention_deadline, retention_of
from orgstats.consumer.ops import doctor
from orgstats.consumer.ops.connections import Connections, open_connections
from orgstats.consumer.ops.explain import explain
from orgstats.consumer.ops.lag import lag
from orgstats.schemas.categories import CATEGORY_NAMES
from orgstats.schemas.outcomes import STAT_CATEGORIES
from tests.ops.conftest import Run, World
from tests.ops.traffic import RECORDS
from tests.support.oracle import CHUNK


def test_lag_tells_position_end_and_open_chunk(world: World, connections: Connections, ask: Any, orgstats: Run) -> None:
    """A source that is caught up is not behind; one whose progress is older is behind by the difference."""
    (caught_up,) = lag(connections, None)
    assert (caught_up.position, caught_up.behind, caught_up.behind_seconds) == (RECORDS, 0, 0)
    assert (caught_up.open_chunk, caught_up.end, caught_up.retention_deadline) == (2 * CHUNK, RECORDS, None)
    ask(
        "INSERT INTO progress SELECT * REPLACE (next_offset - 500 AS next_offset, bitShiftLeft(toUInt64(1), 48) AS"
        " version, complete_until - toIntervalHour(1) AS complete_until) FROM progress FINAL"
    )
    shown = orgstats("lag", "--json", "--interval", "0")
    (behind,) = json.loads(shown.stdout)
    assert (behind["behind"], behind["behind_seconds"] >= 3600, behind["retention_deadline"]) == (500, True, None)


def test_every_part_of_a_number_is_explained(world: World, connections: Connections) -> None:
    """The parts that explain names add up to the oracle's number, by reason and key."""
    cell = max(c for c in world.truth.quantity if c.reason == "bad-deploy" and c.key_id)
    parts = explain(connections.store, cell.org_id, "blacklisted", cell.bucket, 10)
    (expected,) = world.truth.series(cell.org_id, "blacklisted", cell.bucket, cell.bucket, 10)
    assert sum(part.quantity for part in parts) == expected[1]
    found, wanted = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for part in parts:
        found[part.reason, part.key_id] += part.quantity
    for one, quantity in world.truth.quantity.items():
        if (one.org_id, one.bucket, one.outcome) == (cell.org_id, cell.bucket, cell.outcome):
            wanted[one.reason, one.key_id] += quantity
    assert found == wanted
    assert {(part.topic, part.partition, part.chunk, part.next_offset) for part in parts} == {
        (world.topic, 0, 0, CHUNK)
    }


def test_explain_adds_the_parts_up_by_outcome_category_and_reason(world: World, orgstats: Run) -> None:
    """Below the parts stand subtotals that agree with the oracle; categories have their names."""
    cell = max(c for c in world.truth.quantity if c.reason == "bad-deploy" and c.key_id)
    hour = cell.bucket // 3600 * 3600
    wanted = Counter[tuple[str, str]]()
    for one, quantity in world.truth.quantity.items():
        same = (one.org_id, one.bucket // 3600 * 3600, one.outcome) == (cell.org_id, hour, cell.outcome)
        if same and one.category in STAT_CATEGORIES:
            wanted[CATEGORY_NAMES[one.category], one.reason] += quantity
    done = orgstats("explain", str(cell.org_id), "--stat", "blacklisted", "--bucket", str(hour), "--resolution", "1h")
    lines = [line.split() for line in done.stdout.split("\n\n")[1].splitlines()]
    assert lines[0] == ["outcome", "category", "reason", "events", "quantity"]
    found = {(category, reason): int(quantity.replace(",", "")) for _, category, reason, _, quantity in lines[1:]}
    assert found == dict(wanted)


def test_doctor_names_what_is_wrong_and_its_remedy(
    world: World, connections: Connections, ask: Any, orgstats: Run
) -> None:
    """Where only the consumers are missing, that is the one thing to act on; a missing topic is told too."""
    found = doctor.examine(connections)
    assert [one.what for one in found if one.level == "act"] == [
        f"group {connections.settings.group} has no members: nothing is counted"
    ]
    assert any("edition 0" in one.what for one in found)
    answer = orgstats("doctor", "--quiet", ORGSTATS_TOPIC="no-such-topic")
    assert answer.returncode == 1
    assert "topic no-such-topic does not exist" in answer.stdout
    assert "-> make it" in answer.stdout


def test_topics_named_like_a_counted_one_are_neighbours() -> None:
    """`outcomes-billing` beside `outcomes` is named, for some upstreams split theirs; other topics are not."""
    existing = ["outcomes", "outcomes-billing", "outcomes.dlq", "outcomesque", "events", "other", "other_2"]
    assert doctor.neighbours(("outcomes", "other"), existing) == ["other_2", "outcomes-billing", "outcomes.dlq"]


def test_doctor_speaks_of_servers_that_do_not_answer(connections: Connections) -> None:
    """A ClickHouse that is away is a finding among the others, not the end of the examination."""
    away = open_connections(
        connections.settings.model_copy(update={"clickhouse_url": "clickhouse://default:@127.0.0.1:1/x"})
    )
    found = doctor.examine(replace(connections, store=away.store))
    assert [one.level for one in found if "ClickHouse does not answer" in one.what] != []
    assert any(one.what.startswith("Kafka cluster") for one in found)


@pytest.mark.parametrize(
    ("way", "why", "told"),
    [
        ("messages", "", "one by one"),
        ("batches", "", "in batches"),
        ("batches", "no compiler", "one by one: no compiler"),
    ],
)
def test_doctor_says_how_records_are_read(
    connections: Connections, monkeypatch: pytest.MonkeyPatch, way: str, why: str, told: str
) -> None:
    """Compiled code that is wanted and does not work here is named with its cause."""
    monkeypatch.setattr(doctor, "why_not_batches", lambda: why)
    found = doctor.examine(replace(connections, settings=connections.settings.model_copy(update={"reading": way})))
    (speed,) = [one for one in found if "records are read" in one.what]
    assert told in speed.what
    assert speed.level == ("note" if why else "ok")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "60000", "retention.bytes": "-1"}, Retention(60_000, None)),
        ({"retention.ms": "-1", "retention.bytes": "10"}, Retention(None, 10)),
        ({"cleanup.policy": "compact", "retention.ms": "60000"}, Retention(None, None)),
    ],
)
def test_a_topic_keeps_records_by_time_or_size(settings: dict[str, str], expected: Retention) -> None:
    """-1 is no limit, and a compacted topic deletes by neither."""
    assert retention_of(settings) == expected


def test_retention_overtakes_at_the_earlier_of_its_limits() -> None:
    """By time the records at the position become too old; by size so many must come as stand before it."""
    now = time.time()
    assert retention_deadline(Retention(60_000, None), now - 10, now, 500, 5.0) == now + 50
    assert retention_deadline(Retention(600_000, 1), now - 10, now, 500, 50.0) == now + 10
    assert retention_deadline(Retention(None, 1), now, now, 500, 0.0) is None


def test_doctor_names_outcomes_without_a_name(connections: Connections, clickhouse_url: str) -> None:
    """Ids of the last day that only have a number are told with their topic, older and named ones are not."""
    own = open_connections(connections.settings.model_copy(update={"clickhouse_url": clickhouse_url}))

    def tell(client: Client) -> None:
        client.execute("INSERT INTO sources (source_id, topic) VALUES (1, 'events'), (2, 'others')")
        rows = "(1, now(), 9, 1), (1, now(), 200, 1), (1, now(), 0, 1), (2, now() - INTERVAL 2 DAY, 9, 1)"
        client.execute(f"INSERT INTO hourly (source_id, bucket, outcome, events) VALUES {rows}")

    own.store.run(tell)
    (found,) = [one for one in doctor.examine(own) if "without a name" in one.what]
    own.store.close()
    assert found.level == "note"
    assert found.what.startswith("topic events has outcomes without a name: 9, 200;")
