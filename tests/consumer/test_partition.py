"""One partition as it counts: outcomes without a name, and limits on dead letters that halt it."""

import pytest

from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cells import COUNTS, HOURLY, TOTALS, CountKey, HourKey, Stored, StoredChunk
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.grid import CHUNK_LENGTH, Grid
from orgstats.consumer.counting.limits import DeadLetterLimits
from orgstats.consumer.counting.partition import ChunkNotKnown, LogChanged, Partition
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from tests.support.record import FakeRecord

T0 = 1_700_000_000


def event(at: int, outcome: int | str = 0) -> FakeRecord:
    """A record whose outcome is written as given."""
    body = b'{"timestamp":"2023-11-14T22:13:20.000Z","org_id":1,"outcome":%s}' % str(outcome).encode()
    return FakeRecord(at, body, T0 * 1000, None)


def partition(*, catching_up_until: int = 0, run: int = 0) -> Partition:
    """A partition that counts from offset 0 on."""
    start, batch = Resume(0, catching_up_until), BatchCounter(AgeLimits(), RuleHistory())
    return Partition(Source("t", "u", 0), start, batch, lambda _: Attempt(0), limits=DeadLetterLimits(run=run))


def test_outcomes_without_a_name_are_counted_by_number() -> None:
    """Ids 7 to 255 are events like others, in cells of their own, and in no total; beyond that are dead letters."""
    counting = partition()
    outcomes: list[int | str] = [0, 6, 7, 255, 7, 256, -1, '"7"', "7.0"]
    counting.count([event(at, outcome) for at, outcome in enumerate(outcomes)])
    changes = counting.take()
    for family in (COUNTS, HOURLY):
        rows = changes.chunks[0].rows[family]
        by_outcome = {key.outcome: events for key, (_, events) in rows if isinstance(key, CountKey | HourKey)}
        assert by_outcome == {0: 1, 6: 1, 7: 2, 255: 1}
    assert counting.unnamed_outcomes == {7: 2, 255: 1}
    assert [(dead.record.offset(), dead.code) for dead in changes.notes.dead_letters] == [
        (at, "outcome_invalid") for at in (5, 6, 7, 8)
    ]
    assert [values for _, values in changes.chunks[0].rows[TOTALS]] == [(1, 0, 0)] * 2


def test_hourly_is_written_first_at_a_chunks_end_and_after_a_failure() -> None:
    """In between it stays behind, and how far it is written is told."""
    counting = partition()

    def flush(at: int, *, fails: bool = False) -> tuple[int, int]:
        counting.count([event(at)])
        changes = counting.take(seldom=False)
        (counting.not_stored if fails else counting.stored)(changes)
        return changes.hourly_offset, sum(len(part.rows[HOURLY]) for part in changes.chunks)

    assert flush(0) == (1, 1)
    assert flush(1) == (1, 0)
    assert flush(2, fails=True) == (1, 0)
    assert flush(3) == (4, 1)
    assert flush(4) == (4, 0)
    assert flush(CHUNK_LENGTH - 1) == (CHUNK_LENGTH, 1)
    assert flush(CHUNK_LENGTH) == (CHUNK_LENGTH + 1, 1)
    assert flush(CHUNK_LENGTH + 1) == (CHUNK_LENGTH + 1, 0)
    assert flush(2 * CHUNK_LENGTH) == (2 * CHUNK_LENGTH + 1, 2)


def test_another_log_is_found_before_it_can_be_stored() -> None:
    """The last record below the position that was counted decides, not the next one or the log's end."""
    counted = Resume(0, 2, counted=2, mark=Mark(-1, 1, 0))
    counting = Partition(Source("t", "u", 0), counted, BatchCounter(AgeLimits(), RuleHistory()), lambda _: Attempt(0))
    counting.count([event(0)])
    with pytest.raises(LogChanged):
        counting.count([event(1)])


def test_a_limit_halts_with_everything_so_far_to_be_stored() -> None:
    """The batch that reaches a limit is taken whole, its dead letters too; nothing after it is."""
    counting = partition(run=3)
    counting.count([event(0), event(1, 999), event(2, 999)])
    assert not counting.halted
    counting.count([event(3, 999), event(4)])
    assert "t/0 at offset 3: 3 records in a row" in counting.halted
    counting.count([event(5)])
    counting.advance(900)
    changes = counting.take()
    assert changes.next_offset == 5
    assert [dead.record.offset() for dead in changes.notes.dead_letters] == [1, 2, 3]
    assert [events for _, (_, events) in changes.chunks[0].rows[COUNTS]] == [2]


def test_a_limit_that_is_reached_where_the_log_is_compared_passes_over_nothing() -> None:
    """The batch goes on to the next chunk: what is left of this one is not counted, and so not said to be."""
    counted = Resume(0, 0, counted=3, mark=Mark(-1, 0, 0))
    limits, batch = DeadLetterLimits(run=3), BatchCounter(AgeLimits(), RuleHistory())
    counting = Partition(Source("t", "u", 0), counted, batch, lambda _: Attempt(0), limits=limits)
    counting.count([*(event(at, 999) for at in range(3)), event(3), event(CHUNK_LENGTH)])
    assert counting.halted
    assert counting.take().next_offset == 3


@pytest.mark.parametrize(("catching_up_until", "halts"), [(0, True), (2, True), (3, False), (5, False)])
def test_what_was_stored_before_does_not_halt_again(catching_up_until: int, halts: bool) -> None:
    """After a restart only records beyond the stored position are watched, or it would halt at the same for ever."""
    counting = partition(catching_up_until=catching_up_until, run=3)
    counting.count([event(at, 999) for at in range(5)])
    assert bool(counting.halted) is halts


def test_the_last_chunk_that_is_known_is_stored_whole() -> None:
    """At its end nothing more is counted; what is stored of it and was not found again becomes zero."""
    start = Resume(0, 0, grid=Grid(((0, 8),)), known_to=8, log_end=100)
    batch = BatchCounter(AgeLimits(), RuleHistory())
    counting = Partition(Source("t", "u", 0), start, batch, lambda _: Attempt(1, begins=True, reconcile=True))
    with pytest.raises(ChunkNotKnown):
        counting.count([event(at) for at in (0, 5, 11)])
    (chunk,) = counting.to_reconcile()
    stale = CountKey(9, T0 // 10 * 10, 0, 0, 1, 0, "")
    counting.reconcile(chunk, StoredChunk({COUNTS: {stale: Stored((3, 3), 5)}, HOURLY: {}, TOTALS: {}}))
    changes = counting.take()
    assert (changes.next_offset, changes.hourly_offset) == (8, 8)
    assert [one.first_offset for one in changes.notes.closed] == [0]
    assert dict(changes.chunks[0].rows[COUNTS])[stale] == (0, 0)


def test_chunks_across_which_there_is_no_record_are_passed() -> None:
    """The chain of what is counted begins with the chunk that is open, also behind chunks without a record."""
    start = Resume(0, 0, grid=Grid(((0, 8),)))
    counting = Partition(Source("t", "u", 0), start, BatchCounter(AgeLimits(), RuleHistory()), lambda _: Attempt(0))
    counting.count([event(at) for at in (0, 33)])
    assert counting.take().mark.chain_from == 32
