"""The rows that the benchmark queries are those that the consumer would have written for the same events."""

import json
from typing import Any

import pytest
from clickhouse_driver import Client

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.grid import CHUNK_LENGTH
from orgstats.consumer.counting.partition import Partition, PartitionChanges
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.store import rows
from orgstats.schemas.tables import columns
from tests.bench.query import fill, traffic
from tests.support.record import FakeRecord

SECONDS = 12
RATE = CHUNK_LENGTH // 10
"""Events a second: the one partition goes into its second chunk."""


@pytest.fixture
def client(clickhouse_url: str) -> Client:
    with connect(clickhouse_url, client_name="test") as client:
        for statement in traffic.TABLES:
            client.execute(statement)
        yield client


def counted(client: Client, one: traffic.Partition) -> list[PartitionChanges]:
    """What the consumer stores of the partition's events when it flushes once a second."""
    partition = Partition(one.source, Resume(0, 0), BatchCounter(AgeLimits(), RuleHistory()), lambda _: Attempt(0))
    flushes = []
    for second in range(SECONDS):
        events = client.execute(one.events(second * one.rate, (second + 1) * one.rate) + " ORDER BY offset")
        partition.count([_record(one, *event) for event in events])
        flushes.append(partition.take())
        partition.stored(flushes[-1])
    return flushes


def _record(one: traffic.Partition, offset: int, template: int, second: int) -> FakeRecord:
    event = one.templates[template]._asdict() | {"timestamp": second}
    return FakeRecord(offset, json.dumps(event).encode(), (traffic.BEGIN + offset // one.rate) * 1000)


def stored(client: Client, table: str) -> list[tuple[Any, ...]]:
    """Every row of a table, also those that a higher version beats."""
    names = ", ".join(_AS_NUMBERS.get(name, name) for name in columns(table))
    return sorted(client.execute(f"SELECT {names} FROM {table}"))


_AS_NUMBERS = {"bucket": "toUnixTimestamp(bucket)", "reason": "toString(reason)"}


def test_the_rows_are_the_consumers(client: Client) -> None:
    """Written second by second each row is the consumer's; written together each is what a merge leaves of them."""
    (one,) = traffic.partitions(1, RATE)
    traffic.load_templates(client, [one])
    flushes = counted(client, one)
    written = {family.table: _rows(rows.cells(family, flushes)) for family in FAMILIES}
    assert {row[8] for row in written["counts"]} == {0, CHUNK_LENGTH}, "two chunks"
    assert any(row[1] < traffic.BEGIN for row in written["counts"]), "late events"

    for table in written:
        client.execute(f"SYSTEM STOP MERGES {table}")  # not of all: other databases of this server are used again
    for second in range(SECONDS):
        fill.write_counts(client, [one], second, second + 1)
    assert {table: stored(client, table) for table in written} == written

    for table in written:
        client.execute(f"TRUNCATE TABLE {table}")
    fill.write_counts(client, [one], 0, SECONDS)
    assert {table: stored(client, table) for table in written} == {
        table: _highest_versions(found, {"counts": 9, "hourly": 8, "totals": 5}[table])
        for table, found in written.items()
    }


def _rows(columns: rows.Columns) -> list[tuple[Any, ...]]:
    return sorted(zip(*columns, strict=True))


def _highest_versions(found: list[tuple[Any, ...]], key: int) -> list[tuple[Any, ...]]:
    """Of the rows of each cell, whose key are the first so many columns, the last one."""
    return sorted({row[:key]: row for row in sorted(found, key=lambda row: row[-1])}.values())
