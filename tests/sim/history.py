"""Plays a plan: the real loop in its processes, faults as the steps say, and the invariants whenever it is quiet."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from orgstats.consumer.kafka.errors import Fenced, Unreleased
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.states import PartitionState
from orgstats.errors import OrgstatsError, Refused, Unavailable
from tests.sim import auditing, checks
from tests.sim.clickhouse import Row
from tests.sim.limits import Limits
from tests.sim.operating import left_proposed, take_back
from tests.sim.oracle import VERSIONS, Violation, sources
from tests.sim.plan import Plan, Step
from tests.sim.rules import LEAD_MS, SimRules
from tests.sim.world import Killed, SimProcess, SimWorld

MOST_PROCESSES: Final = 3
MOST_TURNS: Final = 3_000
MOST_STARTS: Final = 60
_IDLE_SECONDS: Final = 0.1
"""A turn takes so long in which nothing is read."""
_PASSING_SECONDS: Final = 0.4
_TRIES_SECONDS: Final = 40
DEEPEST: Final = 2
"""So many processes stand still within each other's calls."""

FORGETS: Final = {"restore", "erase", "expire", "replay", "replay_head", "rewind"}
"""Steps after which a reader may see less than before; while the version changes, cells of both are there."""

Action = Callable[["History", Step], None]
ACTIONS: dict[str, Action] = {}
"""By what a step says; the steps_*.py register theirs."""


WHEN_QUIET: Final[list[Callable[["History"], None]]] = []
"""What operators do at a quiet point, before everything is compared."""


def action(call: Action) -> Action:
    """Register a function as what a step of its name does."""
    ACTIONS[call.__name__.rstrip("_")] = call
    return call


def _twice(process: SimProcess, error: Fenced) -> bool:
    """Whether it may end by that: fenced a second time, or its name was not free for long."""
    return isinstance(error, Unreleased) or sum(member.fenced is not None for member in process.members) > 1


class History:
    """A world, its processes, and what happened."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        one = plan.world
        self.world = SimWorld(
            *("events", "other")[: one.topics],
            partitions=one.partitions,
            incremental=one.incremental,
            epochs=one.epochs,
            fetches_first=one.fetches_first,
        )
        self.world.kafka.policy = "compact" if one.compacted else "delete"
        self.rules = SimRules()
        for _ in range(one.rules):
            self.rules.publish(self.world.clock.epoch_ms() - LEAD_MS)
        self.world.store.rules = self.rules.history()
        self.limits = Limits(self.world)
        self.processes: list[SimProcess] = []
        self.version = 0
        self.backup, self.backup_ahead = self.world.store.copy(), False
        self.moved = False
        """Whether an operator has moved commits or the store since it was quiet."""
        self.recreated = self.restored = False
        self.went_back = False
        """Whether the store holds less than it did, and this was not settled since."""
        self.mixed_times = False
        self.mixed_outcomes = False
        self.met: Counter[tuple[str, PartitionState]] = Counter()
        self.quiet_points = 0
        self.clocks_ahead = False
        """Whether all clocks may have been ahead since it was quiet, so that nobody could tell the time."""
        self.damaged = False
        """Whether rows are missing or wrong, and an operator mends that."""
        self.to_come: list[Row] | None = None
        """What was told by clocks that were ahead, since they are right."""
        self.kept: dict[TopicPartition, int] = {}
        """Retention deletes nothing from these offsets on."""
        self.erased: set[int] = set()
        """Organizations that were to be erased."""
        self.erasing = False
        """Whether that may be seen of counts since it was quiet."""
        self.rewound = False
        """Whether chunks that consumers count are to be counted again since a rewind."""
        self._at = 0
        self._events: dict[int, tuple[int, int]] = {}
        self._commits: dict[TopicPartition, int] = {}
        self._rows = 0
        self.depth = 0

    def play(self) -> None:
        """All steps, then a quiet point. Raises Violation."""
        self.go_on(len(self.plan.steps))
        self.settle(ends=True)
        if self.mixed_times or self.mixed_outcomes:
            self.count_all_again()

    def go_on(self, steps: int) -> None:
        """So many of the steps that are left."""
        for _ in range(steps):
            if self._at < len(self.plan.steps):
                self._at += 1
                self.do(self.plan.steps[self._at - 1])

    def do(self, step: Step) -> None:
        """One step, and what must hold at any time."""
        kind = step["do"]
        if "tp" in step and not self.world.kafka.tps():
            return  # the only topic is deleted, and not made again yet
        if kind != "turn":
            for process in self.processes:
                for tp in self.world.kafka.tps():
                    self.met[kind, process.state(tp)] += 1
        ACTIONS[kind](self, step)
        self.check_complete_until()
        checks.rewinds(self.world.store, self.world.kafka)
        if kind in FORGETS:
            self._events.clear()
        self.check_commits()

    def check_complete_until(self) -> None:
        """Only what is still to come may be wrong: clocks that are ahead are so by more than a history lasts."""
        until_ms = self.world.clock.epoch_ms() if self.clocks_ahead else None
        checks.complete_until(self.world.store, self.world.kafka, until_ms)
        if not self.clocks_ahead or not self._clocks_are_right():
            self.to_come = None
            return
        to_come = checks.to_come(self.world.store, self.world.kafka)
        if self.to_come is not None and (newer := [row for row in to_come if not self._was_told(row)]):
            raise Violation(checks.COMPLETE, f"told by clocks that are right, and still to come: {newer}")
        self.to_come = to_come

    def _was_told(self, row: Row) -> bool:
        """Whether the same times were told before; who finds a cut writes them again, since that is no look of his."""
        told = [(one.source_id, one.complete_until, one.hourly_complete_until) for one in self.to_come or ()]
        return (row.source_id, row.complete_until, row.hourly_complete_until) in told

    def _clocks_are_right(self) -> bool:
        """Whether all who tell the time do so by a clock that is not ahead, and look at the logs when they do."""
        store, kafka = self.world.store, self.world.kafka
        bound = store.late or kafka.leaderless or any(one.busy or one.executor.begun for one in self.processes)
        return not bound and all(min(store.skew_ms, one.clock.skew_ms) <= 0 for one in self.processes)

    def check_commits(self) -> None:
        """Not when an operator has moved either."""
        if self.moved:
            self._commits = {}
        else:
            self._commits = checks.commits(self.world, self._commits)

    # Processes

    def idle(self) -> list[SimProcess]:
        """Those whose loop is not on the stack."""
        return [process for process in self.processes if not process.busy]

    def pick(self, which: int) -> SimProcess | None:
        """One of them."""
        idle = self.idle()
        return idle[which % len(idle)] if idle else None

    def beside(self, effects: int, every: int) -> None:
        """At every so many effects of an operator one of them goes on."""
        if effects % every == 0 and (process := self.pick(effects)):
            self.turn(process, 1)

    def tp(self, which: int) -> TopicPartition:
        """One of all partitions."""
        tps = self.world.kafka.tps()
        return tps[which % len(tps)]

    def start(self, **other: object) -> SimProcess | None:
        """Another consumer, of the present version; None where ClickHouse does not let it."""
        one = self.plan.world
        settings: dict[str, Any] = {
            "accept_skip": one.accept_skip,
            "allow_compaction": one.compacted,
            "dead_letter_share": 0,
            "dead_letter_run": one.dead_letter_run,
            "batch_size": one.batch_size,
            "flush_seconds": one.flush_seconds,
            "chunk_length": one.chunk_length << (len(self.processes) % 2),
            "max_event_age_seconds": VERSIONS[self.version],
            "kafka": {"isolation.level": one.isolation},
        }
        if one.named:
            names = {process.settings.instance_id for process in self.processes}
            settings["instance_id"] = next(f"name-{n}" for n in range(9) if f"name-{n}" not in names)
        try:
            process = SimProcess(self.world, **settings | other)
        except Unavailable:
            return None
        self.processes.append(process)
        return process

    def run(self, process: SimProcess, call: Callable[[], None]) -> bool:
        """Let a process do something; whether it goes on afterwards."""
        process.busy = True
        try:
            call()
        except Killed:
            self.drop(process)
        except OrgstatsError as error:
            self._ended(process, error)
        except Violation:
            raise
        except Exception as error:
            raise Violation(checks.PROGRAM, repr(error)) from error
        finally:
            process.busy = False
        return process in self.processes

    def turn(self, process: SimProcess, turns: int) -> None:
        """Turns of its loop, as long as it lives; not while it stands still in one."""
        if process.busy or process not in self.processes:
            return
        for _ in range(turns):
            if not self.run(process, process.loop.turn):
                return
            rows = len(self.world.store.rows["counts"])
            changed = self.mixed_times or self.mixed_outcomes or self.erasing
            if rows != self._rows and not (changed or self.damaged or self.rewound):
                self._events = checks.never_smaller(self.world, self._events, compacted=self.plan.world.compacted)
                self._rows = rows

    def _ended(self, process: SimProcess, error: OrgstatsError) -> None:
        """It has ended by itself."""
        excused = (
            (isinstance(error, Fenced) and _twice(process, error))
            or (isinstance(error, Refused) and (self.recreated or self.plan.world.dead_letter_run > 0))
            or (isinstance(error, Refused) and self.went_back and "chunk length was decided too late" in str(error))
            or (isinstance(error, Unavailable) and process.stopping.is_set())
            or (isinstance(error, Refused) and process.settings.isolation != self.plan.world.isolation)
        )
        self.drop(process)
        if not excused:
            raise Violation(checks.ENDED, repr(error))

    def drop(self, process: SimProcess) -> None:
        """It is gone, and the group does not know it yet."""
        process.kill()
        if process in self.processes:
            self.processes.remove(process)

    def end(self, process: SimProcess, *, arrives: bool) -> None:
        """SIGKILL; an insert under way may still arrive."""
        if arrives:
            self.run(process, process.executor.run)
        self.drop(process)

    def end_all(self, *, arrives: bool = False) -> None:
        """As an operator does before what needs it: also those that nobody has heard of for a while."""
        for process in self.idle():
            self.end(process, arrives=arrives)
        self.world.clock.sleep(31.0)
        self.world.group.expire()

    @property
    def alone(self) -> bool:
        """Whether no process stands still in the middle of something."""
        return len(self.idle()) == len(self.processes)

    @property
    def untroubled(self) -> bool:
        """Whether nobody stands still, is cut off or waits for a chunk length to be decided, and all answer."""
        store, kafka = self.world.store, self.world.kafka
        troubles = store.away or store.trouble or store.slow or store.faults or kafka.away or kafka.leaderless
        bound = any(one.fuse or one.executor.hold or one.executor.begun for one in self.processes)
        bound = bound or bool(left_proposed(self.world))
        members = self.world.group.members
        return self.alone and not (troubles or bound) and all(one.member in members for one in self.processes)

    # Quiet points

    def settle(self, *, ends: bool) -> None:
        """Faults cease; with `ends` all processes are killed, and another one does all. Everything must be counted."""
        if not self.alone:
            return
        self._heal()
        if ends:
            self.end_all(arrives=self.plan.world.seed % 2 == 0)
        self.catch_up()
        for call in WHEN_QUIET:
            call(self)
        self._see_told()
        self.check()
        self.limits.settled()
        if self.erasing:
            self._events.clear()
        self.moved = self.clocks_ahead = self.went_back = self.rewound = self.erasing = False
        self.quiet_points += 1
        self._see_resolved()

    def _see_resolved(self) -> None:
        """All cuts are found by now, but for those that nobody can tell."""
        found = {id(one.log): one.rewinds for one in sources(self.world.store, self.world.kafka)}
        for tp in self.world.kafka.tps():
            log = self.world.kafka.log(tp)
            log.untold = log.untold and log.unresolved and found.get(id(log), 0) < log.cuts
            log.unresolved = log.unresolved and log.untold

    def _heal(self) -> None:
        store, kafka = self.world.store, self.world.kafka
        store.away, store.trouble, kafka.away, kafka.lost_commits, store.skew_ms = False, "", None, 0, 0
        store.slow.clear()
        store.faults.clear()
        store.arrive()
        kafka.leaderless.clear()
        for tp in kafka.tps():
            log = kafka.log(tp)
            for transaction in [*log.open]:
                log.finish(transaction, commit=transaction % 2 == 0)
        for process in self.processes:
            process.fuse, process.executor.hold, process.clock.skew_ms = None, False, 0
            self.run(process, process.executor.run)

    def catch_up(self) -> None:
        """Until all is stored and committed, also what is written seldom; no chunk length stays proposed."""
        take_back(self.world)
        for _ in range(MOST_STARTS):
            if not self.processes:
                self.start()
            if self._counted_all():
                return
        raise Violation(checks.CATCHES_UP, f"not after {MOST_STARTS} processes: {self._far()}")

    def _counted_all(self) -> bool:
        """Whether these processes get there; those that halted, or whose topic went, are ended, others have to."""
        for turns in range(MOST_TURNS):
            if self._is_counted() and self.written_seldom() and self._time_is_right():
                return True
            for process in self.processes:
                stopped = {process.state(tp) for tp in self.world.kafka.tps()} & {
                    PartitionState.HALTED,
                    PartitionState.GONE,
                }
                if stopped and turns > 20:
                    self.run(process, process.stop)
                    self.drop(process)
                    self.world.clock.sleep(31.0)
                    return False
            began = self.world.clock.monotonic()
            for process in [*self.processes]:
                self.turn(process, 1 if turns < 300 else 5)
            if self.world.clock.monotonic() - began >= _IDLE_SECONDS * len(self.processes):
                self.world.clock.sleep(_PASSING_SECONDS)  # nobody has anything to read: until something is due
            if not self.processes:
                return False
        raise Violation(checks.CATCHES_UP, f"not within {MOST_TURNS} turns: {self._far()}")

    def _time_is_right(self) -> bool:
        return not self.clocks_ahead or not checks.to_come(self.world.store, self.world.kafka)

    def _is_counted(self) -> bool:
        counted, commits = self.world.counted(), self.world.kafka.commits
        return (
            self.world.all_is_counted()
            and all(commit.next_offset <= counted.get(tp, 0) for tp, commit in commits.items())
            and all(self._owner(tp) is not None for tp in self.world.kafka.tps())
        )

    def _owner(self, tp: TopicPartition) -> SimProcess | None:
        return next((process for process in self.processes if process.state(tp) is PartitionState.COUNTING), None)

    def written_seldom(self) -> bool:
        """Whether `hourly` is written, too; if not, the time for it comes."""
        topics = {uuid for uuid, _ in self.world.kafka.topics.values()}
        ids = {row.source_id for row in self.world.store.final("sources") if row.topic_id in topics}
        rows = [row for row in self.world.store.final("progress") if row.source_id in ids]
        if all(row.hourly_offset == row.next_offset for row in rows):
            return True
        self.world.clock.sleep(10.0)
        return False

    def _far(self) -> dict[str, object]:
        commits = {tp: commit.next_offset for tp, commit in self.world.kafka.commits.items()}
        states = [{tp: str(p.state(tp)) for tp in self.world.kafka.tps()} for p in self.processes]
        return {"ends": self.world.ends(), "stored": self.world.counted(), "commits": commits, "states": states}

    def _see_told(self) -> None:
        """What consumers tell of themselves; who was told of a failure tries again after a while."""
        for _ in range(_TRIES_SECONDS):
            if all(not process.loop.pause_reasons() for process in self.processes):
                break
            self.world.clock.sleep(1.0)
            for process in [*self.processes]:
                self.turn(process, 1)
        checks.tells(self.world, self.processes)

    def check(self) -> None:
        """Compare everything."""
        scope = checks.Scope(
            self.plan.world.isolation,
            self.version,
            self.rules,
            self.mixed_times,
            self.mixed_outcomes,
            self.limits.skips if self.plan.world.accept_skip else set(),
            self.limits.found,
        )
        checks.quiet(self.world.store, self.world.kafka, scope)
        auditing.agree(self.world, self.plan.world.isolation, self.version, self.limits.found)

    def count_all_again(self) -> None:
        """After a change: the commits are set back to the beginning; what the logs have all of is compared exactly."""
        self.end_all()
        kafka = self.world.kafka
        kafka.commits = {tp: replace(commit, next_offset=0) for tp, commit in kafka.commits.items()}
        self.catch_up()
        self._see_resolved()
        self.mixed_times = self.mixed_outcomes = False
        for one in sources(self.world.store, kafka):
            if one.log.low or one.first_offset or one.log not in [kafka.log(tp) for tp in kafka.tps()]:
                self.limits.found[one.source_id] = "counted by another version, and gone"
        self.check()
