"""What operators' statements answer and change, in the simulation (sql.py) and on the real engine alike."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.source import version_of
from orgstats.consumer.ops import jobs, stored, undo
from orgstats.consumer.ops.dead_letters import Destination, Filter, find, mark, uncertain
from orgstats.consumer.store.rows import instant
from orgstats.consumer.store.store import Store
from orgstats.errors import ConfigurationError, Refused
from tests.sim.store_rows import GRID, LENGTH, SOURCE, cell, insert, know, letter, progress, replaced

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
