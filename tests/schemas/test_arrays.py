"""Columns that are arrays are stored as lists are, on the real engine; and the columns of cells are arrays."""

from array import array
from typing import Any

import pytest

from orgstats.clickhouse.arrays import CODES
from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.batch import COMPILED, BatchCounter
from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.partition import Partition
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.consumer.store.rows import cells
from orgstats.schemas.tables import columns
from tests.support.record import FakeRecord

WIDEST = {"B": 255, "H": 65_535, "I": 4_294_967_295, "Q": 18_446_744_073_709_551_615}


@pytest.mark.parametrize("block_rows", [1, 3, 4, 1_000_000])
def test_arrays_come_back_as_they_were(clickhouse_url: str, block_rows: int) -> None:
    """Of each type its least and its largest numbers, beside a column of texts, in blocks of any size."""
    given: list[Any] = [["a", "b", "a", "c"], *(array(code, [0, 1, WIDEST[code], 7]) for code in CODES.values())]
    types = ["LowCardinality(String)", *CODES]
    with connect(clickhouse_url, client_name="tests", insert_block_size=block_rows) as client:
        client.execute(f"CREATE TABLE arrays (n UInt8, {_named(types)}) ENGINE = Memory")
        assert client.execute("INSERT INTO arrays VALUES", [[0, 1, 2, 3], *given], columnar=True) == 4
        raw = ", ".join(f"toUnixTimestamp(c{n})" if "Date" in kind else f"c{n}" for n, kind in enumerate(types))
        assert client.execute(f"SELECT {raw} FROM arrays ORDER BY n") == list(zip(*given, strict=True))


def test_an_array_of_another_width_than_its_column_is_a_list(clickhouse_url: str) -> None:
    """Its numbers are stored, not its bytes."""
    with connect(clickhouse_url, client_name="tests") as client:
        client.execute(f"CREATE TABLE arrays ({_named(['UInt8', 'Float64', 'UInt64'])}) ENGINE = Memory")
        client.execute(
            "INSERT INTO arrays VALUES", [array("Q", [1, 2]), array("Q", [3, 4]), array("B", [5, 6])], columnar=True
        )
        assert client.execute("SELECT * FROM arrays") == [(1, 3.0, 5), (2, 4.0, 6)]


@pytest.mark.skipif(not COMPILED, reason="needs the compiled cells, which a C compiler makes at installation")
def test_cells_are_handed_out_as_their_tables_have_them() -> None:
    """Of several chunks; a list would be stored as well, but slower."""
    start = Resume(0, 0)
    partition = Partition(Source("t", "u", 0), start, BatchCounter(AgeLimits(), RuleHistory()), lambda _: Attempt(0))
    body = b'{"timestamp":"2023-11-14T22:13:20.000Z","org_id":1,"outcome":0}'
    length = start.grid.length_at(0)
    partition.count([FakeRecord(at, body, 1_700_000_000_000, None) for at in (0, length, 2 * length)])
    changes = partition.take(seldom=True)
    assert len(changes.chunks) == 3
    for family in FAMILIES:
        declared = columns(family.table)
        for name, column in zip(declared, cells(family, [changes]), strict=True):
            if name == "reason":
                assert isinstance(column, list)
            else:
                assert isinstance(column, array), name
                assert column.typecode == CODES[declared[name]], name


def _named(types: list[str]) -> str:
    return ", ".join(f"c{n} {kind}" for n, kind in enumerate(types))
