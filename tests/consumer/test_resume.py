"""Where counting goes on, as a table: what broker and store say, and what follows."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orgstats.consumer.counting.grid import CHUNK_LENGTH, Grid
from orgstats.consumer.counting.resume import (
    COUNTED_AGAIN,
    FINGERPRINT_CHANGED,
    LOG_CUT_BACK,
    TORN,
    Attempt,
    Progress,
    Registration,
    Repair,
    SourceFacts,
    attempt,
    counted_below,
    refuse_other_isolation,
    resume,
)
from orgstats.consumer.counting.source import Source
from orgstats.consumer.cutback import with_cut
from orgstats.errors import Refused

SOURCE = Source("events", "uuid", 3)
CHUNK = CHUNK_LENGTH
K = CHUNK // 128  # about a thousand offsets of a chunk as long as in production
REGISTERED = Registration(Grid(), "read_committed")


def progress(next_offset: int, fingerprint: str = "new") -> Progress:
    return Progress(next_offset, fingerprint)


def test_first_start_begins_at_the_earliest_record() -> None:
    """A source nobody has counted begins at the log's start, and what retention took before is no gap."""
    start = resume(SourceFacts(low=500, end=900))
    assert (start.start, start.catching_up_until, start.gap) == (500, 500, None)


def test_restart_counts_again_from_the_start_of_the_chunk() -> None:
    """The chunk of the commit is counted from its first offset, quietly until the commit is reached."""
    found = SourceFacts(0, 10 * CHUNK, CHUNK + 70, progress(CHUNK + 70), REGISTERED)
    start = resume(found)
    assert (start.start, start.catching_up_until, start.load_stored, start.gap) == (CHUNK, CHUNK + 70, False, None)


def test_head_gone_loads_stored_cells() -> None:
    """With the head of the chunk deleted a recount would be smaller, so stored cells are the ground."""
    found = SourceFacts(50, 900, 70, progress(70), REGISTERED)
    start = resume(found)
    assert (start.start, start.catching_up_until, start.load_stored, start.gap) == (70, 70, True, None)


def test_deleted_before_counted_is_a_gap_of_exactly_the_missing_offsets() -> None:
    """Retention past the position: go on at the log's start and list what is missing."""
    start = resume(SourceFacts(200, 900, 70, progress(70), REGISTERED))
    assert (start.start, start.load_stored, start.gap, start.gap_why) == (200, True, (70, 200), "retention")


def test_commit_set_back_is_read_again_without_a_gap() -> None:
    """Records that were counted and then deleted are not missing when an operator sets the offsets back.

    What is left of a chunk without its head cannot be counted again; what was counted of it stays.
    """
    start = resume(SourceFacts(200, 900, 0, progress(500), REGISTERED))
    assert (start.start, start.load_stored, start.gap) == (500, True, None)
    start = resume(SourceFacts(200, 2 * CHUNK, 0, progress(CHUNK + 9), REGISTERED))
    assert (start.start, start.load_stored, start.gap) == (CHUNK, False, None)


def test_commit_ahead_of_the_store_goes_back_to_the_store() -> None:
    """A store restored from an older copy is counted up from where it ends."""
    start = resume(SourceFacts(0, 9 * CHUNK, 5 * CHUNK, progress(CHUNK + 5), REGISTERED))
    assert (start.start, start.catching_up_until, start.went_back_from) == (CHUNK, CHUNK + 5, 5 * CHUNK)


def test_an_empty_store_with_a_commit_counts_what_the_log_has() -> None:
    """A store that has lost everything lists what the log no longer holds."""
    start = resume(SourceFacts(300, 900, 800))
    assert (start.start, start.gap, start.went_back_from) == (300, (0, 300), 800)


def test_accepted_skip_is_a_gap_of_whole_chunks() -> None:
    """What is skipped by hand is listed, and the chunk of the commit is counted whole."""
    found = SourceFacts(0, 9 * CHUNK, 5 * CHUNK + 9, progress(CHUNK + 5), REGISTERED)
    start = resume(found, accept_skip=True)
    assert (start.start, start.gap) == (5 * CHUNK, (CHUNK + 5, 5 * CHUNK))
    assert start.gap_why == "skip accepted"


OFFSETS = st.integers(0, 4 * CHUNK)


@given(
    offsets=st.lists(OFFSETS, min_size=4, max_size=4).map(sorted),
    committed=st.none() | OFFSETS,
    counted=st.none() | OFFSETS,
    registered=st.booleans(),
    accept_skip=st.booleans(),
)
@example(offsets=[0, 0, 280 * K, 400 * K], committed=300 * K, counted=K, registered=True, accept_skip=True)
@example(offsets=[0, 0, 400 * K, 500 * K], committed=300 * K, counted=K, registered=True, accept_skip=True)
def test_every_offset_below_the_position_is_counted_or_listed(
    offsets: list[int], committed: int | None, counted: int | None, *, registered: bool, accept_skip: bool
) -> None:
    """In every combination of counted, commit, low, end and option, nothing lies between what is counted and read."""
    first, _, low, end = offsets
    stored = None if counted is None else progress(min(max(counted, first), end))
    registration = Registration(Grid(), "read_committed", first) if registered or stored else None
    found = SourceFacts(low, end, committed, stored, registration)
    start = resume(found, accept_skip=accept_skip)
    below = counted_below(found)
    assert low <= start.start <= max(start.catching_up_until, end)
    missing = (below, start.start) if below < start.start else None
    assert start.gap == missing
    assert start.start % CHUNK == 0 or start.load_stored
    assert start.load_stored == (low > Grid().chunk_of(start.start))
    if missing and missing[1] > low:  # what the log still has is left out only as far as the commit's chunk
        assert accept_skip
        assert missing[1] == Grid().chunk_of(min(committed or 0, end))


def test_after_a_cut_counting_goes_on_where_the_log_was_cut() -> None:
    """The commit from before is not gone back from; what is read again has a new revision, once."""
    cut = Progress(940, "new", rewinds=1, cut_at=940, cut_to=2 * CHUNK)
    found = with_cut(SourceFacts(0, 1100, CHUNK + 3, cut, REGISTERED))
    start = resume(found, accept_skip=True)
    assert (start.start, start.catching_up_until, start.gap) == (0, 940, None)
    assert attempt(0, found, "new") == Attempt(1, begins=True, reconcile=True, why=LOG_CUT_BACK)
    begun = replace(found, repairs={0: Repair(1, "new", rewinds=1)})
    assert attempt(0, begun, "new") == Attempt(1, reconcile=True)
    assert attempt(2 * CHUNK, found, "new") == Attempt()


def test_another_isolation_is_refused() -> None:
    """The counts would mix both. A new source is counted by any."""
    refuse_other_isolation(SOURCE, None, "read_uncommitted")
    refuse_other_isolation(SOURCE, REGISTERED, "read_committed")
    with pytest.raises(Refused, match="ISOLATION_LEVEL=read_committed"):
        refuse_other_isolation(SOURCE, REGISTERED, "read_uncommitted")


@pytest.mark.parametrize(
    ("repairs", "stored", "expected"),
    [
        ({}, None, Attempt()),
        ({}, progress(70), Attempt()),
        ({}, progress(70, "old"), Attempt(1, begins=True, reconcile=True, why=FINGERPRINT_CHANGED)),
        ({0: Repair(1, "new")}, progress(70, "old"), Attempt(1, reconcile=True)),
        ({0: Repair(1, "new")}, progress(70), Attempt(1, reconcile=True)),
        ({0: Repair(1, "other")}, progress(70), Attempt(2, begins=True, reconcile=True, why=FINGERPRINT_CHANGED)),
    ],
)
def test_revision(repairs: dict[int, Repair], stored: Progress | None, expected: Attempt) -> None:
    """Counts of another fingerprint lose to the next revision; one this fingerprint has begun is taken up again."""
    assert attempt(0, SourceFacts(0, 900, None, stored, REGISTERED, repairs), "new") == expected


@pytest.mark.parametrize(("found", "expected"), [({}, False), ({"begun": 70}, True), ({"highest_chunk": 0}, True)])
def test_cells_of_a_first_flush_that_was_torn_are_looked_for_where_one_was_begun(
    found: dict[str, Any], expected: bool
) -> None:
    """Each flush tells how far it goes before it stores a cell; so of a topic that is new nothing is asked."""
    assert attempt(0, SourceFacts(0, 900, registration=REGISTERED, **found), "new", is_first=True).reconcile == expected


def test_a_chunk_nobody_has_counted_needs_no_new_revision() -> None:
    """A change of fingerprint changes nothing for the chunks after the open one."""
    assert attempt(CHUNK, SourceFacts(0, 900, None, progress(70, "old"), REGISTERED), "new") == Attempt()


def test_a_change_is_recorded_behind_what_was_skipped() -> None:
    """Else chunks before the skip would be taken for counts of the new fingerprint when they are counted again."""
    found = SourceFacts(0, 9 * CHUNK, 5 * CHUNK, progress(70, "old"), REGISTERED)
    begun = Attempt(1, begins=True, reconcile=True, why=FINGERPRINT_CHANGED)
    assert attempt(5 * CHUNK, found, "new", is_first=True) == begun
    afterwards = SourceFacts(
        0, 9 * CHUNK, 0, progress(5 * CHUNK + 3), REGISTERED, {5 * CHUNK: Repair(1, "new", new_fingerprint="new")}
    )
    again = Attempt(1, begins=True, reconcile=True, why=COUNTED_AGAIN)
    assert attempt(0, afterwards, "new") == again
    assert attempt(5 * CHUNK, found, "old", is_first=True) == Attempt()


def test_what_a_torn_flush_of_another_fingerprint_stored_beyond_the_progress_loses() -> None:
    """Cells of later chunks may be there although no progress tells of them; they are another fingerprint's too."""
    torn = SourceFacts(0, 900, None, progress(70, "old"), REGISTERED, highest_chunk=2 * CHUNK)
    again = Attempt(1, begins=True, reconcile=True, why=FINGERPRINT_CHANGED)
    assert attempt(2 * CHUNK, torn, "new") == again
    assert attempt(3 * CHUNK, torn, "new") == Attempt()


def test_a_torn_first_flush_is_overwritten_in_its_own_revision() -> None:
    """Without progress nobody knows which fingerprint wrote: nothing is stored until all can be overwritten."""
    torn = SourceFacts(0, 9 * CHUNK, None, None, REGISTERED, highest_chunk=CHUNK, begun=2 * CHUNK)
    assert attempt(CHUNK, torn, "new") == Attempt(1, begins=True, reconcile=True, why=TORN)
    assert resume(torn).catching_up_until == 2 * CHUNK


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (0, Attempt(1, begins=True, reconcile=True, why=COUNTED_AGAIN)),
        (2, Attempt(1, reconcile=True)),
        (3, Attempt()),
        (4, Attempt(2, begins=True, reconcile=True, why=COUNTED_AGAIN)),
    ],
)
def test_going_back_behind_a_change_of_fingerprint_begins_a_revision(chunk: int, expected: Attempt) -> None:
    """Set back by hand, chunks that an older fingerprint counted lose; those of this one keep their revision."""
    repairs = {
        2 * CHUNK: Repair(1, "new", "new"),  # here this fingerprint came into force
        4 * CHUNK: Repair(1, "other"),  # replayed by another one
    }
    found = SourceFacts(0, 9 * CHUNK, 0, progress(8 * CHUNK), REGISTERED, repairs)
    assert attempt(chunk * CHUNK, found, "new") == expected
