"""`make fuzz FUZZ_MINUTES=10`: libFuzzer looks for records on which the compiled core and the reference differ.

It is guided by the branches of the core, which is built with clang's sanitizers for addresses and coverage. What
reaches new branches is kept in `corpus.txt`, a line of base64 an input, and played again by `test_corpus.py` without
any of that.
"""

import argparse
import base64
import os
import random
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Final

from msgspec.structs import fields

from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cell_table import Cells
from orgstats.consumer.counting.chunk import Chunk
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.rule_history import RuleHistory, RulesEntry
from orgstats.consumer.counting.rules import parse
from orgstats.schemas.event import Event
from tests.fuzz import reference
from tests.fuzz.records import HISTORY, LEAP, NOW, plain, records
from tests.fuzz.reference import Classification
from tests.support.record import FakeRecord

CORPUS: Final = Path(__file__).parent / "corpus.txt"
SEPARATOR: Final = b"\x1e"
LIMITS: Final = AgeLimits(max_age_seconds=3600, max_ahead_seconds=60)
ERASED: Final = frozenset((2, 7))
RULES: Final = RuleHistory(RulesEntry(start, number, parse(text)) for number, (start, text) in enumerate(HISTORY))
PLAIN_RULES: Final[list[Any]] = [(start, tomllib.loads(text)["rule"]) for start, text in HISTORY]
_MOMENTS: Final = (NOW + 60, NOW + 60, NOW + 60, NOW + 3_600, NOW - 3_700, LEAP, 0, 2**32 - 30)
"""Kafka timestamps, seconds; of the first ones nearly all times that the seeds have are within bounds."""


def check(data: bytes) -> None:
    """Raises AssertionError where core and reference differ on an input.

    Its first byte says where batches end and which Kafka timestamps records have; the rest are the records' values.
    """
    first, values = data[:1].ljust(1, b"\0")[0], data[1:].split(SEPARATOR)
    run = [
        FakeRecord(at, value or None, when_ms=1_000 * _MOMENTS[first // 5 % len(_MOMENTS)])
        for at, value in enumerate(values)
    ]
    found = [reference.classification(one.value(), one.timestamp()[1], *LIMITS, PLAIN_RULES) for one in run]
    counter, compiled, plain = (
        BatchCounter(LIMITS, RULES),
        Chunk(0, erased=ERASED),
        Chunk(0, erased=ERASED, table=Cells()),
    )
    counts, cells, refused = counter.pending(), counter.pending(), list[tuple[int, str]]()
    length = 1 + first % 5
    for at in range(0, len(run), length):
        refused += [(at + one.at, str(one.code)) for one in counter.count(run[at : at + length], counts).refusals]
        counter.count(run[at : at + length], cells)
        if first & 64:
            counter.fold_into(compiled, cells)
    counter.fold_into(compiled, cells)
    tallies = counter.fold(counts)
    plain.add(tallies)
    kept: Counter[tuple[object, ...]] = Counter()
    for tally, events in tallies:
        kept[(*tally[:6], (tally.reason or "")[:64], tally.quantity)] += events
    assert kept == Counter(reference.tally(one) for one in found if isinstance(one, Classification))
    assert refused == [(at, one) for at, one in enumerate(found) if isinstance(one, str)]
    assert compiled.take().rows.keys() == plain.take().rows.keys()
    assert {f: {k: c.values for k, c in its.items()} for f, its in compiled.cells.items()} == {
        f: {k: c.values for k, c in its.items()} for f, its in plain.cells.items()
    }


def corpus() -> list[bytes]:
    """The inputs that are kept."""
    return [base64.b64decode(line) for line in CORPUS.read_text().splitlines()]


def _seeds() -> list[bytes]:
    """What to begin with: records of the other fuzzer, three an input, and plain ones, which are counted by kind."""
    odd, rng = list(records(1, 600)), random.Random(1)
    groups = [odd[at : at + 3] for at in range(0, len(odd), 3)] + [
        [plain(rng, NOW) for _ in range(9)] for _ in range(20)
    ]
    return [bytes([at % 256]) + SEPARATOR.join(one.value or b"" for one in group) for at, group in enumerate(groups)]


def main() -> None:
    """Fuzz for some minutes, then keep what reached something new; exit 77 when something was found."""
    if any(one.startswith("-merge") for one in sys.argv):  # libFuzzer starts itself again
        _fuzz(*sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    seconds = round(60 * parser.parse_args().minutes)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        words, found, least = directory / "words", directory / "found", directory / "least"
        words.write_text(
            "".join(f'"\\"{one.encode_name}\\":"\n' for one in fields(Event)) + f'"\\x{SEPARATOR.hex()}"\n'
        )
        found.mkdir()
        least.mkdir()
        for number, data in enumerate(corpus() or _seeds()):
            found.joinpath(str(number)).write_bytes(data)
        _run(str(found), f"-dict={words}", f"-max_total_time={seconds}", "-max_len=1200", "-print_final_stats=1")
        _run("-merge=1", str(least), str(found))
        kept = sorted((one.read_bytes() for one in least.iterdir()), key=lambda one: (len(one), one))
    CORPUS.write_text("".join(base64.b64encode(one).decode() + "\n" for one in kept))
    print(f"{len(kept)} inputs kept")


def _run(*arguments: str) -> None:
    """In a process of its own, since libFuzzer ends the one that it runs in."""
    if os.fork() == 0:
        _fuzz(*arguments)
    if os.waitstatus_to_exitcode(os.wait()[1]):
        sys.exit(77)


def _fuzz(*arguments: str) -> None:
    import atheris  # only here: it is there only where clang is

    os.environ["LD_PRELOAD"] = f"{atheris.path()}/asan_with_fuzzer.so"
    atheris.Setup([f"{sys.executable} -m tests.fuzz", *arguments], check)
    atheris.Fuzz()
