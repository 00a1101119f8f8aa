"""Made-up traffic: the same every time, of every kind, and all of it on the topic."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Event

import pytest

from orgstats.consumer.counting.decode import Undecodable, decode, event_second
from orgstats.deploy.generate import GenerateSettings, paced, send
from orgstats.deploy.traffic import (
    BROKEN,
    DOCUMENTED_POINTS,
    DOCUMENTED_SINCE,
    Mix,
    Record,
    day_and_night,
    documented_example,
    records,
)
from orgstats.errors import ConfigurationError, Unavailable
from tests.support import oracle, servers
from tests.support.wait import wait_for

DAY = 1_584_835_200  # 2020-03-22T00:00:00Z
FEW = Mix(organizations=50)


def a_day(count: int, seed: int = 1, mix: Mix = FEW) -> list[Record]:
    """Records of one day."""
    return list(records(seed, day_and_night(count, DAY, DAY + 86_400), mix))


def as_truth(made: list[Record]) -> oracle.Truth:
    """What they count as, on one partition."""
    return oracle.count(oracle.Record(0, offset, at, value) for offset, (_, value, at) in enumerate(made))


def test_a_seed_gives_the_same_records() -> None:
    """Twice the same with one seed, others with another."""
    assert a_day(3000) == a_day(3000)
    assert a_day(3000) != a_day(3000, seed=2)


def test_there_are_exactly_as_many_as_asked_for() -> None:
    """Odd numbers and short ranges lose none to rounding, and times never go back."""
    for count, length in ((1, 86_400), (4999, 86_400), (1000, 1), (7, 7_776_000)):
        times = [at for _, _, at in records(1, day_and_night(count, DAY, DAY + length), FEW)]
        assert len(times) == count
        assert times == sorted(times)
        assert DAY * 1000 <= times[0] <= times[-1] < (DAY + length) * 1000


def test_an_empty_range_is_refused() -> None:
    """A range that ends where it starts has no room for records."""
    with pytest.raises(ValueError, match="since must be before until"):
        day_and_night(1, DAY, DAY)


def test_days_are_busier_than_nights() -> None:
    """The hour from 16:00 UTC has three to five times the records of the hour from 04:00."""
    hours = Counter((at // 1000 - DAY) // 3600 for _, _, at in a_day(50_000))
    assert 3 < hours[16] / hours[4] < 5


def test_a_few_organizations_have_most_events() -> None:
    """The first of 50 has more than a fifth, the last less than a hundredth."""
    keys = Counter(key for key, _, _ in a_day(20_000))
    assert keys[b"1"] > 4000
    assert keys[b"50"] < 200


@pytest.mark.parametrize("code", BROKEN)
def test_each_broken_record_is_a_dead_letter_of_its_code(code: str) -> None:
    """The decoder refuses it for the reason that it was made for."""
    for value in BROKEN[code]:
        with pytest.raises(Undecodable) as refused:
            event_second(decode(value).timestamp)
        assert refused.value.code == code


def test_broken_records_come_in_every_kind_and_in_their_share() -> None:
    """One in twenty is broken when that is asked for, and each reason code is among them."""
    truth = as_truth(a_day(10_000, mix=Mix(organizations=50, broken=0.05)))
    assert 350 < len(truth.dead_letters) < 650
    assert {code for _, _, code in truth.dead_letters} == set(BROKEN)
    assert not as_truth(a_day(1000, mix=Mix(broken=0))).dead_letters


def test_traffic_has_every_outcome_and_some_events_out_of_time() -> None:
    """All seven outcomes, several categories, unclassified events, late ones, and some beyond the limits."""
    made = a_day(30_000)
    truth = as_truth(made)
    assert {cell.outcome for cell in truth.events} == set(range(7))
    assert {cell.category for cell in truth.events} >= {0, 1, 2, 3, 4, 5}
    assert sum(b"user_agent" in (value or b"") for _, value, _ in made) > 3000
    assert 0 < truth.at_kafka_time < 60
    assert any(cell.bucket < DAY - 10 for cell in truth.events)


def test_the_documented_example_counts_to_its_points() -> None:
    """172,100 events give the published 24 points, by a count that knows nothing of the generator."""
    truth = as_truth(list(documented_example(1, org_id=7)))
    until = DOCUMENTED_SINCE + 23 * 3600
    points = truth.series(7, "received", DOCUMENTED_SINCE, until, 3600)
    assert points == [(DOCUMENTED_SINCE + 3600 * hour, count) for hour, count in enumerate(DOCUMENTED_POINTS)]
    assert sum(truth.events.values()) == 172_100


def test_pacing_changes_no_slot() -> None:
    """Slots come out as they went in, and stop ends them."""
    slots = list(day_and_night(1000, DAY, DAY + 3600))
    assert list(paced(slots, 1_000_000, Event())) == slots
    stopped = Event()
    stopped.set()
    assert list(paced(slots, 1_000_000, stopped)) == []


def test_everything_sent_is_on_the_topic(kafka: servers.Kafka, topic: str) -> None:
    """Kafka holds each record with its value and time, also those of a megabyte."""
    settings = GenerateSettings.from_env({}, bootstrap_servers=kafka.bootstrap_servers, topic=(topic,))
    made = a_day(5000, mix=Mix(organizations=50, broken=0.01))
    summary = send(made, settings, stop=Event())
    assert (summary.sent, summary.failed) == (5000, 0)
    held = [(record.value, record.timestamp_ms) for record in oracle.read(kafka.bootstrap_servers, topic)]
    assert Counter((value or None, at) for value, at in held) == Counter((value or None, at) for _, value, at in made)


def test_a_missing_broker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker: Unavailable, not an endless wait."""
    monkeypatch.setattr("orgstats.consumer.kafka.admin.ANSWER_SECONDS", 1.0)
    settings = GenerateSettings.from_env({}, bootstrap_servers="127.0.0.1:1", topic=("t",))
    with pytest.raises(Unavailable, match="Kafka does not answer"):
        send([], settings, stop=Event())


def test_a_property_that_librdkafka_refuses_is_a_configuration_error() -> None:
    """Its name is in the text."""
    with pytest.raises(ConfigurationError, match=r"no\.such"):
        GenerateSettings.from_env({"ORGSTATS_KAFKA__NO_SUCH": "1"}, bootstrap_servers="x", topic=("t",))


def test_the_command_stops_on_sigterm_with_a_summary(kafka: servers.Kafka, topic: str) -> None:
    """An endless generate that is told to stop exits 0 and says in JSON what it sent."""
    environment = {**os.environ, "ORGSTATS_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "ORGSTATS_TOPIC": topic}
    argv = [str(Path(sys.executable).with_name("orgstats")), "generate", "--rate", "20000"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        wait_for(lambda: any(True for _ in oracle.read(kafka.bootstrap_servers, topic)), 30)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    summary = json.loads(out)
    assert summary["sent"] == sum(1 for _ in oracle.read(kafka.bootstrap_servers, topic))
