"""`python -m tests.bench.query --data DIR`: the same measurement, with filled tables that are kept."""

import argparse
from pathlib import Path

from tests.bench.query import run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="small sizes, and no page")
parser.add_argument("--data", type=Path, help="keep the engine's data here, for another run: it finds less unmerged")
options = parser.parse_args()
for name, value in run(quick=options.quick, data=options.data).items():
    print(f"{name} {value:.3g}")
