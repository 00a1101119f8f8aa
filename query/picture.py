"""A series as a picture of characters, for terminals."""

from collections.abc import Sequence
from typing import Final

from orgstats.query.series import Point
from orgstats.times import format_time

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def picture(points: Sequence[Point], *, columns: int, rows: int = 10) -> str:
    """Columns of blocks with the highest count and the first and last time written beside them.

    When there are more points than columns, neighbours are summed, so a column is as high as all its events.
    """
    counts = [count for _, count in points]
    label_width = len(f"{sum(counts):,}") + 1
    heights = _summed(counts, max(10, columns - label_width))
    highest = max(heights)
    lines = []
    for row in range(rows, 0, -1):
        label = f"{highest:,}" if row == rows else "0" if row == 1 else ""
        cells = "".join(_EIGHTHS[_filled(height, highest, row, rows)] for height in heights)
        lines.append(f"{label:>{label_width - 1}} {cells}".rstrip())
    first, last = format_time(points[0][0]), format_time(points[-1][0])
    return "\n".join([*lines, f"{'':{label_width}}{first} … {last}"])


def _summed(counts: Sequence[int], columns: int) -> list[int]:
    """At most so many sums of equally many neighbours; the last may have fewer."""
    each = -(-len(counts) // columns)
    return [sum(counts[start : start + each]) for start in range(0, len(counts), each)]


def _filled(height: int, highest: int, row: int, rows: int) -> int:
    """Eighths of the cell in this row (1 is the lowest) that a column of this height fills.

    What is above 0 shows at least one eighth: a few events are not none.
    """
    eighths = max(bool(height), round(8 * rows * height / highest)) if highest else 0
    return min(8, max(0, eighths - 8 * (row - 1)))
