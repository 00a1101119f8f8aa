"""`python -m tests.bench [ingest|query] [--quick]`: measures, and prints the main ratios, one `name value` a line."""

from enum import StrEnum
from typing import Annotated

import typer

from tests.bench import query
from tests.bench.ingest import run as ingest


class Part(StrEnum):
    """What can be measured by itself."""

    ingest = "ingest"
    query = "query"


def main(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure [default: everything].")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the main ratios, in five minutes; no page.")] = False,
) -> None:
    """Measure speed as ratios of one run; without --quick, write docs/performance.md too."""
    runs = {Part.ingest: ingest.run, Part.query: query.run}
    for part in parts or Part:
        for ratio, value in runs[part](quick=quick).items():
            typer.echo(f"{ratio} {value:.3g}")


if __name__ == "__main__":
    typer.run(main)
