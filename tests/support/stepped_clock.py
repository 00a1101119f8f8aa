"""A wall clock for child processes that a test sets back and forth; see stepped_clock.c."""

import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")


class SteppedClock:
    """The clock of every process that is started with `env`; it runs with the kernel's until it is stepped."""

    def __init__(self, directory: Path) -> None:
        self._offset, library = directory / "clock_offset", directory / "stepped_clock.so"
        self._offset.write_bytes(struct.pack("=q", 0))
        compile_it = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
        subprocess.run(compile_it, check=True)
        self.env: Mapping[str, str] = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._offset)}

    def step_to(self, seconds: int) -> None:
        """Set it this far ahead of the kernel's, at once, for processes that run and those that are started."""
        with self._offset.open("r+b") as offset:  # in place: they have mapped the file
            os.pwrite(offset.fileno(), struct.pack("=q", seconds * 1_000_000_000), 0)


def missing() -> str | None:
    """What a stepped clock lacks here; None when there is all."""
    if not sys.platform.startswith("linux"):
        return "only Linux preloads libraries as this one is written"
    return None if which("cc") else "no C compiler"
