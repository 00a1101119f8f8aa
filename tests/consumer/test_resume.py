"""Where counting goes on, as a table: what broker and store say, and what follows."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orgstats.consumer.counting.resume import (
    COUNTED_AGAIN,
    LOGIC_CHANGED,
    Attempt,
    Found,
    Progress,
    Registration,
    Repair,
    attempt,
    counted_below,
    left_behind,
    resume,
)
from orgstats.consumer.counting.source import SEGMENT_LENGTH, Source, segment_of
from orgstats.errors import Refused

SOURCE = Source("events", "uuid", 3)
SEGMENT = SEGMENT_LENGTH
REGISTERED = Registration(SEGMENT, "read_committed")


def progress(next_offset: int, logic: str = "new") -> Progress:
    return Progress(next_offset, logic)


def test_first_start_begins_at_the_earliest_record() -> None:
    """A source nobody has counted begins at the log's start, and what retention took before is no gap."""
    start = resume(SOURCE, Found(low=500, end=900), "read_committed")
    assert (start.start, start.quiet_until, start.gap) == (500, 500, None)


def test_restart_counts_again_from_the_start_of_the_segment() -> None:
    """The segment of the commit is counted from its first offset, quietly until the commit is reached."""
    found = Found(0, 10 * SEGMENT, SEGMENT + 70, progress(SEGMENT + 70), REGISTERED)
    start = resume(SOURCE, found, "read_committed")
    assert (start.start, start.quiet_until, start.load_stored, start.gap) == (SEGMENT, SEGMENT + 70, False, None)


def test_head_gone_loads_stored_cells() -> None:
    """With the head of the segment deleted a recount would be smaller, so stored cells are the ground."""
    found = Found(50, 900, 70, progress(70), REGISTERED)
    start = resume(SOURCE, found, "read_committed")
    assert (start.start, start.quiet_until, start.load_stored, start.gap) == (70, 70, True, None)


def test_deleted_before_counted_is_a_gap_of_exactly_the_missing_offsets() -> None:
    """Retention past the position: go on at the log's start and list what is missing."""
    start = resume(SOURCE, Found(200, 900, 70, progress(70), REGISTERED), "read_committed")
    assert (start.start, start.load_stored, start.gap, start.gap_why) == (200, True, (70, 200), "retention")


def test_what_older_programs_have_counted_has_no_sums() -> None:
    """From the segment on that is counted again there are sums; once there are, a restart changes nothing about it."""
    found = Found(0, 3 * SEGMENT, SEGMENT + 70, Progress(SEGMENT + 70, "new", summed_from=SEGMENT + 70), REGISTERED)
    assert resume(SOURCE, found, "read_committed").summed_from == SEGMENT
    later = replace(found, progress=Progress(2 * SEGMENT, "new", summed_from=SEGMENT), committed=2 * SEGMENT)
    assert resume(SOURCE, later, "read_committed").summed_from == SEGMENT
    assert resume(SOURCE, replace(found, progress=None), "read_committed").summed_from == 0


def test_segments_that_are_gone_are_left_behind() -> None:
    """What lies between what is stored and where it goes on, and what gaps reach into, is for nobody to count again."""
    found = Found(2 * SEGMENT + 5, 3 * SEGMENT, 70, progress(70), REGISTERED, gaps=[(SEGMENT + 1, 2 * SEGMENT + 5)])
    start = resume(SOURCE, found, "read_committed")
    assert left_behind(found, start) == [(0, 2 * SEGMENT), (SEGMENT, 2 * SEGMENT)]
    whole = Found(0, 3 * SEGMENT, 70, progress(70), REGISTERED)
    assert left_behind(whole, resume(SOURCE, whole, "read_committed")) == []


def test_commit_set_back_is_read_again_without_a_gap() -> None:
    """Records that were counted and then deleted are not missing when an operator sets the offsets back.

    What is left of a segment without its head cannot be counted again; what was counted of it stays.
    """
    start = resume(SOURCE, Found(200, 900, 0, progress(500), REGISTERED), "read_committed")
    assert (start.start, start.load_stored, start.gap) == (500, True, None)
    start = resume(SOURCE, Found(200, 2 * SEGMENT, 0, progress(SEGMENT + 9), REGISTERED), "read_committed")
    assert (start.start, start.load_stored, start.gap) == (SEGMENT, False, None)


def test_commit_ahead_of_the_store_goes_back_to_the_store() -> None:
    """A store restored from an older copy is counted up from where it ends."""
    start = resume(SOURCE, Found(0, 9 * SEGMENT, 5 * SEGMENT, progress(SEGMENT + 5), REGISTERED), "read_committed")
    assert (start.start, start.quiet_until, start.went_back_from) == (SEGMENT, SEGMENT + 5, 5 * SEGMENT)


def test_an_empty_store_with_a_commit_counts_what_the_log_has() -> None:
    """A store that has lost everything lists what the log no longer holds."""
    start = resume(SOURCE, Found(300, 900, 800), "read_committed")
    assert (start.start, start.gap, start.went_back_from) == (300, (0, 300), 800)


def test_accepted_skip_is_a_gap_of_whole_segments() -> None:
    """What is skipped by hand is listed, and the segment of the commit is counted whole."""
    found = Found(0, 9 * SEGMENT, 5 * SEGMENT + 9, progress(SEGMENT + 5), REGISTERED)
    start = resume(SOURCE, found, "read_committed", accept_skip=True)
    assert (start.start, start.gap) == (5 * SEGMENT, (SEGMENT + 5, 5 * SEGMENT))
    assert start.gap_why == "skip accepted"


OFFSETS = st.integers(0, 4 * SEGMENT)


@given(
    offsets=st.lists(OFFSETS, min_size=4, max_size=4).map(sorted),
    committed=st.none() | OFFSETS,
    counted=st.none() | OFFSETS,
    registered=st.booleans(),
    accept_skip=st.booleans(),
)
@example(offsets=[0, 0, 280_000, 400_000], committed=300_000, counted=1_000, registered=True, accept_skip=True)
@example(offsets=[0, 0, 400_000, 500_000], committed=300_000, counted=1_000, registered=True, accept_skip=True)
def test_every_offset_below_the_position_is_counted_or_listed(
    offsets: list[int], committed: int | None, counted: int | None, *, registered: bool, accept_skip: bool
) -> None:
    """In every combination of counted, commit, low, end and option, nothing lies between what is counted and read."""
    first, _, low, end = offsets
    stored = None if counted is None else progress(min(max(counted, first), end))
    registration = Registration(SEGMENT, "read_committed", first) if registered or stored else None
    found = Found(low, end, committed, stored, registration)
    start = resume(SOURCE, found, "read_committed", accept_skip=accept_skip)
    below = counted_below(found)
    assert low <= start.start <= max(start.quiet_until, end)
    missing = (below, start.start) if below < start.start else None
    assert start.gap == missing
    assert start.start % SEGMENT == 0 or start.load_stored
    assert start.load_stored == (low > segment_of(start.start))
    if missing and missing[1] > low:  # what the log still has is left out only as far as the commit's chunk
        assert accept_skip
        assert missing[1] == segment_of(min(committed or 0, end))


def test_a_log_that_was_cut_back_is_refused_and_names_the_repair() -> None:
    """Offsets given out anew would hide behind what was counted under them before."""
    with pytest.raises(Refused, match="replay apply --repair --rewind --topic events --partitions 3"):
        resume(SOURCE, Found(0, 60, 70, progress(70), REGISTERED), "read_committed")


@pytest.mark.parametrize(
    ("registration", "words"),
    [
        (Registration(1 << 10, "read_committed"), "segments of 1024"),
        (Registration(SEGMENT, "read_uncommitted"), "ISOLATION_LEVEL=read_uncommitted"),
    ],
)
def test_another_grid_or_isolation_is_refused(registration: Registration, words: str) -> None:
    """Cells of two grids would overlap; two isolations would mix."""
    with pytest.raises(Refused, match=words):
        resume(SOURCE, Found(0, 900, 70, progress(70), registration), "read_committed")


@pytest.mark.parametrize(
    ("repairs", "stored", "expected"),
    [
        ({}, None, Attempt()),
        ({}, progress(70), Attempt()),
        ({}, progress(70, "old"), Attempt(1, begins=True, reconcile=True, why=LOGIC_CHANGED)),
        ({0: Repair(1, "new")}, progress(70, "old"), Attempt(1, reconcile=True)),
        ({0: Repair(1, "new")}, progress(70), Attempt(1, reconcile=True)),
        ({0: Repair(1, "other")}, progress(70), Attempt(2, begins=True, reconcile=True, why=LOGIC_CHANGED)),
    ],
)
def test_generation(repairs: dict[int, Repair], stored: Progress | None, expected: Attempt) -> None:
    """Counts of another logic lose to the next generation; one this logic has begun is taken up again."""
    assert attempt(0, Found(0, 900, None, stored, REGISTERED, repairs), "new") == expected


def test_a_segment_nobody_has_counted_needs_no_new_generation() -> None:
    """A change of logic changes nothing for the segments after the open one."""
    assert attempt(SEGMENT, Found(0, 900, None, progress(70, "old"), REGISTERED), "new") == Attempt()


def test_what_a_torn_flush_of_another_logic_stored_beyond_the_progress_loses() -> None:
    """Cells of later segments may be there although no progress tells of them; they are another logic's too."""
    torn = Found(0, 900, None, progress(70, "old"), REGISTERED, highest_segment=2 * SEGMENT)
    again = Attempt(1, begins=True, reconcile=True, why=LOGIC_CHANGED)
    assert attempt(2 * SEGMENT, torn, "new") == again
    assert attempt(3 * SEGMENT, torn, "new") == Attempt()


def test_a_torn_first_flush_is_overwritten_in_its_own_generation() -> None:
    """Without any progress nobody knows which logic wrote: nothing is stored until all of it can be overwritten."""
    torn = Found(0, 9 * SEGMENT, None, None, REGISTERED, highest_segment=SEGMENT)
    assert attempt(SEGMENT, torn, "new") == Attempt(reconcile=True)
    assert resume(SOURCE, torn, "read_committed").quiet_until == 2 * SEGMENT


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (0, Attempt(1, begins=True, reconcile=True, why=COUNTED_AGAIN)),
        (2, Attempt(1, reconcile=True)),
        (3, Attempt()),
        (4, Attempt(2, begins=True, reconcile=True, why=COUNTED_AGAIN)),
    ],
)
def test_going_back_behind_a_change_of_logic_begins_a_generation(segment: int, expected: Attempt) -> None:
    """Set back by hand, closed segments that an older logic counted lose; those of this logic keep their generation."""
    repairs = {
        2 * SEGMENT: Repair(1, "new", "new"),  # here this logic came into force
        4 * SEGMENT: Repair(1, "other"),  # replayed by another one
    }
    found = Found(0, 9 * SEGMENT, 0, progress(8 * SEGMENT), REGISTERED, repairs)
    assert attempt(segment * SEGMENT, found, "new") == expected
