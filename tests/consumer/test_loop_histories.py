"""The guarantee, on the real loop: random histories of rebalances, outages, torn inserts, crashes and zombies."""

import json
import os
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from orgstats.consumer.counting.grid import CHUNK_LENGTH
from orgstats.consumer.counting.resume import LOG_CUT_BACK
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import next_offset_of
from orgstats.consumer.kafka.errors import Fenced
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.errors import OrgstatsError, Unavailable
from tests.sim.store import Fault, Planned
from tests.sim.world import SimProcess, SimWorld
from tests.support.record import FakeRecord

HISTORIES = int(os.environ.get("ORGSTATS_TEST_HISTORIES", "2000")) // 10
EACH = 20
K = CHUNK_LENGTH // 128  # about a thousand offsets of a chunk as long as in production
TABLES = (
    "counts",
    "hourly",
    "totals",
    "progress",
    "dead_letters",
    "chunk_days",
    "chunks",
    "repairs",
    "sources",
    "gaps",
)


class LoopHistory:
    """One world, its processes, and what happens to them; the kind of trouble with the log goes by the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = SimWorld(partitions=3, incremental=seed % 2 == 0)
        self.trouble = (self.retain, self.cut_back, self.restore, self.lose)[seed // 2 % 4]
        self.processes: list[SimProcess] = []
        self.killed: list[SimProcess] = []
        self.backup = self._copy()
        self.happened: Counter[str] = Counter()

    def play(self, steps: int) -> None:
        """Take random steps, then let everything heal and one process finish."""
        kinds = [self.turn] * 40 + [self.produce] * 8 + [self.start] * 4
        kinds += [self.stop, self.kill, self.expel, self.fence, self.rebalance, self.change_rules, self.back_up]
        kinds += [self.fault] * 4 + [self.hold] * 3 + [self.store_away, self.kafka_away, self.sleep, self.trouble]
        kinds += [self.set_commit_back]
        kinds += [self.leaderless, self.slow]
        for _ in range(steps):
            kind = self.random.choice(kinds)
            kind()
            self.happened[kind.__name__] += 1
        self.heal()

    def heal(self) -> None:
        """No more faults; all processes are killed, and another comes to the end, also of what is written seldom."""
        self.world.store.away, self.world.kafka.away = False, None
        self.world.store.slow.clear()
        self.world.kafka.leaderless.clear()
        self.world.store.faults.clear()
        for process in [*self.processes]:
            self._kill(process)
        self.start()
        (process,) = self.processes  # it looks at each log, also at one that was cut back to nothing
        process.until(lambda: len(process.loop.assigned_tps()) == 3 and self.world.all_is_counted())
        progress = self.world.store.final
        process.until(lambda: all(row.hourly_offset == row.next_offset for row in progress("progress")))

    def tp(self) -> TopicPartition:
        return "events", self.random.randrange(3)

    def turn(self) -> None:
        if self.processes:
            process = self.random.choice(self.processes)
            try:
                process.turn(self.random.randint(1, 15))
            except OrgstatsError:
                self._kill(process)  # it has ended by itself

    def produce(self) -> None:
        tp = self.tp()
        if self.random.random() < 0.1:
            self.world.kafka.produce(tp, b"{")
        self.world.produce(tp, self.random.randint(1, 6), apart=self.random.choice((1, 1, 1, 7, 60 * K)))

    def start(self) -> None:
        try:
            self.processes.append(self.world.process(dead_letter_share=0))
        except Unavailable:
            assert self.world.store.away

    def stop(self) -> None:
        if self.processes:
            process = self.processes.pop(self.random.randrange(len(self.processes)))
            try:
                process.stop()
            except OrgstatsError:
                self._kill(process)

    def kill(self) -> None:
        if self.processes:
            self._kill(self.random.choice(self.processes))

    def _kill(self, process: SimProcess) -> None:
        if process in self.processes:
            self.processes.remove(process)
        if process.member in self.world.group.members:
            self.world.group.expel(process.member)
        if self.random.random() < 0.5:
            process.executor.run()  # an insert under way may still arrive

    def expel(self) -> None:
        """A session times out, and the process does not know it yet."""
        members = [process.member for process in self.processes if process.member in self.world.group.members]
        if members:
            self.world.group.expel(self.random.choice(members))

    def fence(self) -> None:
        if self.processes:
            process = self.random.choice(self.processes)
            process.member.fenced = Fenced("another process uses the same name")

    def rebalance(self) -> None:
        self.world.group.rebalance()

    def change_rules(self) -> None:
        """Another edition, with the same answers."""
        known = self.world.store.rules.editions
        self.world.store.rules = RuleHistory((), (*known, f"{len(known)}-voided"))

    def fault(self) -> None:
        faults: tuple[Fault, ...] = ("refused", "torn", "lost answer")
        self.world.store.faults.append(Planned(self.random.choice(TABLES), self.random.choice(faults)))

    def hold(self) -> None:
        """A checkpoint takes its time, or comes to its end."""
        if self.processes:
            executor = self.random.choice(self.processes).executor
            executor.hold = not executor.hold
            executor.run()

    def store_away(self) -> None:
        self.world.store.away = not self.world.store.away

    def kafka_away(self) -> None:
        self.world.kafka.away = None if self.world.kafka.away else Unavailable("Kafka: no answer")

    def leaderless(self) -> None:
        """A partition of which Kafka does not tell where it ends, or tells it again."""
        self.world.kafka.leaderless ^= {self.tp()}

    def slow(self) -> None:
        """One whose stored chunk cannot be read, or can again."""
        self.world.store.slow ^= {self.tp()}

    def sleep(self) -> None:
        """Everything stands still for longer than a copy of the rules may be old."""
        self.world.clock.sleep(self.random.choice((5, 60)))

    def set_commit_back(self) -> None:
        """An operator resets the group's offsets, which Kafka lets nobody do while it has members."""
        for process in [*self.processes]:
            self._kill(process)
        tp = self.tp()
        if tp in self.world.kafka.commits:
            commit = self.world.kafka.commits[tp]
            self.world.kafka.commits[tp] = replace(commit, next_offset=self.random.randint(0, commit.next_offset))

    # Trouble with the log or the store, one kind for each history

    def retain(self) -> None:
        """Retention takes what is counted already, and no more."""
        tp = self.tp()
        counted = self.world.store.progress().get(tp, 0)
        low = self.world.kafka.log(tp).low
        self.world.kafka.retain(tp, max(low, self.random.randint(0, min(counted, self.world.kafka.log(tp).end))))

    def lose(self) -> None:
        """Retention takes whatever it likes, counted or not."""
        tp = self.tp()
        log = self.world.kafka.log(tp)
        self.world.kafka.retain(tp, self.random.randint(log.low, log.end))

    def cut_back(self) -> None:
        """An unclean election; those who wrote beyond it are ended with their broker."""
        for process in [*self.processes]:
            self._kill(process)
        tp = self.tp()
        if self._is_torn(tp):
            return
        self.world.kafka.cut_back(tp, self.random.randint(0, self.world.kafka.log(tp).end))

    def _is_torn(self, tp: TopicPartition) -> bool:
        """Whether an insert arrived that no progress tells of. If the log is cut back then, nobody can know of it."""
        store = self.world.store
        counted = store.progress().get(tp, 0)
        ids = {row.source_id for row in store.rows["sources"] if row.partition == tp[1]}
        reached = [next_offset_of(row.version) for row in store.rows["counts"] if row.source_id in ids]
        reached += [row.offset + 1 for row in store.rows["dead_letters"] if row.source_id in ids]
        return max(reached, default=0) > counted

    def back_up(self) -> None:
        self.backup = self._copy()

    def restore(self) -> None:
        """From an older copy, under the running consumers."""
        self.world.store.rows = {table: [*rows] for table, rows in self.backup.items()}

    def _copy(self) -> dict[str, list[object]]:
        return {table: [*rows] for table, rows in self.world.store.rows.items()}


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


def lost(world: SimWorld) -> set[tuple[int, int]]:
    """(partition, offset) of the records that are listed as deleted before they were counted, or before the start."""
    sources = {row.source_id: row for row in world.store.final("sources")}
    ranges = [(source.partition, 0, source.first_offset) for source in sources.values()]
    ranges += [
        (sources[gap.source_id].partition, gap.from_offset, gap.to_offset)
        for gap in world.store.final("gaps")
        if gap.why != LOG_CUT_BACK  # those offsets are given out again
    ]
    return {
        (number, record.at)
        for number, log in enumerate(world.kafka.topics["events"][1])
        for record in log.records
        if any(number == of and first <= record.at < end for of, first, end in ranges)
    }


def check(world: SimWorld) -> None:
    """Every cell of every table and every dead letter against one pass over all records that the logs ever had.

    Of records that are listed as lost a torn flush may have stored something, and nothing else may be missing.
    """
    records = [(n, record) for n, log in enumerate(world.kafka.topics["events"][1]) for record in log.records]
    gone = lost(world)
    good = [(n, record) for n, record in records if record.body != b"{"]
    most, surely = one_pass(r for _, r in good), one_pass(r for n, r in good if (n, r.at) not in gone)
    found = stored(world)
    assert {key: n for key, n in found.items() if not surely[key] <= n <= most[key]} == {}
    assert surely.keys() <= found.keys()
    dead = [(row.partition, row.offset) for row in world.store.final("dead_letters") if not row.withdrawn]
    broken = {(n, record.at) for n, record in records if record.body == b"{"}
    assert len(dead) == len(set(dead))
    assert broken - gone <= set(dead) <= broken


@pytest.mark.parametrize("first_seed", range(0, HISTORIES, EACH))
def test_counts_equal_one_pass_after_any_history_of_the_loop(first_seed: int) -> None:
    """Once faults cease, one process catches up, and the store holds what one pass gives."""
    for seed in range(first_seed, first_seed + EACH):
        history = LoopHistory(seed)
        try:
            history.play(steps=120)
            check(history.world)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
