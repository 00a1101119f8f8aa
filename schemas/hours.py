"""Sums by hour, made of the cells as they are stored: for what no consumer sums while it counts.

Whoever counts a chunk writes its sums with its cells. Where the log is gone from which it could be counted again,
where cells were changed by a statement, and where they were stored before there were sums, these make them.
"""

from typing import Final

from orgstats.schemas.outcomes import STAT_CATEGORIES, STAT_OUTCOMES

_OUTCOMES: Final = STAT_OUTCOMES["received"]
_SUMMED: Final = tuple(outcome.name for outcome in _OUTCOMES)
_COLUMNS: Final = ", ".join(_SUMMED)
_OF_CELLS: Final = ", ".join(
    f"sumIf(toUInt128(quantity), outcome = {outcome:d}) AS n_{outcome.name}" for outcome in _OUTCOMES
)
_AS_STORED: Final = ", ".join(f"{name} AS n_{name}" for name in _SUMMED)
_SUMS: Final = ", ".join(f"sumIf(n_{name}, NOT stored) AS {name}" for name in _SUMMED)
_STORED: Final = ", ".join(f"sumIf(n_{name}, stored) AS stored_{name}" for name in _SUMMED)
_DIFFERS: Final = " OR ".join(f"{name} != stored_{name}" for name in _SUMMED)


UNSUMMED: Final = (
    "SELECT p.source_id, p.summed_from FROM (SELECT source_id, summed_from FROM progress FINAL) AS p"
    " LEFT JOIN (SELECT source_id, below FROM summed FINAL) AS s ON s.source_id = p.source_id"
    " WHERE p.summed_from > s.below ORDER BY p.source_id"
)
"""Sources of which cells may be stored without sums, and the offset from which on that cannot be."""


CLOSED: Final = (
    "SELECT p.source_id, intDiv(p.next_offset, s.chunk_length) * s.chunk_length"
    " FROM (SELECT source_id, next_offset FROM progress FINAL) AS p"
    " INNER JOIN (SELECT source_id, chunk_length FROM sources FINAL) AS s ON s.source_id = p.source_id"
)
"""Every source, and where its closed chunks end."""


def differing(where: str) -> str:
    """A SELECT of the hours whose stored sums are not those of their cells.

    Rows of (org_id, hour, source_id, chunk, sums of the cells, sums as stored, version). `where` chooses cells and
    hours alike, by `source_id`, `chunk` or the month of `bucket`. The version is the highest of all, which is the
    one that the consumer writes with the last of the cells; a row with it wins, as of equal ones the last does.
    """
    # PREWHERE is applied before FINAL: as good, since these are columns of the key, and most rows are never merged.
    return f"""
    SELECT org_id, hour, source_id, chunk, {_SUMS}, {_STORED}, max(reached) AS version
    FROM (
        SELECT org_id, toStartOfHour(bucket) AS hour, source_id, chunk, {_OF_CELLS},
               max(version) AS reached, 0 AS stored
        FROM counts FINAL PREWHERE {where} AND category IN {STAT_CATEGORIES} AND outcome IN {tuple(map(int, _OUTCOMES))}
        GROUP BY org_id, hour, source_id, chunk
        UNION ALL
        SELECT org_id, bucket AS hour, source_id, chunk, {_AS_STORED}, version AS reached, 1 AS stored
        FROM hour_counts FINAL PREWHERE {where}
    )
    GROUP BY org_id, hour, source_id, chunk
    HAVING {_DIFFERS}"""  # noqa: S608 - names of ours


def mend(where: str) -> str:
    """An INSERT of what `differing` finds; repeated, it finds nothing."""
    return f"""
    INSERT INTO hour_counts (org_id, bucket, source_id, chunk, {_COLUMNS}, version)
    SELECT org_id, hour, source_id, chunk, {_COLUMNS}, version FROM ({differing(where)})"""  # noqa: S608
