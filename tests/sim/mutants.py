"""`python -m tests.sim.mutants`: takes one guard after the other out of the product; the simulation has to notice.

Each runs in a process of its own, which compiles the module with the change; nothing is written. A mutant that no
history notices is a fault of the simulation: exit 1.
"""

import argparse
import importlib.abc
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from tests.sim.mutant_list import MUTANTS, Mutant
from tests.sim.mutants_of_erasing import OF_ERASING
from tests.sim.mutants_of_operators import OF_OPERATORS

EVERY = (*MUTANTS, *OF_OPERATORS, *OF_ERASING)
ROOT = Path(__file__).parents[2]


class _Loader(SourceFileLoader):
    """Compiles a module with a change."""

    def __init__(self, mutant: Mutant, path: str) -> None:
        super().__init__(f"orgstats.consumer.{mutant.module}", path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.get_filename(fullname)).read_text()
        return compile(changed(source, self._mutant), self.get_filename(fullname), "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that is changed."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != f"orgstats.consumer.{self._mutant.module}":
            return None
        path = str(path_of(self._mutant))
        return importlib.util.spec_from_file_location(fullname, path, loader=_Loader(self._mutant, path))


def path_of(mutant: Mutant) -> Path:
    """The file that it changes."""
    return ROOT / "consumer" / f"{mutant.module.replace('.', '/')}.py"


def changed(source: str, mutant: Mutant) -> str:
    """The module's source with the change. Raises ValueError where that does not stand there once."""
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.old!r} stands {source.count(mutant.old)} times in {mutant.module}")
    return source.replace(mutant.old, mutant.new)


def caught(mutant: Mutant, most: int) -> tuple[str, int]:
    """(the invariant that did not hold, or none; after how many histories, 0 where a script told), in this process."""
    sys.meta_path.insert(0, _Finder(mutant))
    from tests.sim.plan import draw
    from tests.sim.play import play
    from tests.sim.quiet_logs import be_quiet
    from tests.sim.scripts import every

    be_quiet()
    for name, script in every().items():  # they take less than a second together
        if invariant := play(script).invariant:
            return f"{invariant} ({name})", 0
    for seed in range(most):
        if invariant := play(draw(seed)).invariant:
            return invariant, seed + 1
    return "", most


def main() -> int:
    """Exit 1 when one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("--histories", type=int, default=1500, help="most of each mutant")
    parser.add_argument("--only", default="", help="those with this in their name")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(caught(next(m for m in EVERY if m.name == options.one), options.histories)))
        return 0
    survived = []
    for mutant in EVERY:
        if options.only not in mutant.name:
            continue
        changed(path_of(mutant).read_text(), mutant)
        command = [sys.executable, "-m", "tests.sim.mutants", "--one", mutant.name]
        ran = subprocess.run(
            [*command, "--histories", str(options.histories)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        invariant, histories = json.loads(ran.stdout.splitlines()[-1]) if not ran.returncode else ("it crashes", 1)
        if not invariant:
            survived.append(mutant.name)
        print(f"{mutant.name:70} {invariant or 'SURVIVED':60} {histories:5}", flush=True)
    print(f"{len(EVERY)} mutants, {len(survived)} survived")
    return int(bool(survived))


if __name__ == "__main__":
    sys.exit(main())
