"""`python -m tests.bench [ingest|query] [--quick]`: measures, and prints the main ratios, one `name value` a line."""

import argparse

from tests.bench import query
from tests.bench.ingest import run as ingest

PARTS = {"ingest": ingest.run, "query": query.run}


def main() -> None:
    """Run what was asked for; everything when nothing was."""
    parser = argparse.ArgumentParser(description="Speed, as ratios of one run.")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure; everything by default")
    parser.add_argument("--quick", action="store_true", help="the main ratios within three minutes; no page is written")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        for ratio, value in PARTS[name](quick=options.quick).items():
            print(f"{ratio} {value:.3g}", flush=True)


if __name__ == "__main__":
    main()
