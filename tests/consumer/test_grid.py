"""How offsets are divided into chunks."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting.grid import Chunks, Grid

LENGTHS = st.integers(0, 6).map(lambda bits: 1 << bits)
GRIDS = st.builds(
    lambda first, later: Grid(((0, first), *sorted(later.items()))),
    LENGTHS,
    st.dictionaries(st.integers(1, 200), LENGTHS, max_size=4),
)
OFFSETS = st.integers(0, 400)


@given(GRIDS, st.integers(1, 400))
def test_every_offset_is_in_one_chunk(grid: Grid, end: int) -> None:
    """Chunks follow on each other without a hole, whatever the entries are, and each offset knows its own."""
    chunks = list(Chunks(grid, 0, end))
    assert chunks[0] == 0
    assert all(grid.chunk_end(first) == after for first, after in pairwise(chunks))
    assert grid.chunk_end(chunks[-1]) >= end
    for first in chunks:
        inside = range(first, grid.chunk_end(first))
        assert {(grid.chunk_of(at), grid.chunk_end(at)) for at in inside} == {(first, inside.stop)}
    assert all(grid.before(after) == first for first, after in pairwise(chunks))


@given(GRIDS, OFFSETS)
def test_a_chunk_is_never_longer_than_its_entry_says(grid: Grid, offset: int) -> None:
    """It may be shorter, where another entry cuts it off."""
    assert grid.chunk_end(offset) - grid.chunk_of(offset) <= grid.length_at(offset)


@given(LENGTHS, LENGTHS, st.integers(0, 3), OFFSETS)
def test_at_a_boundary_of_the_longer_length_all_chunks_are_whole(before: int, after: int, at: int, offset: int) -> None:
    """Then a change cuts no chunk short."""
    grid = Grid(((0, before), (max(before, after) * (at + 1), after)))
    first, length = grid.chunk_of(offset), grid.length_at(offset)
    assert (first % length, grid.chunk_end(offset)) == (0, first + length)


def test_what_is_entered_later_changes_nothing_before_it() -> None:
    """Whoever knows the entries up to an offset divides what lies before it as those do who know all."""
    known, all_of_it = Grid(((0, 8),)), Grid(((0, 8), (32, 16)))
    assert list(Chunks(known, 0, 32)) == list(Chunks(all_of_it, 0, 32))


def test_no_chunks() -> None:
    """A range of none is nothing."""
    assert not Chunks(Grid(), 5, 5)
    assert list(Chunks(Grid(), 5, 5)) == []
