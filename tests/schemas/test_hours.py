"""Sums by hour are made of the stored cells, whatever of them was lost, is older, or should not be there."""

import random
from typing import Any

from consumer.segment import CellKey, HourKey, hour_sums
from schemas import hours
from schemas.connect import connect
from schemas.tables import insert

START = 1_699_999_200


def test_sums_are_made_of_the_cells_that_win(clickhouse_url: str) -> None:
    """Absent, wrong and newer sums become those of each cell's highest version, and only where they differ."""
    dice = random.Random(3)
    rows = [_row(dice, version) for version in (5, 9) for _ in range(400)]
    cells = {(row[5:7], CellKey(*row[:5])): row[7] for row in rows}
    wanted: dict[Any, Any] = {}
    for place in {place for place, _ in cells}:
        sums = hour_sums((key, quantity) for (of, key), quantity in cells.items() if of == place)
        wanted |= {(hour.org_id, hour.bucket, *place): tuple(found) for hour, found in sums.items() if any(found)}
    stored = [(*HourKey(2, START), 1, 0, 1, 0, 0, 99), (*HourKey(7, START), 1, 0, 1, 0, 0, 1)]
    with connect(clickhouse_url, client_name="tests") as client:
        client.execute(insert("counts"), rows)
        client.execute(insert("hour_counts"), stored)
        client.execute(hours.mend("source_id = %(source)s AND segment >= 0"), {"source": 1})
        assert {row[2] for row in client.execute(hours.differing("1"))} == {2}
        client.execute(hours.mend("1"))
        assert client.execute(hours.differing("1")) == []
        found = client.execute(
            "SELECT org_id, toUnixTimestamp(bucket), source_id, segment, accepted, filtered, rate_limited, version"
            " FROM hour_counts FINAL"
        )
    assert {row[:4]: row[4:7] for row in found if any(row[4:7])} == wanted
    assert {row[7] for row in found if row[:4] == (2, START, 1, 0)} == {99}
    assert {row[7] for row in found if row[0] < 2} <= {5, 9}


def _row(dice: random.Random, version: int) -> tuple[Any, ...]:
    """A cell of few organizations, hours, sources and segments, with quantities up to the largest."""
    bucket = START + dice.randrange(0, 7_200, 1_200)
    place = (dice.randint(1, 2), dice.choice((0, 131_072)))
    quantity = dice.choice((0, 1, 7, 2**64 - 1))
    return (dice.randint(0, 2), bucket, dice.randint(0, 3), dice.randint(0, 3), "", *place, quantity, 1, version)
