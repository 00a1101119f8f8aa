"""Puts what the benchmarks measured into docs/performance.md, with machine, versions and command beside it."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from orgstats.deploy.local import apache_kafka

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "performance.md"


class Spread(NamedTuple):
    """Smallest, middle and largest of several measurements of one thing, in its own unit."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        found = sorted(values)
        return cls(found[0], median(found), found[-1])

    def text(self, digits: int = 0) -> str:
        """As it stands in a table: the middle, and in brackets the ends."""
        return f"{self.middle:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def write_section(name: str, markdown: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`; ValueError when the page has no such place."""
    text = PAGE.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if place.search(text) is None:
        raise ValueError(f"{PAGE.name} has no place <!-- {name} --> … <!-- /{name} -->")
    filled = place.sub(lambda match: f"{match[1]}{markdown.rstrip()}\n{match[2]}", text)
    PAGE.write_text(filled, encoding="utf-8")


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first to the right."""
    rule = ["---", *["---:"] * (len(names) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (names, rule, *rows))


def machine() -> str:
    """One sentence: processor, cores, memory and the versions of everything that takes part."""
    return (
        f"{os.cpu_count()} cores of {_processor()}, {_memory_gib()} GiB; Python {platform.python_version()}, "
        f"confluent-kafka {version('confluent-kafka')}, msgspec {version('msgspec')}, Apache Kafka "
        f"{apache_kafka.VERSION}, ClickHouse's engine {version('chdb-core')} (chDB). Broker, engine and programs share "
        "the cores."
    )


def _processor() -> str:
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return names[0] if names else platform.machine()


def _memory_gib() -> int:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def bar_chart(path: Path, title: str, unit: str, rows: Sequence[tuple[str, Spread]]) -> None:
    """A picture of horizontal bars, the middle as the bar and the ends as its whiskers; SVG by the path's name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    middles = [spread.middle for _, spread in rows]
    ends = [[s.middle - s.low for _, s in rows], [s.high - s.middle for _, s in rows]]
    bars = axes.barh([name for name, _ in rows], middles, xerr=ends, color="#3b6ea8", ecolor="#888888")
    axes.bar_label(bars, labels=[f"{middle:,.0f}" for middle in middles], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title=title, xlabel=unit)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
