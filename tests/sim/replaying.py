"""An operator who replays: the real plan, apply and undo, killed and asked again, with consumers and others beside."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.ops import jobs, replay, undo
from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.ops.recount import Pace
from orgstats.consumer.ops.replay import ReplayRequest, TimeRange
from orgstats.errors import Unavailable
from tests.sim.clickhouse import Row
from tests.sim.history import History
from tests.sim.operating import connections, operator
from tests.sim.oracle import VERSIONS, Violation
from tests.sim.plan import Step
from tests.sim.store import SimStore
from tests.sim.world import Killed

DONE: Final = "a replay is done some time, however often it is killed"
STOPS: Final = "a replay writes nothing by rules of before"
READ: Final = "a replay reads what it said"
_MOST_TRIES: Final = 12
_REPLACED: Final = ("counts", "hourly", "totals", "dead_letters")


Events = Mapping[int, Callable[[], None]]
NOTHING: Final[Events] = {}
EVER: Final = TimeRange()


class Operator:
    """Who asks for the same again until it is done, is killed once on the way, and lets consumers go on meanwhile."""

    def __init__(
        self, history: History, step: Step, request: ReplayRequest, when: TimeRange = EVER, events: Events = NOTHING
    ) -> None:
        """`events` are what happens at which effect when he first applies it."""
        self.history, self.request, self.when = history, request, when
        self.step, self._planned = step, events
        self._events: dict[int, Callable[[], None]] = {}
        self._pace = Pace(step.get("rate", 0), step["kind"] % 4)  # 0: as many chunks as usual, all of a history
        self._stops = step.get("stops", False)
        self._effects = 0
        self.chunks: set[tuple[int, int]] = set()
        """What is to be read, (source, chunk), as he planned it last."""
        self.met_others = False
        """Whether something of that happened."""
        self.told: list[str] = []
        """Notes of what he applied last."""
        self._outdated: tuple[set[Row], set[str]] = set(), set()
        """What was recorded when the rules changed meanwhile, and fingerprints from before."""
        self._before = {row.replay_id for row in history.world.store.rows["replays"]}
        one = history.plan.world
        settings = {
            "max_event_age_seconds": VERSIONS[history.version],
            "allow_compaction": step.get("allows_compaction", False),
            "kafka": {"isolation.level": one.isolation},
        }
        self.connections = connections(history.world, self._effect, **settings)

    def _effect(self) -> None:
        self._effects += 1
        self.history.beside(self._effects, self.step["beside"])
        if happens := self._events.pop(self._effects, None):
            self.met_others = True
            voided = len(self.history.rules.voided)
            happens()
            if len(self.history.rules.voided) > voided:
                rows = self.history.world.store.rows
                self._outdated = {*rows["repairs"]}, {row.fingerprint for row in rows["replays"]}
        if self._effects == self.step["effect"]:
            raise Killed

    def until_done(self, call: Callable[[], Any]) -> Any:
        """Whatever it is killed by, or not answered."""
        self._effects = 0
        for _ in range(_MOST_TRIES):
            try:
                with operator(self.history.world, self._effect):
                    return call()
            except (Killed, Unavailable):
                world = self.history.world
                world.store.away, world.store.trouble, world.kafka.away = False, "", None  # if that began meanwhile
                world.store.slow.clear()
                world.clock.sleep(1.0)
        raise Violation(DONE, f"not within {_MOST_TRIES} tries")

    def plan(self) -> list[ChunkDifference]:
        """What would change."""
        found: list[ChunkDifference] = []
        read: list[int] = []

        def call() -> None:
            found.clear()
            read.clear()
            prepared = replay.prepare(self.connections, self.request, self.when)
            self.chunks = {
                (span.located.source.source_id, chunk)
                for span in prepared.spans
                for chunk in Chunks(span.located.grid, span.first, span.end)
            }
            pace = Pace(self._pace.rate, self._pace.chunks_at_once, read.append)
            summary = replay.plan(prepared, found.append, pace)
            if sum(read) != prepared.offsets or summary.changes + summary.left != sum(one.count for one in found):
                raise Violation(READ, f"{sum(read)} offsets of {prepared.offsets}, {summary}")

        self.until_done(call)
        return found

    def apply(self) -> None:
        """Do it."""
        stops = [self._stops]
        self._events, self._planned = dict(self._planned), NOTHING

        def call() -> None:
            while True:
                prepared = replay.prepare(self.connections, self.request, self.when, wait=True)
                ends = stops.pop() if stops else False
                summary = replay.apply(prepared, "operator", lambda: ends, self._pace)  # noqa: B023 (called at once)
                self.told = summary.notes
                if not ends:
                    return

        self.until_done(call)

    def stopped_in_time(self) -> None:
        """Of chunks of which he recorded a revision after the rules changed, nothing is counted by those of before.

        Another operator may have recorded the same revision by the rules of now, and counted the chunk in it.
        """
        rows, (before, fingerprints) = self.history.world.store.rows, self._outdated
        late = {
            (row.source_id, row.chunk, row.revision)
            for row in rows["repairs"]
            if row.fingerprint in fingerprints and row not in before and row.why.startswith("replay ")
        }
        late -= {
            (one.source_id, one.chunk, one.revision) for one in rows["repairs"] if one.fingerprint not in fingerprints
        }
        cells = {(row.source_id, row.chunk, row.version >> 48) for family in FAMILIES for row in rows[family.table]}
        if late & cells:
            raise Violation(STOPS, f"{late & cells} of (source, chunk, revision)")

    def counted_by_new_rules(self, at: tuple[int, int]) -> bool:
        """Whether a chunk was done by the rules of now, after they changed meanwhile.

        Nothing that was lost of it may come back then: cells that these rules do not give have no zero.
        """
        rows, (_, before) = self.history.world.store.rows, self._outdated
        of_now = {row.replay_id for row in rows["replays"] if row.fingerprint not in before}
        done = [row for row in rows["replay_chunks"] if row.step == jobs.ChunkStep.done and row.replay_id in of_now]
        return self.history.mixed_outcomes and at in {(row.source_id, row.chunk) for row in done}

    def undo(self) -> None:
        """Take it back, by its id, since asked again without it undoes the one before."""
        with operator(self.history.world, self._effect):
            store = SimStore(self.history.world.store)
            # Killed just when it was done, and asked again, there is another one behind it that had nothing to do.
            rows = self.history.world.store.rows
            kept = {row.replay_id for table in _REPLACED for row in rows[f"replaced_{table}"]}
            ours = [one for one in jobs.ls(store) if one.replay_id not in self._before]
            last = next((one for one in ours if one.replay_id in kept), ours[0])

        def call() -> None:
            known = {one.replay_id: one.step for one in jobs.ls(SimStore(self.history.world.store))}
            if known[last.replay_id] is not jobs.Step.undone:
                undo.undo(self.connections, last.replay_id, execute=True)

        self.until_done(call)


def grids_of(history: History) -> dict[int, Grid]:
    """Chunks by source."""
    store = history.world.store
    return SimStore(store).grids([row.source_id for row in store.final("sources")])
