"""What the store holds, in the oracle's words, and the comparison of every cell with it."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from orgstats.clickhouse.connect import connect
from tests.support.oracle import SHOWN_CATEGORIES, SUMMED_OUTCOMES, Cell, ProjectCell, Truth


def counts(url: str) -> dict[Cell, tuple[int, int]]:
    """(quantity, events) of each cell that is not zero, summed over chunks as a reader sees it."""
    rows = _ask(
        url,
        "SELECT org_id, toUnixTimestamp(bucket) AS b, category, outcome AS o, toString(reason) AS r,"
        " sum(quantity), sum(events) AS e FROM counts FINAL GROUP BY org_id, b, category, o, r HAVING e > 0",
    )
    return {Cell(*row[:5]): (row[5], row[6]) for row in rows}


def project_counts(url: str) -> dict[ProjectCell, int]:
    """Quantity of each project's cell that is not zero."""
    rows = _ask(
        url,
        "SELECT org_id, project_id, toUnixTimestamp(bucket) AS b, category, outcome AS o, sum(quantity) AS q"
        " FROM project_counts FINAL GROUP BY org_id, project_id, b, category, o HAVING q > 0",
    )
    return {ProjectCell(*row[:5]): row[5] for row in rows}


def hour_counts(url: str) -> dict[tuple[int, int], tuple[int, int, int]]:
    """(accepted, filtered, rate limited) of each organization and hour that has any."""
    rows = _ask(
        url,
        "SELECT org_id, toUnixTimestamp(bucket) AS b, sum(accepted) AS a, sum(filtered) AS f, sum(rate_limited) AS r"
        " FROM hour_counts FINAL GROUP BY org_id, b HAVING a + f + r > 0",
    )
    return {row[:2]: row[2:] for row in rows}


def by_hour(quantities: Mapping[Cell, int]) -> dict[tuple[int, int], tuple[int, int, int]]:
    """What `hour_counts` must hold for these cells."""
    sums: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for cell, quantity in quantities.items():
        if cell.category in SHOWN_CATEGORIES and cell.outcome in SUMMED_OUTCOMES["received"]:
            sums[cell.org_id, cell.bucket // 3600 * 3600][cell.outcome] += quantity
    return {hour: (a, f, r) for hour, (a, f, r) in sums.items() if a + f + r}


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
    """Next offset by partition, of a store with one topic."""
    return dict(
        _ask(
            url,
            "SELECT partition, next_offset FROM progress FINAL"
            " JOIN (SELECT source_id, partition FROM sources FINAL) AS s USING source_id",
        )
    )


def differences(url: str, truth: Truth) -> dict[str, Mapping[Any, Any]]:
    """Every cell, project cell, hour and dead letter in which the store differs from the truth, by table."""
    wanted = {cell: (truth.quantity[cell], events) for cell, events in truth.events.items()}
    wanted_projects = {cell: quantity for cell, quantity in truth.project_quantity.items() if quantity}
    found_dead, wanted_dead = dead_letters(url), sorted(truth.dead_letters)
    return {
        table: wrong
        for table, wrong in (
            ("counts", _differing(counts(url), wanted)),
            ("project_counts", _differing(project_counts(url), wanted_projects)),
            ("hour_counts", _differing(hour_counts(url), by_hour(truth.quantity))),
            ("dead_letters", {"stored": found_dead, "wanted": wanted_dead} if found_dead != wanted_dead else {}),
        )
        if wrong
    }


def _differing(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> dict[Any, Any]:
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
