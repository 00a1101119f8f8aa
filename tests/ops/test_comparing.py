"""What a recount may write, decided without servers: rows of one version never differ, and nothing else is touched."""

from dataclasses import replace
from typing import Any, cast

import pytest

from orgstats.consumer.counting.cell_table import Cell, CellView
from orgstats.consumer.counting.cells import (
    COUNTS,
    FAMILIES,
    TOTALS,
    CountKey,
    Family,
    Key,
    Stored,
    StoredChunk,
    StoredDead,
    TotalKey,
)
from orgstats.consumer.counting.grid import CHUNK_LENGTH as CHUNK
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.partition import DeadRecord
from orgstats.consumer.counting.resume import Progress, Registration, Repair
from orgstats.consumer.counting.source import Source, version_of
from orgstats.consumer.ops.compare import ChunkDifference, RecountedChunk, compare
from orgstats.consumer.ops.connections import SourceStatus
from orgstats.consumer.ops.recount import HeadPolicy, OffsetRange
from orgstats.consumer.ops.spans import WantedOffsets, closed_span, whole_span, without
from orgstats.errors import Refused

SOURCE = Source("topic", "uuid", 0)
KEY = CountKey(1, 100, 7, 0, 1, 0, "")
TOTAL = TotalKey(1, 3600, 0)


def changes(count: tuple[int, ...] | None, stored: Stored | None, revision: int = 0, **more: Any) -> ChunkDifference:
    """One cell, counted and stored, of `counts` or of `totals` by the number of its values."""
    cells: dict[Family, dict[Key, CellView]] = {family: {} for family in FAMILIES}
    held: dict[Family, dict[Key, Stored]] = {family: {} for family in FAMILIES}
    family, key = (COUNTS, KEY) if len(count or (stored and stored.values) or ()) == 2 else (TOTALS, TOTAL)
    if count is not None:
        cells[family][key] = Cell(family, key, list(count))
    if stored is not None:
        held[family][key] = stored
    counted = RecountedChunk(SOURCE, 0, CHUNK, cells, more.get("dead", {}))
    return compare(counted, StoredChunk(held, more.get("held", {})), revision)


@pytest.mark.parametrize(
    ("counted", "stored", "conflict"),
    [
        ((5, 5), None, False),
        ((5, 5), Stored((3, 3), 900), False),
        ((5, 5), Stored((0, 0), 900), False),
        ((5, 5), Stored((7, 7), 900), True),
        ((5, 5), Stored((3, 5), 900), True),
        ((5, 5), Stored((3, 3), CHUNK), True),
        (None, Stored((3, 3), 900), True),
    ],
)
def test_only_what_is_missing_is_written_without_a_repair(counted: Any, stored: Any, conflict: bool) -> None:
    """A cell that is absent, or an older count of itself, is missing; any other value needs a revision."""
    found = changes(counted, stored)
    assert found.cells[COUNTS] == {KEY: (stored.values if stored else (0, 0), counted or (0, 0))}
    assert bool(found.conflicts) is conflict


@pytest.mark.parametrize(
    ("counted", "stored"), [((5, 5), Stored((5, 5), 900)), (None, Stored((0, 0), 1 << 50)), (None, None)]
)
def test_what_is_right_is_left_alone(counted: Any, stored: Any) -> None:
    """The same count at an older version, and a zero for what the log does not give, are no difference."""
    assert changes(counted, stored).count == 0


@pytest.mark.parametrize(
    ("counted", "stored", "conflict"),
    [
        ((5, 1, 0), None, False),
        ((5, 1, 0), Stored((5, 0, 0), 900), False),
        ((5, 1, 0), Stored((4, 2, 0), 900), True),
        ((5, 1, 0), Stored((5, 0, 0), CHUNK), True),
        (None, Stored((0, 0, 3), 900), True),
    ],
)
def test_totals_are_compared_like_any_cells(counted: Any, stored: Any, conflict: bool) -> None:
    """They have no number of events: a count that is nowhere more than the log gives may be an older one."""
    found = changes(counted, stored)
    assert (found.count, bool(found.conflicts)) == (1, conflict)
    before, after = stored.values if stored else (0, 0, 0), counted or (0, 0, 0)
    more = {stat: much for _, stat, _, much in found.by_stat()}
    assert more == {
        "received": sum(after) - sum(before),
        "rejected": after[2] - before[2],
        "blacklisted": after[1] - before[1],
    }


def test_a_repair_writes_in_its_own_revision() -> None:
    """Rows of a repair win over every older one, and lose to what is counted on from there."""
    found = changes(None, Stored((3, 3), version_of(1, CHUNK)), revision=2)
    assert found.version == version_of(2, CHUNK)
    assert found.dead_version(5) == version_of(2, 5)
    assert version_of(1, CHUNK + 7) < found.dead_version(CHUNK + 7) < version_of(2, CHUNK + 7)


def test_dead_letters_come_and_go_with_the_fingerprint() -> None:
    """A new one is added; one that decodes now, or for another reason not, needs a repair."""
    dead = {offset: DeadRecord(cast("Any", None), "not_json", "", 0) for offset in (1, 2, 3)}
    held = {
        1: StoredDead("not_json", "", False, 1),
        2: StoredDead("field_invalid", "", False, 2),
        4: StoredDead("not_json", "", False, 4),
        5: StoredDead("not_json", "", True, 5),
    }
    found = changes(None, None, dead=dead, held=held)
    assert (set(found.dead), set(found.withdrawn)) == ({2, 3}, {4})
    assert found.conflicts == {"dead letters for another reason": 1, "dead letters that can be decoded": 1}


def located(low: int = 0, counted: int = 3 * CHUNK + 5, first_offset: int = 0) -> SourceStatus:
    """A source as broker and store know it."""
    registration = Registration(Grid(), "read_committed", first_offset)
    repairs = {CHUNK: Repair(2, "fingerprint")}
    return SourceStatus(SOURCE, low, counted + 10, Progress(counted, "fingerprint"), registration, repairs)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (WantedOffsets(), (0, 3 * CHUNK)),
        (WantedOffsets(5, 6), (0, CHUNK)),
        (WantedOffsets(CHUNK, CHUNK + 1), (CHUNK, 2 * CHUNK)),
        (WantedOffsets(CHUNK - 1, CHUNK + 1), (0, 2 * CHUNK)),
        (WantedOffsets(CHUNK, None), (CHUNK, 3 * CHUNK)),
        (WantedOffsets(3 * CHUNK, None), None),
    ],
)
def test_a_range_is_rounded_outward_to_closed_chunks(wanted: WantedOffsets, expected: tuple[int, int] | None) -> None:
    """The chunks that hold the wanted offsets, never the open one."""
    span, _ = closed_span(located(), wanted, HeadPolicy.refuse)
    assert (span and (span.first, span.end)) == expected


def test_the_open_chunk_is_said_to_be_left_out() -> None:
    """Whoever asks for its offsets is told that the consumers have it."""
    _, notes = closed_span(located(), WantedOffsets(0, 3 * CHUNK + 2), HeadPolicy.refuse)
    assert "open" in notes[0]


def test_a_deleted_head_is_refused_unless_told_what_to_do() -> None:
    """An explicit range is refused; without one it begins with the first whole chunk, or where counting began."""
    with pytest.raises(Refused, match="--head"):
        closed_span(located(low=10), WantedOffsets(0, None), HeadPolicy.refuse)
    for wanted, head, first in (
        (WantedOffsets(), HeadPolicy.refuse, CHUNK),
        (WantedOffsets(0, None), HeadPolicy.skip, CHUNK),
        (WantedOffsets(0, None), HeadPolicy.keep, 0),
        (WantedOffsets(0, None), HeadPolicy.drop, 0),
    ):
        span, _ = closed_span(located(low=10), wanted, head)
        assert span is not None
        assert span.first == first
    span, notes = closed_span(located(low=10, first_offset=10), WantedOffsets(0, None), HeadPolicy.refuse)
    assert (span and span.first, notes) == (0, [])


def test_a_rewind_needs_a_word_for_a_head_in_the_open_chunk() -> None:
    """What is left of it must be recounted for the consumers to go on, so only dropping its head will do.

    So too where the log goes on behind that chunk, of which nobody has counted the rest.
    """
    short = located(low=10, counted=50)
    for one in (short, replace(short, end=2 * CHUNK)):
        for head in (HeadPolicy.refuse, HeadPolicy.skip):
            with pytest.raises(Refused, match="--head"):
                whole_span(one, head)
        assert whole_span(one, HeadPolicy.drop)[0].first == 0


def test_done_chunks_are_not_read_again() -> None:
    """What is left of a span around the chunks that are done."""
    span = OffsetRange(located(), 0, 4 * CHUNK)
    assert [(one.first, one.end) for one in without(span, [CHUNK])] == [(0, CHUNK), (2 * CHUNK, 4 * CHUNK)]
    assert without(span, [0, CHUNK, 2 * CHUNK, 3 * CHUNK]) == []
