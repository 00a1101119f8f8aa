"""Where a log begins to differ from what was counted of it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from confluent_kafka import Message

from orgstats.consumer.counting.chain import Chain, Mark
from orgstats.consumer.counting.grid import CHUNK_LENGTH as L
from orgstats.consumer.counting.packing import packed, packed_in_python
from orgstats.consumer.counting.resume import Progress, SourceFacts
from orgstats.consumer.cutback import Read, find_cut
from tests.support.record import FakeRecord

K = L // 128  # about a thousand offsets of a chunk as long as in production
Log = list[FakeRecord]


def log(*parts: tuple[int, int, int | None]) -> Log:
    """Records at every K-th offset of (from, to, leader epoch) parts, each part with values of its own."""
    return [
        FakeRecord(at, b"%d of part %d" % (at, number), at, epoch)
        for number, (first, end, epoch) in enumerate(parts)
        for at in range(first, end, K)
    ]


def reading(records: Log) -> Read:
    return lambda first, end: [[one] for one in records if first <= one.at < end]


def mark(records: Log, first: int, end: int) -> Mark:
    chain = Chain(first)
    counted = [one for one in records if first <= one.at < end]
    chain.add(packed(counted))
    epoch = counted[-1].epoch if counted else None
    return Mark(-1 if epoch is None else epoch, chain.value, first)


def found(records: Log, counted: int, end: int, low: int = 0) -> tuple[SourceFacts, dict[int, Mark]]:
    """What is known when `records` were counted below `counted` and the log now is from `low` to `end`."""
    open_chunk = (counted - 1) // L * L
    chunks = {first: mark(records, first, after) for first, after in pairwise(range(0, open_chunk + 1, L))}
    return SourceFacts(low, end, None, Progress(counted, "", mark=mark(records, open_chunk, counted))), chunks


@pytest.mark.parametrize("epoch", [0, None])
@pytest.mark.parametrize("counted", [5 * K, 300 * K, 2 * L])
def test_the_same_log_has_no_cut(counted: int, epoch: int | None) -> None:
    """What was counted is there again, and more has come: nothing is to be done."""
    records = log((0, 400 * K, epoch))
    assert find_cut(found(records, counted, 400 * K)[0], reading(records), found(records, counted, 400 * K)[1]) is None


@pytest.mark.parametrize(
    ("cut", "epochs", "expected"),
    [
        (280 * K, (0, 1), 280 * K),
        (140 * K, (0, 1), 140 * K),
        (280 * K, (None, None), 2 * L),  # nobody can tell from where on in the chunk
        (140 * K, (None, None), L),
    ],
)
@pytest.mark.parametrize("grown", [0, 400 * K])
def test_the_cut_is_found(cut: int, epochs: tuple[int | None, int | None], expected: int, grown: int) -> None:
    """Epochs tell the offset, chains the chunk; whether the log has grown again or ends below what was counted."""
    before = log((0, 300 * K, epochs[0]))
    end = grown or cut + 10 * K
    now = log((0, cut, epochs[0]), (cut, end, epochs[1]))
    known, chunks = found(before, 300 * K, end)
    changed = find_cut(known, reading(now), chunks)
    assert changed is not None
    assert changed.at == expected


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (700 * K, 700 * K),  # behind the skip, to which the log agrees
        (400 * K, 2 * L),  # of the chunk in which counting stopped no mark is left
        (290 * K, 2 * L),
        (200 * K, 200 * K),
        (50 * K, 50 * K),
    ],
)
def test_what_was_counted_before_a_skip_is_compared_too(cut: int, expected: int) -> None:
    """Counting went from within the third chunk to the sixth: the chunks before the skip still have their marks."""
    before = log((0, 800 * K, 0))
    known, chunks = found(before, 800 * K, 900 * K)
    left = {first: mark for first, mark in chunks.items() if not 2 * L <= first < 5 * L}
    changed = find_cut(known, reading(log((0, cut, 0), (cut, 900 * K, 1))), left)
    assert changed is not None
    assert changed.at == expected


@pytest.mark.parametrize("epoch", [None, 0])
def test_chunks_counted_since_the_cut_tell_nothing_of_those_before(epoch: int | None) -> None:
    """Nobody noticed the cut, and counting went on behind it: looked at is all down to where the log differs."""
    now = log((0, 140 * K, 0), (140 * K, 400 * K, epoch))
    known, chunks = found(now, 400 * K, 400 * K)
    chunks[L] = mark(log((0, 300 * K, 0)), L, 2 * L)
    assert find_cut(known, reading(now), chunks) is None
    changed = find_cut(known, reading(now), chunks, down_to=L)
    assert changed is not None
    assert changed.at == L
    assert find_cut(known, reading(now), {0: chunks[0], L: chunks[L]}, down_to=L) is not None  # a skip lies between


def test_epochs_that_a_restored_broker_gives_out_again_are_not_believed() -> None:
    """The chain differs although no epoch does: all of the first chunk that differs is another."""
    known, chunks = found(log((0, 300 * K, 3)), 300 * K, 400 * K)
    changed = find_cut(known, reading(log((0, 140 * K, 3), (140 * K, 400 * K, 3))), chunks)
    assert changed is not None
    assert changed.at == L


def test_a_chunk_without_its_head_is_classified_by_epochs_alone() -> None:
    """Retention took the head: a chain cannot be compared, and is no reason to count anything back."""
    before = log((0, 300 * K, None))
    known, chunks = found(before, 300 * K, 400 * K, low=2 * L + 500)
    assert find_cut(known, reading(log((0, 300 * K, None), (300 * K, 400 * K, None))), chunks) is None
    old = log((0, 300 * K, 0))
    known, chunks = found(old, 300 * K, 400 * K, low=2 * L + 500)
    changed = find_cut(known, reading(log((0, 280 * K, 0), (280 * K, 400 * K, 2))), chunks)
    assert changed is not None
    assert (changed.at, changed.timestamp_ms) == (280 * K, 0)


def test_only_the_time_of_kafka_bounds_completeness_after_a_cut() -> None:
    """A producer's time may lie after the moment when its record was acknowledged."""
    known, chunks = found(log((0, 300 * K, 0)), 300 * K, 400 * K)
    now = [replace(record, kind=2) for record in log((0, 280 * K, 0), (280 * K, 400 * K, 2))]
    changed = find_cut(known, reading(now), chunks)
    assert changed is not None
    assert (changed.at, changed.timestamp_ms) == (280 * K, 280 * K)


@pytest.mark.parametrize("pack", [packed, packed_in_python])
def test_the_chain_tells_records_apart_but_not_batches(pack: Callable[[list[Message]], bytes]) -> None:
    """Offsets, times and values are in it, and whether there is a value; where batches begin is not."""
    values: list[bytes | None] = [b"a", None, b"", b"bc", b"\0"]
    run = [Message(offset=at, value=value, timestamp=(1, at)) for at, value in enumerate(values)]

    def value(*runs: list[Message]) -> int:
        chain = Chain(0)
        for one in runs:
            chain.add(pack(one))
        return chain.value

    assert value(run) == value(run[:2], run[2:]) == value([], run[:4], run[4:])
    other = [
        Message(offset=9, value=b"a", timestamp=(1, 0)),
        Message(offset=0, value=b"a", timestamp=(1, 9)),
        Message(offset=0, value=b"b", timestamp=(1, 0)),
        Message(offset=0, value=None, timestamp=(1, 0)),
        Message(offset=0, value=b"", timestamp=(1, 0)),
    ]
    assert len({value([*changed, *run[1:]]) for changed in ([run[0]], *([one] for one in other))}) == 6
    assert packed(run) == packed_in_python(run)  # type: ignore[arg-type]
