"""Sums by hour are made of the stored cells, whatever of them was lost, is older, or should not be there."""

import random
from typing import Any

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.chunk import CellKey, HourKey, hour_sums
from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.completeness import SourceState, counted_state
from orgstats.query.stats import organization_stats
from orgstats.schemas import hours
from orgstats.schemas.backfill import sum_by_hour
from orgstats.schemas.tables import insert

START = 1_699_999_200


def test_sums_are_made_of_the_cells_that_win(clickhouse_url: str) -> None:
    """Absent, wrong and newer sums become those of each cell's highest version, and only where they differ."""
    dice = random.Random(3)
    rows = [_row(dice, version) for version in (5, 9) for _ in range(400)]
    cells = {(row[5:7], CellKey(*row[:5])): row[7] for row in rows}
    wanted: dict[Any, Any] = {}
    for tp in {tp for tp, _ in cells}:
        sums = hour_sums((key, quantity) for (of, key), quantity in cells.items() if of == tp)
        wanted |= {(hour.org_id, hour.bucket, *tp): tuple(found) for hour, found in sums.items() if any(found)}
    stored = [(*HourKey(2, START), 1, 0, 1, 0, 0, 99), (*HourKey(7, START), 1, 0, 1, 0, 0, 1)]
    with connect(clickhouse_url, client_name="tests") as client:
        client.execute(insert("counts"), rows)
        client.execute(insert("hour_counts"), stored)
        client.execute(hours.mend("source_id = %(source)s AND chunk >= 0"), {"source": 1})
        assert {row[2] for row in client.execute(hours.differing("1"))} == {2}
        client.execute(hours.mend("1"))
        assert client.execute(hours.differing("1")) == []
        found = client.execute(
            "SELECT org_id, toUnixTimestamp(bucket), source_id, chunk, accepted, filtered, rate_limited, version"
            " FROM hour_counts FINAL"
        )
    assert {row[:4]: row[4:7] for row in found if any(row[4:7])} == wanted
    assert {row[7] for row in found if row[:4] == (2, START, 1, 0)} == {99}
    assert {row[7] for row in found if row[0] < 2} <= {5, 9}


def _row(dice: random.Random, version: int) -> tuple[Any, ...]:
    """A cell of few organizations, hours, sources and chunks, with quantities up to the largest."""
    bucket = START + dice.randrange(0, 7_200, 1_200)
    tp = (dice.randint(1, 2), dice.choice((0, 131_072)))
    quantity = dice.choice((0, 1, 7, 2**64 - 1))
    return (dice.randint(0, 2), bucket, dice.randint(0, 3), dice.randint(0, 3), "", *tp, quantity, 1, version)


def test_counts_from_before_there_were_sums_are_summed_once(clickhouse_url: str) -> None:
    """What an older consumer has stored, and stores meanwhile, is read from its cells until all of it is summed."""
    with connect(clickhouse_url, client_name="tests") as client, Database(clickhouse_url, size=1) as database:
        client.execute("INSERT INTO sources (source_id, topic, chunk_length) VALUES (7, 'outcomes', 131072)")

        def shown() -> tuple[list[tuple[int, int]], bool]:
            state = counted_state(SourceState(*row) for row in database.read(sql.sources()))
            return organization_stats(database, 1, since=START, until=START, resolution="1h"), state.summed

        for times in (1, 2):
            first = 131_072 * times
            client.execute(insert("counts"), [(1, START, 1, 0, "", 7, first, 5, 5, first + 9)])
            client.execute("INSERT INTO progress (source_id, next_offset, version) VALUES", [(7, first + 9, first + 9)])
            assert shown() == ([(START, 5 * times)], False)
            assert list(sum_by_hour(clickhouse_url)) == ["sums by hour of 2023-11 (1 of 1)"]
            assert shown() == ([(START, 5 * times)], True)
            assert list(sum_by_hour(clickhouse_url)) == []
        client.execute("TRUNCATE TABLE hour_counts")
        assert shown() == ([(START, 0)], True)
        assert list(sum_by_hour(clickhouse_url, again=True)) == ["sums by hour of 2023-11 (1 of 1)"]
        client.execute("TRUNCATE TABLE counts")
        assert shown() == ([(START, 5)], True), "the open chunk is the consumer's"
