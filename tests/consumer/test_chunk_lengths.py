"""The real loop while the chunk length changes: rebalances, consumers that were cut off, proposals left over."""

import json
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest

from orgstats.consumer.counting.grid import MARGIN_CHUNKS, SHORTEST, Grid
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.ops import chunk_length
from orgstats.consumer.store.chunk_lengths import State
from orgstats.errors import ConfigurationError, Refused, Unavailable
from tests.sim.clickhouse import Fault, Planned
from tests.sim.operating import change_length, connections, plan
from tests.sim.world import SimProcess, SimWorld
from tests.support.record import FakeRecord

A, B = ("events", 0), ("events", 1)
L = SHORTEST
HISTORIES = 60


Values = Counter[tuple[object, ...]]
"""Quantities by table and key."""


def one_pass(records: Iterable[FakeRecord]) -> Values:
    """What one pass over records gives in each of the three tables."""
    values: Values = Counter()
    for record in records:
        event = json.loads(record.body or b"")
        org, second, outcome, quantity = (event[name] for name in ("org_id", "timestamp", "outcome", "quantity"))
        for table, width in (("counts", 10), ("hourly", 3600)):
            values[table, org, second // width * width, outcome] += quantity
            values["totals", org, width, second // width * width, outcome] += quantity
    return values


def stored(world: SimWorld) -> Values:
    """What a reader of the store sees, in the keys of `one_pass`."""
    values: Values = Counter()
    for table in ("counts", "hourly"):
        for row in world.store.final(table):
            assert (row.project_id, row.category, row.reason) == (7, 1, "")
            values[table, row.org_id, row.bucket, row.outcome] += row.quantity
    for row in world.store.final("totals"):
        for outcome, quantity in enumerate((row.accepted, row.filtered, row.rate_limited)):
            values["totals", row.org_id, row.width, row.bucket, outcome] += quantity
    return values


def counted(process: SimProcess) -> None:
    """Everything is stored and committed, and every cell of every table equals one pass."""
    process.until(process.world.all_is_counted)
    rows = process.world.store.final
    process.until(lambda: all(row.hourly_offset == row.next_offset for row in rows("progress")))
    records = [record for log in process.world.kafka.topics["events"][1] for record in log.records]
    assert stored(process.world) == one_pass(records)


def fill(world: SimWorld, until: int) -> None:
    """Produce to both partitions, four records a shortest chunk, up to an offset."""
    for tp in (A, B):
        world.produce(tp, max(0, until - world.kafka.log(tp).end) * 4 // L, apart=L // 4)


def chunks(world: SimWorld, tp: tuple[str, int]) -> set[int]:
    """First offsets of the chunks of which anything is stored."""
    (source,) = [row.source_id for row in world.store.final("sources") if row.partition == tp[1]]
    return {row.chunk for row in world.store.final("counts") if row.source_id == source}


@pytest.mark.parametrize(("before", "after"), [(L, 4 * L), (4 * L, L)])
def test_two_members_count_on_through_a_change(world: SimWorld, before: int, after: int) -> None:
    """Chunks are as long as before up to the offset, and as the change says from there on, in both partitions."""
    first, second = world.process(chunk_length=before), world.process(chunk_length=before)
    while len(second.loop.assigned_tps()) != 1:
        first.turn()
        second.turn()
    changes = change_length(world, after)
    assert {change.from_offset % max(before, after) for change in changes} == {0}
    end = changes[0].from_offset + 9 * L
    while world.kafka.log(A).end < end:
        fill(world, world.kafka.log(A).end + L)
        for process in (first, second):
            process.turn(3)
        if world.kafka.log(A).end == changes[0].from_offset - L:
            world.group.rebalance()
    second.stop()
    counted(first)
    for tp, change in zip((A, B), changes, strict=True):
        at = change.from_offset
        assert all(chunk % (before if chunk < at else after) == 0 for chunk in chunks(world, tp))
        assert any(chunk >= at and chunk % (4 * L) for chunk in chunks(world, tp)) == (after == L)


def test_steady_counting_never_waits_for_lengths(world: SimWorld) -> None:
    """Through many chunks and a change no partition is opened a second time."""
    process = world.process(chunk_length=L)
    counted(process)
    before = dict(process.loop._partitions.open)
    (change, _) = change_length(world, 4 * L)
    while world.kafka.log(A).end < change.from_offset + 20 * L:
        fill(world, world.kafka.log(A).end + L)
        process.turn(3)
    counted(process)
    assert process.loop._partitions.open == before


@pytest.mark.parametrize(("before", "after"), [(L, 4 * L), (4 * L, L)])
def test_a_cut_off_consumer_never_counts_by_an_older_length(world: SimWorld, before: int, after: int) -> None:
    """It goes on reading and storing, and ends with what is certain to it: every cell is right all the same."""
    zombie = world.process(chunk_length=before)
    counted(zombie)
    zombie.cut_off()
    world.group.expel(zombie.member)
    owner = world.process()
    counted(owner)
    (change, _) = change_length(world, after)
    while world.kafka.log(A).end < change.from_offset + 9 * L:
        fill(world, world.kafka.log(A).end + L)
        zombie.turn(3)
        owner.turn(3)
    for _ in range(20):
        zombie.turn(20)
        owner.turn(20)
    counted(owner)


def test_a_proposal_left_over_holds_up_its_partitions_only_there(world: SimWorld) -> None:
    """Nobody goes beyond it before it is taken back, and everything before it is counted and committed."""
    process = world.process(chunk_length=L)
    counted(process)
    change = plan(world, 4 * L)[0]
    world.store.faults = [Planned("chunk_lengths", "lost answer"), Planned("chunk_lengths", "refused")]
    with pytest.raises(Unavailable, match="chunk-length void"):
        chunk_length.execute(connections(world), change, "operator")
    fill(world, change.from_offset + 9 * L)
    counts_b = world.kafka.log(B).end
    process.until(lambda: world.store.progress() == {A: change.from_offset, B: counts_b})
    process.turn(200)
    assert world.store.progress() == {A: change.from_offset, B: counts_b}
    (entry,) = [row for _, row in chunk_length.ls(connections(world), None)]
    assert chunk_length.void(connections(world), entry.entry_id, execute=False).state == State.PROPOSED
    assert chunk_length.void(connections(world), entry.entry_id, execute=True).state == State.TAKEN_BACK
    counted(process)
    assert all(chunk % L == 0 for chunk in chunks(world, A))


@pytest.mark.parametrize("fault", ["refused", "lost answer"])
def test_what_was_not_stored_for_sure_is_taken_back(world: SimWorld, fault: Any) -> None:
    """Then the operator asks again."""
    counted(world.process(chunk_length=L))
    world.store.faults = [Planned("chunk_lengths", fault)]
    (change, _) = plan(world, 4 * L)
    with pytest.raises(Unavailable, match="taken back, ask for it again"):
        chunk_length.execute(connections(world), change, "operator")
    (entry,) = [row for _, row in chunk_length.ls(connections(world), None)]
    assert entry.state == State.TAKEN_BACK
    assert len(change_length(world, 4 * L)) == 2


def test_a_log_that_grows_too_fast_has_the_change_taken_back(world: SimWorld) -> None:
    """Between the plan and the proposal it came so near that somebody may be counting there by then."""
    counted(world.process(chunk_length=L))
    (change, _) = plan(world, 4 * L)
    fill(world, change.from_offset - change.located.grid.margin + L)
    with pytest.raises(Unavailable, match="too near"):
        chunk_length.execute(connections(world), change, "operator")
    assert [row.state for _, row in chunk_length.ls(connections(world), None)] == [State.TAKEN_BACK]


def test_a_change_that_nobody_answers_for_is_decided_once(world: SimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it may be decided stays true, so it is told again."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    counted(world.process(chunk_length=L))
    (change, _) = plan(world, 4 * L)
    at = connections(world)
    settled = chunk_length.settle

    def late(*asked: Any) -> None:
        settled(*asked)
        monkeypatch.setattr(chunk_length, "settle", settled)
        raise Unavailable("no answer")

    monkeypatch.setattr(chunk_length, "settle", late)
    entry_id = chunk_length.execute(at, change, "operator")
    with pytest.raises(Refused, match="is decided"):
        chunk_length.void(at, entry_id, execute=True)
    assert plan(world, 4 * L) != []  # of the other partition
    assert len(plan(world, 4 * L)) == 1


def test_a_chunk_of_no_length_is_refused(world: SimWorld) -> None:
    """What a consumer stored by another length, against all rules, is found before it is counted beside."""
    process = world.process(chunk_length=4 * L)
    counted(process)
    (change, _) = change_length(world, 8 * L)
    fill(world, change.from_offset + 16 * L)
    counted(process)
    process.stop()
    row = max((one for one in world.store.rows["chunk_days"]), key=lambda one: one.chunk)
    world.store.rows["chunk_days"].append(row._replace(chunk=change.from_offset + 4 * L))
    with pytest.raises(Refused, match="chunk-length ls"):
        world.process().turn(50)


def test_of_two_who_register_with_other_lengths_both_count_by_one(world: SimWorld) -> None:
    """What is recorded last holds; who registered before looks again before it stores anything."""
    first = world.process(chunk_length=4 * L)
    first.until(lambda: len(first.loop.assigned_tps()) == 2)
    assert not world.store.rows["counts"]
    known = [*world.store.rows["sources"]]
    world.store.rows["sources"] += [row._replace(chunk_length=L) for row in known]
    fill(world, 8 * L)
    counted(first)
    assert len(chunks(world, A)) == 8


class Lengths:
    """A world in which lengths change while processes come, go, and are cut off."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = SimWorld(incremental=seed % 2 == 0)
        self.processes: list[SimProcess] = []
        self.met: Counter[str] = Counter()

    def play(self, steps: int) -> None:
        """Random steps, then no more faults, and one process that comes to the end."""
        kinds = [self.turn] * 30 + [self.produce] * 4 + [self.rush] * 4 + [self.start] * 3 + [self.change] * 3
        kinds += [self.kill, self.cut_off, self.cut_off, self.take_back, self.fault, self.fault, self.change_rules]
        for _ in range(steps):
            kind = self.random.choice(kinds)
            kind()
        self.world.store.faults.clear()
        while self.processes:
            self.kill()
        self.take_back()
        last = self.world.process()
        counted(last)

    def turn(self) -> None:
        if self.processes:
            self.random.choice(self.processes).turn(self.random.randint(1, 15))

    def produce(self) -> None:
        self.world.produce(self.random.choice((A, B)), self.random.randint(1, 6), apart=self.random.choice((1, 7, L)))

    def rush(self) -> None:
        """A log grows beyond a change, made or only proposed."""
        sources = {row.source_id: row.partition for row in self.world.store.final("sources")}
        for row in self.world.store.final("chunk_lengths"):
            tp = ("events", sources[row.source_id])
            ahead = row.from_offset + 3 * row.length - self.world.kafka.log(tp).end
            if ahead > 12:
                self.world.produce(tp, 12, apart=ahead // 12)
                self.met["rush"] += 1
                return

    def start(self) -> None:
        if len(self.processes) < 3:
            self.processes.append(self.world.process(chunk_length=L))

    def kill(self) -> None:
        if self.processes:
            process = self.processes.pop(self.random.randrange(len(self.processes)))
            if process.member in self.world.group.members:
                self.world.group.expel(process.member)

    def cut_off(self) -> None:
        members = [one for one in self.processes if one.members and one.member in self.world.group.members]
        if members:
            process = self.random.choice(members)
            process.cut_off()
            self.world.group.expel(process.member)
            self.met["cut off"] += 1

    def change(self) -> None:
        for change in plan(self.world, self.random.choice((L, 2 * L, 4 * L))):
            faults: tuple[Fault, ...] = ("refused", "lost answer", "late")
            for _ in range(self.random.choice((0, 0, 0, 1, 2))):
                self.world.store.faults.append(Planned("chunk_lengths", self.random.choice(faults)))
            with suppress(Unavailable):
                chunk_length.execute(connections(self.world), change, "operator")
                self.met["changed"] += 1

    def take_back(self) -> None:
        self.world.store.arrive()
        with suppress(Unavailable):
            for _, row in [*chunk_length.ls(connections(self.world), None)]:
                if row.state == State.PROPOSED:
                    chunk_length.void(connections(self.world), row.entry_id, execute=True)
                    self.met["taken back"] += 1

    def fault(self) -> None:
        table = self.random.choice(("counts", "hourly", "totals", "progress", "chunks", "chunk_days", "flushes"))
        faults: tuple[Fault, ...] = ("refused", "torn", "lost answer")
        self.world.store.faults.append(Planned(table, self.random.choice(faults)))

    def change_rules(self) -> None:
        """Another edition, with the same answers."""
        known = self.world.store.rules.editions
        self.world.store.rules = RuleHistory((), (*known, f"{len(known)}-voided"))


def test_every_cell_is_right_after_any_history_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed, cut off, or fails to propose or to decide."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    met: Counter[str] = Counter()
    for seed in range(HISTORIES):
        history = Lengths(seed)
        try:
            history.play(120)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        met += history.met
    assert min(met[what] for what in ("rush", "cut off", "changed", "taken back")) > 0


def test_lengths_that_no_chunk_can_have(world: SimWorld) -> None:
    """Bounds and powers of two."""
    for length in (L - 1, L // 2, 3 * L, 1 << 40):
        with pytest.raises(ConfigurationError):
            plan(world, length)


def test_how_far_lengths_are_known() -> None:
    """Some chunks beyond the end that was seen, and never beyond a proposal."""
    grid = Grid(((0, L), (8 * L, 2 * L)))
    assert grid.known_to(100) == 100 + MARGIN_CHUNKS * 2 * L
    assert Grid(grid.entries, proposed=200).known_to(100) == 200
