"""Steps: an operator replays closed chunks of which rows were lost or are wrong, beside consumers, and is killed."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.ops import jobs, replay, undo
from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.ops.recount import HeadPolicy, Pace
from orgstats.consumer.ops.replay import ReplayRequest, TimeRange
from orgstats.errors import Refused, Unavailable
from tests.sim import auditing
from tests.sim.clickhouse import KEYS, Planned, Row
from tests.sim.history import History, action
from tests.sim.operating import connections, operator
from tests.sim.oracle import VERSIONS, Counted, Violation, sources
from tests.sim.plan import Step
from tests.sim.store import SimStore
from tests.sim.world import Killed

PLAN: Final = "a replay does what it planned"
MENDED: Final = "a replay mends what was wrong"
UNDONE: Final = "undo takes a repair back"
_CELLS: Final = tuple(family.table for family in FAMILIES)
_TABLES: Final = (*_CELLS, "dead_letters")
_MOST_TRIES: Final = 12

Chunk = tuple[int, int]
Held = dict[tuple[Any, ...], tuple[Any, ...]]
"""Values by table, source, chunk and the rest of the key; zeros are left out."""


@action
def replay_(history: History, step: Step) -> None:
    """What was damaged is planned, mended, and where it was a repair taken back and mended again."""
    if not _may(history):
        return
    chunks = _closed(history)
    whole = [chunk for chunk, is_whole in chunks.items() if is_whole]
    choice = Random(step["kind"])
    if not whole:
        return
    at = choice.choice(whole)
    right = _held(history, chunks)
    store = history.world.store
    undamaged = {table: [*store.rows[table]] for table in _TABLES}
    if not _damage(history, step, at, choice):
        return
    damaged = {table: [*store.rows[table]] for table in _TABLES}
    history.damaged = True
    act = _Operator(history, step)
    try:
        _mend(act, chunks, right, at)
    except Refused:  # by another fingerprint, say
        for table, before in undamaged.items():
            lost = [row for row in before if row not in damaged[table]]
            more = [row for row in damaged[table] if row not in before]
            store.rows[table] = [*(row for row in store.rows[table] if row not in more), *lost]
    history.damaged = False


def _may(history: History) -> bool:
    store, kafka = history.world.store, history.world.kafka
    troubled = store.away or store.trouble or store.slow or store.expired_before or kafka.away or kafka.leaderless
    mixed = history.mixed_times or history.mixed_outcomes or history.moved
    return not (troubled or mixed) and history.alone and not history.plan.world.compacted


class _Operator:
    """Who asks for the same again until it is done, is killed once on the way, and lets consumers go on meanwhile."""

    def __init__(self, history: History, step: Step) -> None:
        self.history = history
        self.request = ReplayRequest(
            tuple(history.world.topics), repair=step["repair"] or step["harm"] != "lost", head=HeadPolicy.skip
        )
        self._step = step
        self._pace = Pace(chunks_at_once=step["kind"] % 4)  # 0: as many as usual, which is all of a history
        self._effects = 0
        self._before = {row.replay_id for row in history.world.store.rows["replays"]}
        one = history.plan.world
        settings = {"max_event_age_seconds": VERSIONS[history.version], "kafka": {"isolation.level": one.isolation}}
        self.connections = connections(history.world, self._effect, **settings)

    def _effect(self) -> None:
        self._effects += 1
        if self._effects % self._step["beside"] == 0 and (process := self.history.pick(self._effects)):
            self.history.turn(process, 1)
        if self._effects == self._step["effect"]:
            raise Killed

    def until_done(self, call: Callable[[], Any]) -> Any:
        """Whatever it is killed by, or not answered."""
        self._effects = 0
        for _ in range(_MOST_TRIES):
            try:
                with operator(self.history.world, self._effect):
                    return call()
            except (Killed, Unavailable):
                self.history.world.clock.sleep(1.0)
        raise Violation(MENDED, f"not within {_MOST_TRIES} tries")

    def plan(self) -> list[ChunkDifference]:
        """What would change."""
        found: list[ChunkDifference] = []

        def call() -> None:
            found.clear()
            replay.plan(replay.prepare(self.connections, self.request, TimeRange()), found.append, self._pace)

        self.until_done(call)
        return found

    def apply(self) -> None:
        """Do it."""

        def call() -> None:
            prepared = replay.prepare(self.connections, self.request, TimeRange())
            replay.apply(prepared, "operator", lambda: False, self._pace)

        self.until_done(call)

    def undo(self) -> None:
        """Take it back, by its id, since asked again without it undoes the one before."""
        with operator(self.history.world, self._effect):
            store = SimStore(self.history.world.store)
            # Killed just when it was done, and asked again, there is another one behind it that had nothing to do.
            rows = self.history.world.store.rows
            kept = {row.replay_id for table in _TABLES for row in rows[f"replaced_{table}"]}
            ours = [one for one in jobs.ls(store) if one.replay_id not in self._before]
            last = next((one for one in ours if one.replay_id in kept), ours[0])

        def call() -> None:
            known = {one.replay_id: one.step for one in jobs.ls(SimStore(self.history.world.store))}
            if known[last.replay_id] is not jobs.Step.undone:
                undo.undo(self.connections, last.replay_id, execute=True)

        self.until_done(call)


def _mend(act: _Operator, chunks: dict[Chunk, bool], right: Held, at: Chunk) -> None:
    history, step = act.history, act._step
    wrong = _held(history, chunks)
    isolation, recount = history.plan.world.isolation, step["table"] != "dead_letters" or step["harm"] == "mistaken"
    if wrong != right and not auditing.finds(history.world, isolation, history.version, at, recount=recount):
        raise Violation(auditing.AUDIT, f"it finds nothing in {at}: {step}")
    planned = {chunk: values for chunk, values in _planned(act.plan()).items() if chunk[1:3] in chunks}
    if _held(history, chunks) != wrong:
        raise Violation(PLAN, "planning changes what is stored")
    if step["fault"]:
        history.world.store.faults.append(Planned(step["table"], step["fault"]))
    act.apply()
    found = _held(history, chunks)
    changed = {key: found.get(key) for key in wrong.keys() | found.keys() if wrong.get(key) != found.get(key)}
    if changed != planned:
        differ = {key for key in changed.keys() | planned.keys() if changed.get(key, 0) != planned.get(key, 0)}
        told = {key: (planned.get(key, "not planned"), changed.get(key, "not changed")) for key in differ}
        raise Violation(PLAN, [*told.items()][:4])
    _compare(MENDED, found, right, at)
    if act.request.repair:
        act.undo()
        _compare(UNDONE, _held(history, chunks), wrong, None)
        act.apply()
        _compare(MENDED, _held(history, chunks), right, at)
    if left := [one for one in act.plan() if (one.counted.source.source_id, one.counted.chunk) == at]:
        raise Violation(MENDED, f"a second plan finds {left[0].cells}")


def _compare(invariant: str, found: Held, wanted: Held, at: Chunk | None) -> None:
    wrong = {
        key: (found.get(key), wanted.get(key))
        for key in found.keys() | wanted.keys()
        if found.get(key) != wanted.get(key) and at in (None, key[1:3])
    }
    if wrong:
        raise Violation(invariant, f"(found, wanted): {[*wrong.items()][:4]}")


def _planned(changes: list[ChunkDifference]) -> dict[tuple[Any, ...], tuple[Any, ...] | None]:
    """What will be there, by the keys of `Held`; None for what will not."""
    planned: dict[tuple[Any, ...], tuple[Any, ...] | None] = {}
    for one in changes:
        of = one.counted.source.source_id, one.counted.chunk
        for family in FAMILIES:
            for key, (_, after) in one.cells[family].items():
                planned[family.table, *of, *key] = after if any(after) else None
        planned |= {("dead_letters", *of, offset): (dead.code,) for offset, (_, dead) in one.dead.items()}
        planned |= {("dead_letters", *of, offset): None for offset in one.withdrawn}
    return planned


def _closed(history: History) -> dict[Chunk, bool]:
    """Closed chunks that a replay may count again; whether one pass over the log gives what is stored of it."""
    store, logs = history.world.store, [history.world.kafka.log(tp) for tp in history.world.kafka.tps()]
    grids = _grids(history)
    found: dict[Chunk, bool] = {}
    for one in sources(store, history.world.kafka):
        usable = any(one.log is log for log in logs) and one.source_id not in history.limits.found
        if not usable or one.log.unresolved or one.log.vanished:
            continue
        grid = grids[one.source_id]
        for row in store.winners("chunk_days").get(one.source_id, {}).values():
            if grid.chunk_end(row.chunk) <= grid.chunk_of(one.next_offset):
                found[one.source_id, row.chunk] = _is_whole(one, grid, row.chunk)
    return found


def _is_whole(one: Counted, grid: Grid, chunk: int) -> bool:
    listed = any(first < grid.chunk_end(chunk) and chunk < end for first, end, _ in one.gaps)
    return one.log.low <= chunk and one.first_offset <= chunk and not listed


def _grids(history: History) -> dict[int, Grid]:
    store = history.world.store
    return SimStore(store).grids([row.source_id for row in store.final("sources")])


def _held(history: History, chunks: dict[Chunk, bool]) -> Held:
    """What a reader sees of these chunks."""
    store, grids, held = history.world.store, _grids(history), Held()
    for family in FAMILIES:
        for row in store.final(family.table):
            values = tuple(getattr(row, name) for name in family.values)
            if (row.source_id, row.chunk) in chunks and any(values):
                key = (getattr(row, name) for name in family.key._fields)
                held[family.table, row.source_id, row.chunk, *key] = values
    for row in store.final("dead_letters"):
        chunk = grids[row.source_id].chunk_of(row.offset)
        if (row.source_id, chunk) in chunks and not row.withdrawn:
            held["dead_letters", row.source_id, chunk, row.offset] = (row.reason,)
    return held


def _damage(history: History, step: Step, at: Chunk, choice: Random) -> bool:
    """Lose all rows of some keys of a table, count one more, or one too much; whether there was any such row.

    Or count one organization as another, in all tables, which then agree with each other and with the log's offsets.
    """
    store, table, grids = history.world.store, step["table"], _grids(history)

    def of(row: Row) -> Chunk:
        known = hasattr(row, "chunk")
        return row.source_id, row.chunk if known else grids[row.source_id].chunk_of(row.offset)

    if step["harm"] == "mistaken":
        for name in _CELLS:
            store.rows[name] = [
                row._replace(org_id=1001) if of(row) == at and row.org_id == 1 else row for row in store.rows[name]
            ]
        return True
    hit = {_key(table, row) for row in store.final(table) if of(row) == at and choice.random() < 0.5}
    if not hit:
        return False
    if step["harm"] == "lost" or table == "dead_letters":
        store.rows[table] = [row for row in store.rows[table] if _key(table, row) not in hit]
    else:
        value = next(family for family in FAMILIES if family.table == table).values[0]
        for row in [row for row in store.final(table) if _key(table, row) in hit]:
            other = {"org_id": row.org_id + 1000} if step["harm"] == "stray" else {value: getattr(row, value) + 1}
            store.rows[table] = [*store.rows[table], row._replace(**other)]
    return True


def _key(table: str, row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in KEYS[table])
