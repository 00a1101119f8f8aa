"""The compiled table of cells and the plain one do the same, whatever is done with a chunk."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting.batch import COMPILED, BatchCounter, Pending
from orgstats.consumer.counting.cell_table import Cells
from orgstats.consumer.counting.cells import COUNTS, FAMILIES, HOURLY, CountKey, Family, Key, Stored
from orgstats.consumer.counting.chunk import MAX_REASONS, Chunk, ChunkChanges, Tally
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import version_of
from tests.consumer.test_batch import PLAIN, T0, VALUES, messages, spelled

pytestmark = pytest.mark.skipif(not COMPILED, reason="needs the compiled code")

DAY = 86_400
LARGE = st.sampled_from([0, 1, 2, 2**32, 2**63 - 1, 2**64 - 1])
COUNT_KEYS = st.builds(
    CountKey,
    LARGE,
    st.sampled_from([0, T0, T0 + 10, T0 + DAY, 2**32 - 16]),
    LARGE,
    LARGE,
    st.sampled_from([0, 1, 2, 3, 255]),
    st.sampled_from([0, 1, 2, 3, 255]),
    st.sampled_from(["", "a", "other", "erased", "ü" * 64]),
)
VERSIONS = st.builds(version_of, st.integers(0, 2), st.integers(0, 40))
TALLIES = st.builds(
    Tally,
    st.sampled_from([None, 0, 1, 2, 2**63 - 1]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([None, 3]),
    st.sampled_from([0, T0, T0 + 3_600, 2**32 - 16]),
    st.sampled_from([None, 0, 1, 2, 255]),
    st.sampled_from([0, 1, 2, 3, 255]),
    st.sampled_from([None, "", "a", "b" * 70]),
    st.sampled_from([None, 0, 1, 2**63 - 1]),
)
STEPS = st.one_of(
    st.tuples(st.just("run"), st.lists(VALUES | PLAIN, max_size=6)),
    st.tuples(st.just("add"), st.lists(st.tuples(TALLIES, st.integers(0, 3)), max_size=3)),
    st.tuples(st.just("add one"), st.lists(st.tuples(TALLIES, st.integers(0, 50)), max_size=3)),
    st.tuples(st.just("overwrite"), st.lists(COUNT_KEYS, max_size=2)),
    st.tuples(st.just("take"), st.booleans()),
    st.tuples(st.just("not stored"), st.integers(0, 3)),
)


class Counting:
    """A chunk and what is pending for it."""

    def __init__(self, pending: Pending, chunk: Chunk, batch: BatchCounter) -> None:
        self.pending, self.chunk, self.batch = pending, chunk, batch
        self.taken: list[ChunkChanges] = []

    def do(self, step: str, what: Any) -> Any:
        """One step; gives what it told."""
        if step == "run":
            self.batch.count(messages(what, [T0 * 1000] * len(what)), self.pending)
        if step in {"run", "take"}:
            told = self.batch.fold_into(self.chunk, self.pending)
        match step:
            case "run":
                return +told
            case "add":
                self.chunk.add(what)
            case "add one":
                for one, offset in what:
                    self.chunk.add_one(one, offset)
            case "overwrite":
                keys: dict[Family, list[Key]] = {f: [k for key in what for k, _ in f.shares(key)] for f in FAMILIES}
                self.chunk.overwrite(keys)
            case "take":
                self.taken.append(self.chunk.take(seldom=what))
                return self.taken[-1].days, self.taken[-1].version
            case "not stored" if what < len(self.taken):
                self.chunk.not_stored(self.taken[what])
        return None

    def held(self) -> Any:
        """All that can be asked of the chunk."""
        cells = {
            family: {key: (cell.values, cell.counted_to, cell.changed, cell.family) for key, cell in its.items()}
            for family, its in self.chunk.cells.items()
        }
        return cells, self.chunk.changed, [self.chunk.count(family) for family in FAMILIES]


def rows(changes: ChunkChanges) -> dict[Family, dict[Key, tuple[int, ...]]]:
    """What is to be stored, by key; each once."""
    found = {family: dict(its) for family, its in changes.rows.items()}
    assert sum(map(len, found.values())) == len(changes.taken)
    return found


def both(projects: bool, erased: frozenset[int]) -> tuple[Counting, Counting]:
    """The compiled way and the plain one, with a memory of kinds each."""

    def batch() -> BatchCounter:
        return BatchCounter(AgeLimits(), RuleHistory(()))

    compiled, plain = (
        Chunk(0, projects=projects, erased=erased),
        Chunk(0, projects=projects, erased=erased, table=Cells()),
    )
    assert compiled.takes_kinds
    assert not plain.takes_kinds
    fast = batch()
    return Counting(fast.pending(), compiled, fast), Counting(Pending(), plain, batch())


@given(
    st.booleans(),
    st.sampled_from([frozenset[int](), frozenset({1}), frozenset({0, 2, 7})]),
    st.dictionaries(COUNT_KEYS, st.tuples(LARGE, LARGE, VERSIONS, VERSIONS, VERSIONS), max_size=4),
    st.tuples(st.integers(0, 2), st.integers(0, 40), st.booleans()),
    st.lists(STEPS, max_size=12),
)
def test_compiled_cells_equal_plain_cells(
    projects: bool,
    erased: frozenset[int],
    stored: dict[CountKey, tuple[int, int, int, int, int]],
    loading: tuple[int, int, bool],
    steps: list[tuple[str, Any]],
) -> None:
    """Loaded or not, counted in any way, taken, not stored and overwritten in any order."""
    held: dict[Family, dict[Key, Stored]] = {family: {} for family in FAMILIES}
    for finest, (quantity, events, *versions) in stored.items():
        for family, version in zip(FAMILIES, versions, strict=True):
            for key, _ in family.shares(finest):
                held[family][key] = Stored((quantity, events, 7)[: len(family.values)], version)
    ways = both(projects, erased)
    for way in ways:
        if stored:
            way.chunk.load(held, loading[0], loading[1], closed=loading[2])
    for step, what in [*steps, ("run", []), ("take", True)]:
        told = [way.do(step, what) for way in ways]
        assert told[0] == told[1], step
        assert ways[0].held() == ways[1].held(), step
    # What was taken is asked for now: counting has gone on, and it is what cells held then.
    assert list(map(rows, ways[0].taken)) == list(map(rows, ways[1].taken))


def test_more_reasons_than_are_kept_in_several_folds() -> None:
    """Which are kept is decided by offset, also when kinds of the late ones are known from another chunk."""
    compiled, plain = both(projects=True, erased=frozenset())
    for way in (compiled, plain):
        other = Counting(way.batch.pending(), Chunk(0), way.batch)
        other.do("run", [reason(n) for n in range(2 * MAX_REASONS, 0, -1)])
        for first in range(0, 2 * MAX_REASONS, MAX_REASONS // 4):
            way.do("run", [reason(n, odd=n % 3 == 0) for n in range(first, first + MAX_REASONS // 2)])
    assert compiled.held() == plain.held()
    assert any(isinstance(key, CountKey) and key.reason == "other" for key in compiled.chunk.cells[COUNTS])


def reason(number: int, *, odd: bool = False) -> bytes:
    """An event with a reason of its own; an odd one is not of a kind."""
    return spelled(org_id=1, outcome=1, reason=f"r{number}", x=0.5 if odd else 1)


@pytest.mark.parametrize("projects", [True, False])
def test_erased_organizations_and_what_is_of_no_project(projects: bool) -> None:
    """Kinds of them count where tallies of them do, in two days."""
    compiled, plain = both(projects=projects, erased=frozenset({1, 3}))
    days = ("2023-11-14T22:13:20.5Z", "2023-11-13T22:13:20.5Z")
    events = [
        spelled(timestamp=day, org_id=org_id, project_id=5, key_id=6, category=category, reason="r")
        for day in days
        for org_id in (1, 2, 3, 4)
        for category in (0, 2)
    ]
    for way in (compiled, plain):
        way.do("run", events * 2)
    assert compiled.held() == plain.held()
    marked = [key for key in compiled.chunk.cells[COUNTS] if isinstance(key, CountKey) and key.category == 255]
    assert len(marked) == 4


def test_more_cells_than_there_is_room_for_at_first() -> None:
    """Ten thousand keys in many days: each is found again, and a handed out one still is the same."""
    compiled, plain = both(projects=True, erased=frozenset())
    early = [way.chunk._table.cell(COUNTS, CountKey(9, 0, 0, 0, 0, 0, "")) for way in (compiled, plain)]
    tallies = [(Tally(n % 97, n, None, 10 * (n % 50) * DAY, 1, 0, f"{n % 7}", n), 1 + n % 3) for n in range(10_000)]
    for way in (compiled, plain):
        way.do("add", tallies)
        way.do("add", tallies[::2])
    for cell in early:
        cell.values = [2**70, 5]
        assert (cell.values, cell.row_values()) == ([2**70, 5], (2**64 - 1, 5))
    assert compiled.held() == plain.held()
    assert compiled.do("take", False) == plain.do("take", False)
    assert compiled.chunk.changed
    assert compiled.chunk.count(HOURLY)


def test_kinds_that_are_met_anew_have_their_own_reasons() -> None:
    """Forgotten kinds number reasons in the order in which they are met again."""
    compiled, plain = both(projects=True, erased=frozenset())
    for way in (compiled, plain):
        way.do("run", [reason(1), reason(2)])
        way.batch._kinds = None
        way.do("run", [reason(2), reason(2), reason(3), reason(1)])
    assert compiled.held() == plain.held()
