"""What is stored of a chunk is found whole, and without a look at what is stored of others."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from clickhouse_driver import Client

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.cells import (
    COUNTS,
    FAMILIES,
    HOURLY,
    TOTALS,
    CountKey,
    Family,
    HourKey,
    Stored,
    TotalKey,
)
from orgstats.consumer.counting.grid import CHUNK_LENGTH, Grid
from orgstats.consumer.counting.resume import Registration
from orgstats.consumer.counting.source import Source, version_of
from orgstats.consumer.ops.chunk_length import settle
from orgstats.consumer.ops.connections import store_of
from orgstats.consumer.store.chunk_lengths import State
from orgstats.consumer.store.chunks import chunk_end, chunk_of, entries, known_chunks, read_chunks, select
from orgstats.schemas.tables import ChunkLengthRow, insert

SOURCE = Source("events", "uuid", 0)
OTHER = Source("events", "uuid", 1)
DAY = 1_700_006_400
"""The start of one."""
CHUNKS = 1_000


@pytest.fixture
def client(clickhouse_url: str) -> Iterator[Client]:
    """The test's own database."""
    with connect(clickhouse_url, client_name="tests") as client:
        yield client


def test_of_each_cell_the_highest_version_is_read(client: Client) -> None:
    """Chunks are told apart, also those of other sources; a cell of every family is whole."""
    key, hour, total = CountKey(1, DAY + 10, 7, 3, 1, 9, "a"), HourKey(1, DAY, 7, 1, 9, "a"), TotalKey(1, 3600, DAY)
    late = key._replace(bucket=DAY - 40 * 86_400)
    chunk = (SOURCE.source_id, CHUNK_LENGTH)
    client.execute(insert("chunk_days"), [(*chunk, DAY), (*chunk, late.bucket), (OTHER.source_id, 0, DAY)])
    rows = [(*chunk, 5, 2, version_of(0, 900)), (*chunk, 3, 1, version_of(1, 100)), (OTHER.source_id, 0, 8, 8, 9)]
    client.execute(insert("counts"), [(*key, *row) for row in rows] + [(*late, *chunk, 1, 1, 5)])
    client.execute(insert("hourly"), [(*hour, *chunk, 2**64 - 1, 3, 7)])
    client.execute(insert("totals"), [(*total, *chunk, 1, 2, 3, 7)])
    found = read_chunks(client, SOURCE, Grid(), 0, 1 << 48)
    assert list(found) == [CHUNK_LENGTH]
    assert found[CHUNK_LENGTH].cells == {
        COUNTS: {key: Stored((3, 1), version_of(1, 100)), late: Stored((1, 1), 5)},
        HOURLY: {hour: Stored((2**64 - 1, 3), 7)},
        TOTALS: {total: Stored((1, 2, 3), 7)},
    }
    assert (found[CHUNK_LENGTH].revision, found[CHUNK_LENGTH].reached) == (1, 100)
    assert read_chunks(client, SOURCE, Grid(), 0, CHUNK_LENGTH) == {}
    assert list(read_chunks(client, OTHER, Grid(), 0, CHUNK_LENGTH)) == [0]


def test_chunks_in_sql_are_those_of_the_grid(client: Client) -> None:
    """First and last offset of the chunk of any offset, of sources with other lengths, and with several."""
    grids = {
        SOURCE.source_id: Grid(((0, CHUNK_LENGTH), (4 * CHUNK_LENGTH, 4 * CHUNK_LENGTH), (9 * CHUNK_LENGTH, 1 << 14))),
        OTHER.source_id: Grid(((0, 1 << 14),)),
    }
    for source_id, grid in grids.items():
        offsets = range(0, 12 * CHUNK_LENGTH, 4_999)
        found = client.execute(
            f"SELECT o, {chunk_of('s', 'o')}, {chunk_end('s', 'o')}"
            " FROM (SELECT toUInt64(%(source)s) AS s, number * 4999 AS o FROM numbers(%(many)s))",
            {"source": source_id, "many": len(offsets), **entries(grids)},
        )
        assert found == [(at, grid.chunk_of(at), grid.chunk_end(at)) for at in offsets]


def test_a_change_of_the_chunk_length_is_decided_or_taken_back_once(clickhouse_url: str) -> None:
    """Of a row that is written several times the last state holds, and one that is settled is not settled again."""
    store, now = store_of(clickhouse_url), datetime.now(UTC)
    store.register([(SOURCE, Registration(Grid(((0, 1 << 14),)), "read_committed"))], 0)
    ids = [SOURCE.source_id]
    assert store.grids(ids) == {SOURCE.source_id: Grid(((0, 1 << 14),))}
    rows = [ChunkLengthRow(ids[0], at << 14, f"entry{at}", 1 << 15, "me", now, 0) for at in (8, 16, 24)]
    for row in rows:
        store.insert("chunk_lengths", [[value] for value in row])
    assert store.grids(ids)[ids[0]] == Grid(((0, 1 << 14),), proposed=8 << 14)
    settle(store, rows[0], State.TAKEN_BACK)
    settle(store, rows[0], State.DECIDED)
    settle(store, rows[1], State.DECIDED)
    settle(store, rows[1], State.TAKEN_BACK)
    assert store.grids(ids)[ids[0]] == Grid(((0, 1 << 14), (16 << 14, 1 << 15)), proposed=24 << 14)
    assert [row.state for row in store.length_changes(ids)] == [State.TAKEN_BACK, State.DECIDED, State.PROPOSED]
    assert store.grids([]) == {}
    store.close()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.table)
def test_a_chunk_among_many_costs_few_granules(client: Client, family: Family) -> None:
    """Cells of a thousand chunks lie by organization and time; those of one chunk are a small share of the granules."""
    organizations, cells, step = (20, 100, 80) if family.key is not TotalKey else (40, 40, 80)
    client.execute(insert("chunk_days"), [(SOURCE.source_id, one * CHUNK_LENGTH, DAY) for one in range(CHUNKS)])
    counted = family.key is not TotalKey
    more = "0" if counted else f"modulo(number, {cells}) * 2"
    at = f"toDateTime({DAY} + intDiv(number, {organizations * cells}) * {step} + {more}, 'UTC')"
    named, others = ("project_id", f"modulo(number, {cells})") if counted else ("width", "10")
    client.execute(
        f"INSERT INTO {family.table} (org_id, bucket, {named}, source_id, chunk)"
        f" SELECT modulo(intDiv(number, {cells}), {organizations}), {at}, {others}, {SOURCE.source_id},"
        f" intDiv(number, {organizations * cells}) * {CHUNK_LENGTH} FROM numbers({organizations * cells * CHUNKS})"
    )
    client.execute(f"OPTIMIZE TABLE {family.table} FINAL")
    first = CHUNKS // 2 * CHUNK_LENGTH
    values = known_chunks(client, SOURCE, first, first + CHUNK_LENGTH)
    assert len(client.execute(select(family), values)) == organizations * cells
    plan = "\n".join(line for (line,) in client.execute(f"EXPLAIN indexes = 1 {select(family)}", values))
    *_, (read, of) = re.findall(r"Granules: (\d+)/(\d+)", plan)
    whole = max(int(granules) for _, granules in re.findall(r"Granules: (\d+)/(\d+)", plan))
    assert whole > 200
    assert int(read) / whole < 0.25, plan
    assert int(read) < int(of), "the index by_chunk leaves nothing out"
