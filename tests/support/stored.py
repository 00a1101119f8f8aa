"""What the store holds, in the oracle's words, and the comparison of every cell with it."""

from collections.abc import Mapping
from typing import Any

from orgstats.clickhouse.connect import connect
from tests.support.oracle import Cell, Total, Truth


def counts(url: str, table: str = "counts") -> dict[Cell, tuple[int, int]]:
    """(quantity, events) of each cell of `counts` or `hourly` that is not zero, summed over chunks as a reader sees it.

    In 128 bits, as a sum of UInt64 wraps around.
    """
    key = "key_id" if table == "counts" else "0"
    rows = _ask(
        url,
        f"SELECT org_id, toUnixTimestamp(bucket) AS b, project_id, {key} AS k, category, outcome AS o,"
        " toString(reason) AS r, sum(toUInt128(quantity)), sum(toUInt128(events)) AS e"
        f" FROM {table} FINAL GROUP BY org_id, b, project_id, k, category, o, r HAVING e > 0",
    )
    return {Cell(*row[:7]): (row[7], row[8]) for row in rows}


def hourly(url: str) -> dict[Cell, tuple[int, int]]:
    """The same of `hourly`."""
    return counts(url, "hourly")


def totals(url: str) -> dict[Total, tuple[int, int, int]]:
    """(accepted, filtered, rate limited) of each cell of `totals` that is not zero."""
    rows = _ask(
        url,
        "SELECT org_id, width, toUnixTimestamp(bucket) AS b,"
        " sum(toUInt128(accepted)) AS a, sum(toUInt128(filtered)) AS f, sum(toUInt128(rate_limited)) AS r"
        " FROM totals FINAL GROUP BY org_id, width, b HAVING a + f + r > 0",
    )
    return {Total(*row[:3]): row[3:] for row in rows}


def dead_letters(url: str) -> list[tuple[int, int, str]]:
    """(partition, offset, reason code), sorted, one entry for each row."""
    return sorted(_ask(url, "SELECT partition, offset, toString(reason) FROM dead_letters FINAL WHERE NOT withdrawn"))


def gaps(url: str) -> list[tuple[int, int, int]]:
    """(partition, from, to) of every listed gap, sorted."""
    return _ask(
        url,
        "SELECT partition, from_offset, to_offset FROM gaps FINAL"
        " JOIN (SELECT source_id, partition FROM sources FINAL) AS s USING source_id ORDER BY partition, from_offset",
    )


def progress(url: str) -> dict[int, int]:
    """Up to where every table is written, by partition, of a store with one topic."""
    return dict(
        _ask(
            url,
            "SELECT partition, least(next_offset, hourly_offset) FROM progress FINAL"
            " JOIN (SELECT source_id, partition FROM sources FINAL) AS s USING source_id",
        )
    )


def differences(url: str, truth: Truth) -> dict[str, Mapping[Any, Any]]:
    """Every cell of the three tables, and dead letters, in which the store differs from the truth, by table."""
    found_dead, wanted_dead = dead_letters(url), sorted(truth.dead_letters)
    return {
        table: wrong
        for table, wrong in (
            ("counts", differing(counts(url), truth.counts())),
            ("hourly", differing(hourly(url), truth.hourly())),
            ("totals", differing(totals(url), truth.totals())),
            ("dead_letters", {"stored": found_dead, "wanted": wanted_dead} if found_dead != wanted_dead else {}),
        )
        if wrong
    }


def differing(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> dict[Any, Any]:
    """What is stored and what should be, of each key where these are not the same."""
    return {
        key: {"stored": found.get(key), "wanted": wanted.get(key)}
        for key in found.keys() | wanted.keys()
        if found.get(key) != wanted.get(key)
    }


def _ask(url: str, sql: str) -> list[Any]:
    client = connect(url, client_name="tests")
    try:
        return list(client.execute(sql))
    finally:
        client.disconnect()
