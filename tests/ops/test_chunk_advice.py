"""When the doctor says that another chunk length would pay."""

import pytest

from orgstats.consumer.ops.chunk_advice import advice
from orgstats.consumer.ops.lag import Lag

L = 1 << 17


def partition(number: int, rate: float, length: int = L, *, counted: bool = True) -> Lag:
    """One that takes so many records a second."""
    position = 10 if counted else None
    return Lag("events", number, position, 20, 10, 1.0, 0, rate, None, None, None, 0, length)


def told(*partitions: Lag, consumers: int = 1) -> list[str]:
    """What is said, and to do."""
    return [f"{one.what} {one.remedy}" for one in advice(partitions, consumers)]


@pytest.mark.parametrize(("rate", "length"), [(2_200, 1 << 18), (10_000, 1 << 20), (1_000_000, 1 << 20)])
def test_a_chunk_that_is_soon_full_is_told_with_the_length_that_is_not(rate: float, length: int) -> None:
    """A minute is the measure, and the longest length the bound."""
    (one,) = told(partition(0, rate))
    assert f"chunk-length set {length} --topic events --partitions 0" in one
    assert "fewer rows" in one


def test_partitions_that_want_the_same_are_told_together() -> None:
    """And those that want nothing not at all."""
    found = told(partition(0, 10_000), partition(1, 100), partition(2, 10_000), partition(3, 9e9, counted=False))
    assert len(found) == 1
    assert "--partitions 0,2;" in found[0]


def test_much_to_read_again_wants_shorter_chunks_where_the_rate_allows_it() -> None:
    """Shared by all consumers; a partition whose chunks would be full too soon keeps its length."""
    slow = [partition(number, 10, 1 << 20) for number in range(10)]
    (one,) = told(*slow)
    assert f"chunk-length set {1 << 19} " in one
    assert "after a restart" in one
    assert told(*slow, consumers=2) == []
    assert told(*(partition(number, 17_000, 1 << 20) for number in range(10))) == []
