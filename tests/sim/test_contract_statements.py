"""What operators' statements answer and change, in the simulation (sql.py) and on the real engine alike."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orgstats.consumer.counting.cells import COUNTS, FAMILIES, TOTALS, Family, erased_mark
from orgstats.consumer.counting.source import version_of
from orgstats.consumer.ops import erase, jobs, stored, undo
from orgstats.consumer.ops.dead_letters import Destination, Filter, find, mark, uncertain
from orgstats.consumer.store.rows import instant
from orgstats.consumer.store.rules import erasures
from orgstats.consumer.store.store import Store
from orgstats.errors import ConfigurationError, Refused, Unavailable
from orgstats.schemas.tables import TABLES
from tests.sim.store_rows import DAY, GRID, LENGTH, SOURCE, cell, insert, know, letter, progress, replaced

OF = SOURCE.source_id
NOW = instant(1_700_000_000_000)


def values(store: Store, chunk: int = 0) -> list[list[tuple[int, int]]]:
    """By table: (first value, version) of each cell of a chunk."""
    found = store.chunk(SOURCE, chunk, chunk + LENGTH).cells
    return [sorted((one.values[0], one.version) for one in found[family].values()) for family in FAMILIES]


def dead(store: Store, chunk: int = 0) -> dict[int, tuple[str, bool, int]]:
    """(reason, withdrawn, version) by offset."""
    found = store.chunk(SOURCE, chunk, chunk + LENGTH).dead
    return {offset: (one.code, one.withdrawn, one.version) for offset, one in found.items()}


def repaired(store: Store) -> jobs.Replay:
    """A replay that has counted chunk 0 again, in revision 1, and found other cells and one dead letter less."""
    replay = jobs.begin(store, "repair", {}, "f", [(OF, 0, LENGTH)], "me")
    know(store, 0, LENGTH)
    insert(store, "repairs", (OF, 0, 1, 0, "f", replay.name, NOW))
    insert(store, "dead_letters", letter(3, 3), letter(4, 4))
    for family in FAMILIES:
        insert(store, family.table, cell(family, 9, version_of(1, LENGTH)), cell(family, 2, LENGTH, chunk=LENGTH))
        row = replaced(replay.replay_id, family, 5)
        insert(store, family.replaced, row)
        insert(store, family.replaced, row)  # a replay that was killed and went on keeps it twice
        insert(store, family.replaced, replaced("another", family, 77))
    insert(store, "replaced_dead_letters", (replay.replay_id, OF, 0, 4, "not_json", "why", False, NOW))
    withdraw(store, [4], revision=1, next_offset=10)
    jobs.finish(store, replay, jobs.Step.done)
    return replay


def withdraw(store: Store, offsets: list[int], *, revision: int, next_offset: int) -> None:
    """As a repair does with dead letters that are none."""
    counted = SimpleNamespace(source=SOURCE, chunk=0, next_offset=next_offset)
    changes = SimpleNamespace(
        withdrawn=offsets, counted=counted, revision=revision, dead_version=lambda at: version_of(revision, at + 100)
    )
    stored._withdraw(store, cast("Any", changes))


def connections(store: Store) -> Any:
    """As much of them as these commands use."""
    return SimpleNamespace(store=store)


def test_dead_letters_are_withdrawn_at_the_version_of_their_offset(store: Store) -> None:
    """Those beyond what was counted, in the log as it was, all at one version."""
    insert(store, "dead_letters", *(letter(at, at) for at in (3, 4, 30, 31, 32)))
    withdraw(store, [4, 30, 31], revision=1, next_offset=10)
    assert dead(store) == {
        3: ("not_json", False, 3),
        4: ("not_json", True, version_of(1, 4)),
        30: ("not_json", True, version_of(1, 130)),
        31: ("not_json", True, version_of(1, 130)),
        32: ("not_json", False, 32),
    }


def test_of_each_replay_the_last_step_counts(store: Store) -> None:
    """In whatever order they come, and of its chunks too."""
    first = jobs.begin(store, "repair", {"a": 1}, "f", [(OF, 0, LENGTH), (OF, LENGTH, 2 * LENGTH)], "me")
    jobs.finish(store, first, jobs.Step.undone)
    jobs.finish(store, first, jobs.Step.done)
    (found,) = jobs.ls(store)
    assert (found.replay_id, found.step, found.ranges) == (first.replay_id, jobs.Step.undone, first.ranges)
    assert jobs.unfinished(store, "repair", {"a": 1}, "f") is None
    second = jobs.begin(store, "repair", {"a": 1}, "f", [], "me")
    wanted = [second.replay_id, first.replay_id]
    assert [one.replay_id for one in jobs.ls(store)] in (wanted, sorted(wanted))  # both within a millisecond
    for chunk, step in ((LENGTH, 1), (0, 2), (0, 1)):
        insert(store, "replay_chunks", (first.replay_id, OF, chunk, 3, 5, step, NOW))
    insert(store, "replay_chunks", (second.replay_id, OF, 0, 4, 6, 1, NOW))
    assert [(one.chunk, one.revision, one.changes, one.step) for one in jobs.chunks(store, first)] == [
        (0, 3, 5, jobs.ChunkStep.done),
        (LENGTH, 3, 5, jobs.ChunkStep.begun),
    ]


def test_undo_writes_what_was_replaced_in_yet_another_revision(store: Store) -> None:
    """In each table, and the dead letters; other chunks and what other replays have kept stay as they are."""
    replay = repaired(store)
    before = values(store)
    assert before == [[(9, version_of(1, LENGTH))]] * 3
    assert dead(store)[4] == ("not_json", True, version_of(1, 4))
    found, chunks = undo.undo(connections(store), None, execute=False)
    assert (found.replay_id, chunks, values(store)) == (replay.replay_id, 1, before)
    undo.undo(connections(store), None, execute=True)
    assert values(store) == [[(5, version_of(2, GRID.chunk_end(0)))]] * 3
    assert values(store, LENGTH) == [[(2, LENGTH)]] * 3
    assert dead(store) == {3: ("not_json", False, 3), 4: ("not_json", False, version_of(2, 4))}
    repair = store.repairs([SOURCE])[OF][0]
    assert (repair.revision, repair.fingerprint) == (2, f"undo of {replay.name}")
    with pytest.raises(ConfigurationError, match="undone already"):
        undo.undo(connections(store), replay.replay_id, execute=True)


def test_undo_that_is_asked_again_comes_to_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed before it could tell that it was done: its own revision does not stop it."""
    replay = repaired(store)
    with monkeypatch.context() as killed:
        killed.setattr(jobs, "finish", lambda *_: None)
        undo.undo(connections(store), replay.replay_id, execute=True)
    after = values(store), dead(store)
    undo.undo(connections(store), replay.replay_id, execute=True)
    assert (values(store), dead(store)) == after
    assert jobs.ls(store)[0].step is jobs.Step.undone


def test_undo_is_refused_where_a_chunk_was_counted_again_since(store: Store) -> None:
    """Nobody knows what to go back to; nothing is changed."""
    replay = repaired(store)
    insert(store, "repairs", (OF, 0, 2, 0, "f", "replay other", NOW))
    before = values(store)
    with pytest.raises(Refused, match="replay other"):
        undo.undo(connections(store), replay.replay_id, execute=True)
    assert values(store) == before


def test_what_was_sent_is_redriven_when_it_was_counted_and_lost_when_it_was_deleted_before(store: Store) -> None:
    """Counted from offset 7 on, up to 20; 9 is listed as deleted, 3 was deleted before anybody counted."""
    insert(store, "dead_letters", *(letter(at, at) for at in (31, 32, 33, 34, 35, 36)))
    insert(store, "progress", progress(20))
    insert(store, "gaps", (OF, 9, 10, "retention", NOW), (OF, 12, 13, "log cut back", NOW))
    put = [Destination("events", [0, 0, 0, 3], OF, at) for at in (3, 9, 12, 25)]
    first = find(store, Filter(), 100)
    mark(store, first[:4], "sent", "me", put)
    mark(store, first[4:5], "redriving", "me", [Destination("events", [0, 0, 0, 3], OF, 0)])
    found = {
        action: [one.offset for one in find(store, Filter(actions=(action,)), 100)]
        for action in ("lost", "redriven", "sent", "redriving", "")
    }
    assert found == {"lost": [31, 32], "redriven": [33], "sent": [34], "redriving": [35], "": [36]}
    assert [one.offset for one in find(store, Filter(), 2, after=first[0])] == [32, 34]
    assert [(one.offset, one.target_ends) for one in uncertain(store, Filter())] == [(35, [0, 0, 0, 3])]


def rows_of(store: Store, org_id: int) -> list[list[tuple[int, int, int]]]:
    """By table: (chunk, first value, version) of each cell of an organization."""
    found = []
    for family in FAMILIES:
        every = [
            one for chunk in (0, LENGTH) for one in store.chunk(SOURCE, chunk, chunk + LENGTH).cells[family].items()
        ]
        found.append(sorted((one.version, one.values[0], key.bucket) for key, one in every if key.org_id == org_id))
    return found


def day_of_nobody(family: Family, version: int) -> Sequence[Any]:
    """Of organization 1, which is erased, a cell of a day that is 0."""
    row: Any = TABLES[family.table](*cell(family, 0, version))
    row = row._replace(
        org_id=0, bucket=DAY, project_id=erased_mark(1), category=255, outcome=0, reason="erased", events=0
    )
    return row._replace(key_id=0) if family is COUNTS else row  # type: ignore[no-any-return]


def test_an_erased_organization_is_moved_once_and_deleted_where_nobody_counts_any_more(store: Store) -> None:
    """Each day of a closed chunk is one cell of its latest version; the open chunk is left until it holds 0 of it."""
    insert(store, "progress", progress(LENGTH + 5))
    insert(store, "erasures", (1, "me", instant(1_600_000_000_000), False))
    know(store, 0, LENGTH)
    named, other = b'{"org_id": "1", "timestamp": "x"}', b'{"org_id": 11}'
    insert(
        store,
        "dead_letters",
        *((*letter(at, at)[:7], value, *letter(at, at)[8:]) for at, value in ((3, named), (4, other))),
    )
    for family in FAMILIES:
        insert(store, family.table, cell(family, 2, 40), cell(family, 3, 50), cell(family, 4, LENGTH + 5, chunk=LENGTH))
        insert(store, family.replaced, replaced("some", family, 77))
        if family is not TOTALS:  # of somebody who knew a tombstone, and took it back
            insert(store, family.table, day_of_nobody(family, 60))
    before = rows_of(store, 1)
    topics = SimpleNamespace(describe=lambda _names: {SOURCE.topic: (SOURCE.topic_id, 5)})
    where: Any = SimpleNamespace(store=store, topics=topics, settings=SimpleNamespace(topic_id=None))
    assert erase.holding(where, 1).events == 2  # of each chunk one: the others are quantities
    with pytest.raises(Unavailable, match="but for 1 chunks"):
        erase.erase(where, 1, "me", lambda _text: None, wait_seconds=0)
    assert rows_of(store, 1) == [rows[-1:] for rows in before]
    moved = [(61, 3, DAY)]
    assert rows_of(store, 0) == [moved if family is not TOTALS else [] for family in FAMILIES]
    assert erase.holding(where, 1).rows["replaced_counts"] == 0
    assert erase.holding(where, 1).dead_letters == 0
    letters = {one.offset: one.payload for one in find(store, Filter(handled=True), 10)}
    assert letters == {3: b"", 4: other}
    for family in FAMILIES:
        zero = [*cell(family, 0, version_of(1, LENGTH + 5), chunk=LENGTH)]
        zero[-1 - len(family.values) : -1] = [0] * len(family.values)
        insert(store, family.table, zero)
    erase.erase(where, 1, "me", lambda _text: None, wait_seconds=0)
    erase.erase(where, 1, "me", lambda _text: None, wait_seconds=0)
    assert rows_of(store, 0) == [moved if family is not TOTALS else [] for family in FAMILIES]
    assert [row.done for row in store.run(erasures)] == [True]
