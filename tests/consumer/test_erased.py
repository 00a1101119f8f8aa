"""An erased organization in the counting: what counts as what, in memory, by the daemon's way and the reference's."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgstats.consumer.counting.batch import BatchCounter
from orgstats.consumer.counting.cells import COUNTS, FAMILIES, CountKey, Key, Stored, StoredChunk
from orgstats.consumer.counting.chunk import Chunk, Tally
from orgstats.consumer.counting.decode import AgeLimits, named_organizations
from orgstats.consumer.counting.partition import Partition
from orgstats.consumer.counting.reference import ReferenceCounter
from orgstats.consumer.counting.resume import Attempt, Resume
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source
from orgstats.consumer.store.rows import dead_letter
from orgstats.consumer.store.rules import editions
from orgstats.schemas.tables import ErasureRow, RulesRow
from tests.support.record import FakeRecord as Record

DAY = 86_400
MARKS = 1 << 63
NOW = datetime(2026, 11, 1, tzinfo=UTC)

events = st.fixed_dictionaries(
    {"timestamp": st.integers(1_700_000_000, 1_700_000_000 + 2 * DAY), "org_id": st.integers(0, 3)},
    optional={
        "project_id": st.integers(0, 2),
        "key_id": st.integers(0, 2),
        "category": st.sampled_from([0, 1, 2, 3, 255]),
        "outcome": st.integers(0, 9),
        "reason": st.sampled_from(["", "a", "b" * 70]),
        "quantity": st.integers(0, 5),
    },
)


def partition(erased: frozenset[int]) -> Partition:
    """A partition that knows who is erased."""
    batch = BatchCounter(AgeLimits(), RuleHistory((), ("0",), erased))
    return Partition(Source("t", "u", 0), Resume(0, 0), batch, lambda _: Attempt(0))


def records(values: list[dict[str, object]]) -> list[Record]:
    """One record each, at the time of its event."""
    return [
        Record(offset, json.dumps(value).encode(), int(str(value["timestamp"])) * 1000)
        for offset, value in enumerate(values)
    ]


@given(st.lists(events, max_size=30), st.frozensets(st.integers(0, 3), max_size=3))
def test_of_an_erased_one_the_day_is_left_and_of_others_everything(
    values: list[dict[str, object]], erased: frozenset[int]
) -> None:
    """Cells of others are those without any erasure; the rest is as many events, by day and in no stat."""
    run = records(values)
    counted, plain = partition(erased), partition(frozenset())
    counted.count(run)
    plain.count(run)
    cells, before = cells_of(counted), cells_of(plain)
    for table in ("counts", "hourly", "totals"):
        others = {key: values for key, values in before[table].items() if key[0] not in erased}
        assert {key: one for key, one in cells[table].items() if not is_marked(table, key)} == others
    wanted: Counter[tuple[int, int]] = Counter()
    for key, (_, number) in before["counts"].items():
        if key[0] in erased:
            wanted[int(str(key[0])), int(str(key[1])) // DAY * DAY] += number
    marked = {key: one for key, one in cells["counts"].items() if is_marked("counts", key)}
    assert sorted(one[1] for one in marked.values()) == sorted(wanted.values())
    assert {key[:2] + key[3:] for key in marked} <= {(0, day, 0, 255, 0, "erased") for _, day in wanted}
    reference = ReferenceCounter(AgeLimits(), RuleHistory(), erased=erased)
    reference.take(run)
    assert cells == reference.counted.cells


def cells_of(counting: Partition) -> dict[str, dict[tuple[object, ...], tuple[int, ...]]]:
    """Every cell that holds something, by table."""
    counting.take()
    return {
        family.table: {tuple(key): cell.row_values() for key, cell in counting.chunk.cells[family].items()}
        for family in FAMILIES
    }


def is_marked(table: str, key: tuple[object, ...]) -> bool:
    """Whether a cell is of events of an erased organization."""
    return table != "totals" and key[0] == 0 and int(str(key[2])) >= MARKS


def test_reasons_of_others_are_those_that_they_were() -> None:
    """A chunk keeps the first thousand reasons, those of the erased one among them, or others would change."""
    values = [{"timestamp": 1_700_000_000, "org_id": 1 + n % 2, "outcome": 2, "reason": f"r{n}"} for n in range(2_100)]
    counted, plain = partition(frozenset({1})), partition(frozenset())
    counted.count(records(values))
    plain.count(records(values))
    of_two = [{key: one for key, one in cells_of(p)["counts"].items() if key[0] == 2} for p in (counted, plain)]
    assert of_two[0] == of_two[1]
    assert any(key[6] == "other" for key in of_two[0])


@pytest.mark.parametrize(("stored", "org_id"), [(3, 1), (0, 0)])
def test_without_its_head_a_chunk_goes_on_where_its_events_are(stored: int, org_id: int) -> None:
    """In a chunk whose stored cells hold events of it they stay with it, or they would be in two places."""
    key = CountKey(1, 1_700_000_000, 1, 0, 1, 0, "")
    chunk = Chunk(0, erased={1})
    chunk.load({COUNTS: {key: Stored((stored, stored), 5)}})
    chunk.next_offset = 9
    chunk.add([(Tally(1, 1, None, 1_700_000_000, 1, 0, None, None), 4)])
    touched = chunk.take().rows[COUNTS]
    assert [(key.org_id, values[1]) for key, values in touched] == [(org_id, stored + 4)]


def test_what_is_moved_and_not_deleted_yet_is_left_out() -> None:
    """An audit in between counts no event twice."""
    key = CountKey(1, 1_700_000_000, 1, 0, 1, 0, "")
    later = key._replace(bucket=key.bucket + DAY)
    other = key._replace(org_id=2)
    chunk = Chunk(0, erased={1})
    chunk.add([(Tally(1, 1, None, key.bucket, 1, 0, None, None), 3)])
    [moved] = chunk.cells[COUNTS]
    held = StoredChunk(
        {family: {} for family in FAMILIES} | {COUNTS: dict.fromkeys((key, later, other, moved), Stored((3, 3), 5))}
    )
    assert held.without_moved({1}).cells[COUNTS].keys() == {later, other, moved}
    assert held.without_moved({1}).holds({1}) == {1}
    assert held.without_moved(set()) is held
    taken_back = {**held.cells[COUNTS], moved: Stored((0, 0), 5)}  # its tombstone was gone with a restored store
    again = replace(held, cells={**held.cells, COUNTS: taken_back})
    assert again.without_moved({1}) is again


def test_dead_letters_that_name_it_keep_only_their_place() -> None:
    """Neither key nor headers nor payload; those of others keep everything."""
    counted = partition(frozenset({1}))
    broken = [b'{"org_id": "1", "secret": 1}', b'{"org_id": 12, "shown": 1}', b'{"org_id": 1', b""]
    counted.count([Record(n, value, 1_700_000_000_000) for n, value in enumerate(broken)])
    rows = [dead_letter(Source("t", "u", 0), dead) for dead in counted.take().notes.dead_letters]
    assert [row[7] for row in rows] == [b"", broken[1], b"", b""]
    assert [row[8] for row in rows] == [len(value) for value in broken]
    assert named_organizations(b'[{"org_id": 01}, {"org_id":\n"2"' + b"\xff") == {1, 2}
    assert named_organizations(b'"org_id": ' + b"9" * 100_000) == {int("9" * 20)}


def test_what_a_cut_off_consumer_stored_again_is_not_gone_on_from() -> None:
    """Its events are in the day's cell already: else those that follow would be counted beside it, and then lost."""
    key = CountKey(1, 1_700_000_000, 1, 0, 1, 0, "")
    counted = partition(frozenset({1}))
    counted.count([Record(0, b'{"timestamp": 1700000000, "org_id": 1}', 1_700_000_000_000)])
    counted.take()
    [day] = counted.chunk.cells[COUNTS]
    resumed = partition(frozenset({1}))
    resumed.load(StoredChunk({COUNTS: {day: Stored((5, 5), 9), key: Stored((3, 3), 5)}}))
    resumed.chunk.next_offset = 9
    resumed.count([Record(9, b'{"timestamp": 1700000000, "org_id": 1}', 1_700_000_000_000)])
    [part] = resumed.take().chunks
    assert part.rows[COUNTS] == [(day, (6, 6))]


def test_zeros_of_an_erased_one_are_not_written_again() -> None:
    """They may be deleted by then, and would be there again; of others, and where it is none, a zero is written."""
    zero, held, other = (CountKey(org_id, 1_700_000_000, 1, 0, 1, 0, "") for org_id in (1, 2, 3))
    counted = partition(frozenset({1, 2}))
    counted._reconcile[0] = set()
    stored: dict[Key, Stored] = {zero: Stored((0, 0), 5), held: Stored((3, 3), 5), other: Stored((0, 0), 5)}
    counted.reconcile(counted.chunk, StoredChunk({COUNTS: stored}))
    [part] = counted.take().chunks
    assert part.rows[COUNTS] == [(held, (0, 0)), (other, (0, 0))]


def test_each_erasure_makes_an_edition_by_which_closed_chunks_count_alike() -> None:
    """Who voids and who erases in the same moment end at one edition, in whatever order it is read."""
    never = datetime.fromtimestamp(0, UTC)
    void = RulesRow("e", 1, NOW, "", "", NOW, "", NOW + timedelta(seconds=1))
    kept = void._replace(entry_id="f", voided_at=never)
    first, second = ErasureRow(7, "", NOW, True), ErasureRow(5, "", NOW + timedelta(seconds=2), False)
    found = editions([void, kept], [first, second])
    assert len(set(found)) == len(found) == 4
    assert found[-1] == editions([kept, void], [second, first])[-1]
    history = RuleHistory((), found, {5, 7})
    assert history.alike == list(found[2:])
    assert editions([kept]) == ("0",)
