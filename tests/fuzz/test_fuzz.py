"""The fast code and the slow reference give the same classification on every record, however odd.

ORGSTATS_FUZZ_RECORDS=1000000 is the long run, some minutes; ORGSTATS_FUZZ_SEED makes it another one.
"""

import os
import random
from collections import Counter
from typing import Any

import pytest
from confluent_kafka import Message

from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cell_table import Cells
from orgstats.consumer.counting.chunk import Chunk
from orgstats.consumer.counting.decode import Undecodable, bucket_of, decode, event_second
from tests.fuzz import reference
from tests.fuzz.guided import ERASED, LIMITS, PLAIN_RULES, RULES
from tests.fuzz.records import LEAP, NOW, Record, plain, records
from tests.fuzz.reference import Classification
from tests.support import oracle

COUNT = int(os.environ.get("ORGSTATS_FUZZ_RECORDS", "20000"))
SEED = int(os.environ.get("ORGSTATS_FUZZ_SEED", "1"))
pytestmark = pytest.mark.timeout(300 + COUNT // 200)


def fast(record: Record) -> Classification | str:
    """The classification of the code that counts."""
    try:
        event = decode(record.value)
        second = event_second(event.timestamp)
    except Undecodable as dead:
        return dead.code.value
    bucket, moved = bucket_of(second, record.kafka_ms, LIMITS)
    outcome, reason = RULES.classify(event, record.kafka_ms)
    ids = (event.org_id, event.project_id, event.key_id, event.category, event.quantity)
    return Classification(*ids, bucket, moved, outcome, reason)


def slow(record: Record) -> Classification | str:
    """The classification of the reference."""
    return reference.classification(record.value, record.kafka_ms, *LIMITS, PLAIN_RULES)


def test_the_code_agrees_with_the_reference() -> None:
    """Same fields, bucket and outcome, or same reason code, and never another exception."""
    seen: Counter[str] = Counter()
    for record in records(SEED, COUNT):
        expected = slow(record)
        assert fast(record) == expected, (record.value or b"")[:3000]
        seen[expected if isinstance(expected, str) else "event"] += 1
    wanted = {"not_json", "not_an_object", "timestamp_missing", "timestamp_invalid", "outcome_invalid", "field_invalid"}
    assert seen.keys() >= {"event", "empty", *wanted}, "the records no longer reach every code"
    assert seen["event"] > COUNT / 4


def test_the_oracle_agrees_too() -> None:
    """The program that end-to-end tests compare counts with reads every record as the contract says."""
    for record in records(SEED + 2, COUNT // 4):
        try:
            told: tuple[int, object] | str = oracle.parse(record.value)[1], oracle.parse(record.value)[0]["org_id"]
        except oracle.Dead as dead:
            told = str(dead)
        expected = slow(record)
        if isinstance(expected, Classification):
            assert isinstance(told, tuple)
            assert (reference.bucket_of(told[0], record.kafka_ms, *LIMITS)[0], told[1]) == (
                expected.bucket,
                expected.org_id,
            )
        else:
            assert told == expected, (record.value or b"")[:3000]


@pytest.mark.parametrize("oddity", [0.0, 0.01, 0.2])
def test_batches_agree_with_the_reference(oddity: float) -> None:
    """Counted as a batch, records give the tallies, dead letters and cells that each gives on its own."""
    rng = random.Random(SEED)
    odd = records(SEED + 1, COUNT)
    counter = BatchCounter(LIMITS, RULES)
    chunk, plain_chunk = Chunk(0, erased=ERASED), Chunk(0, erased=ERASED, table=Cells())
    for number in range(COUNT // 300):  # a hundred records each, in three runs of this test
        if number % 50 == 0:
            chunk, plain_chunk = Chunk(0, erased=ERASED), Chunk(0, erased=ERASED, table=Cells())
        now = rng.choice([NOW, NOW, NOW, LEAP, 0, 3600, 2**32 - 30, 2**32, -40])
        batch = [next(odd) if rng.random() < oddity else plain(rng, now) for _ in range(rng.randrange(1, 200))]
        pending = counter.pending()
        run: list[Any] = [
            Message(value=record.value, timestamp=(1, record.kafka_ms), offset=at) for at, record in enumerate(batch)
        ]
        counted = counter.count(run, pending)
        events_of = counter.fold(pending)
        plain_chunk.add(events_of)
        counter.count(run, pending)
        counter.fold_into(chunk, pending)
        seldom = rng.random() < 0.3
        cells, plain_cells = (one.take(seldom=seldom).rows for one in (chunk, plain_chunk))
        assert {f: dict(rows) for f, rows in cells.items()} == {f: dict(rows) for f, rows in plain_cells.items()}
        tallies: Counter[tuple[object, ...]] = Counter()
        for kept, count in events_of:
            tallies[(*kept[:6], (kept.reason or "")[:64], kept.quantity)] += count
        classifications = [slow(record) for record in batch]
        events = [found for found in classifications if isinstance(found, Classification)]
        assert tallies == Counter(map(reference.tally, events))
        assert counted.out_of_bounds == sum(found.moved for found in events)
        refused = [(refusal.at, str(refusal.code)) for refusal in counted.refusals]
        assert refused == [(at, found) for at, found in enumerate(classifications) if isinstance(found, str)]
