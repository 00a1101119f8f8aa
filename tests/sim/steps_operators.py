"""Steps: an operator replays closed chunks of which rows were lost or are wrong, beside consumers, and is killed."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any, Final

from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.ops.recount import HeadPolicy
from orgstats.consumer.ops.replay import ReplayRequest, TimeRange
from orgstats.errors import Refused
from tests.sim import auditing
from tests.sim.clickhouse import Planned
from tests.sim.damage import TABLES, Chunk, damage, put_back, written_again
from tests.sim.history import ACTIONS, History, action
from tests.sim.oracle import Counted, Violation, source_of, sources
from tests.sim.plan import Step
from tests.sim.replaying import Operator, grids_of
from tests.sim.steps_kafka import delete_below

PLAN: Final = "a replay does what it planned"
MENDED: Final = "a replay mends what was wrong"
UNDONE: Final = "undo takes a repair back"

Held = dict[tuple[Any, ...], tuple[Any, ...]]
"""Values by table, source, chunk and the rest of the key; zeros are left out."""


@action
def replay_(history: History, step: Step) -> None:
    """What was damaged is planned, mended, and where it was a repair taken back and mended again."""
    if not may(history):
        return
    chunks = closed(history)
    whole = [chunk for chunk, is_whole in chunks.items() if is_whole]
    choice = Random(step["kind"])
    if not whole:
        return
    at = choice.choice(whole)
    right = held(history, chunks)
    store = history.world.store
    undamaged = {table: [*store.rows[table]] for table in TABLES}
    if written_again(history, at) or not damage(history, step, at, choice):
        return
    damaged = {table: [*store.rows[table]] for table in TABLES}
    history.damaged = True
    act = Operator(history, step, *_wanted(history, step, at), _events(history, step, at))
    try:
        _mend(act, chunks, right, at)
    except Refused:  # by another fingerprint, say, or retention was faster
        if not act.counted_by_new_rules(at):
            put_back(store.rows, undamaged, damaged)
    history.damaged = False
    history.kept.clear()


def may(history: History) -> bool:
    store, kafka = history.world.store, history.world.kafka
    troubled = store.away or store.trouble or store.slow or store.expired_before or kafka.away or kafka.leaderless
    mixed = history.mixed_times or history.mixed_outcomes or history.moved
    erasing = any(not row.done for row in store.erasures())  # which a replay has to wait for
    return not (troubled or mixed or erasing) and history.alone and not history.plan.world.compacted


def _wanted(history: History, step: Step, at: Chunk) -> tuple[ReplayRequest, TimeRange]:
    """Everything, or a part of which the damaged chunk is one: by offsets within it, by times, by partition."""
    one = _source(history, at)
    end, choice = grids_of(history)[at[0]].chunk_end(at[1]), Random(step["kind"])
    request = ReplayRequest(
        tuple(history.world.topics), repair=step["repair"] or step["harm"] != "lost", head=HeadPolicy.skip
    )
    if step.get("span") == "offsets":
        first = choice.randrange(at[1], end)
        return replace(request, from_offset=first, to_offset=choice.randrange(first, end) + 1), TimeRange()
    times = [record.when_ms for record in one.log.within(at[1], end)]
    if step.get("span") == "times" and times and history.plan.world.log_append and not _redriven(history):
        return replace(request, since="then", until="later"), TimeRange(min(times), max(times) + 1)
    if step.get("span") == "partition":
        return replace(request, partitions=_partition(history, one)), TimeRange()
    return request, TimeRange()


def _partition(history: History, one: Counted) -> tuple[int, ...] | None:
    """Its partition, where every topic has one of that number."""
    return (one.tp[1],) if all(one.tp[1] < len(logs) for _, logs in history.world.kafka.topics.values()) else None


def _redriven(history: History) -> bool:
    """Whether there are records with another time than that of their place."""
    return any(record.pairs for tp in history.world.kafka.tps() for record in history.world.kafka.log(tp).records)


def _within(history: History, act: Operator, of: Chunk) -> bool:
    """Whether a chunk has any of the wanted offsets or times."""
    one = _source(history, of)
    end, request, when = grids_of(history)[of[0]].chunk_end(of[1]), act.request, act.when
    if request.from_offset is not None and request.to_offset is not None:
        return of[1] < request.to_offset and request.from_offset < end
    if when.since_ms is not None and when.until_ms is not None:
        there = [record for record in one.log.records if record.at >= one.log.low]
        first = min((record.at for record in there if record.when_ms >= when.since_ms), default=1 << 60)
        last = min((record.at for record in there if record.when_ms >= when.until_ms), default=1 << 60)
        return of[1] < last and first < end
    return request.partitions is None or one.tp[1] in request.partitions


def _events(history: History, step: Step, at: Chunk) -> dict[int, Callable[[], None]]:
    """Another operator repairs the same chunk meanwhile; an entry of the rules is taken back; its first record goes."""
    one = _source(history, at)
    request = ReplayRequest((one.tp[0],), _partition(history, one), at[1], at[1] + 1, repair=True, head=HeadPolicy.skip)
    quietly = {"kind": 0, "beside": 1 << 60, "effect": 0}
    events = {
        step.get("second", 0): Operator(history, quietly, request).apply,
        step.get("retains", 0): lambda: _first_goes(history, one, at[1]),
        step.get("voids", 0): lambda: ACTIONS["void"](history, {"which": step["kind"]}),
    }
    return {effect: happens for effect, happens in events.items() if effect}


def _first_goes(history: History, one: Counted, chunk: int) -> None:
    if records := one.log.within(chunk, 1 << 60):
        delete_below(history, one.tp, records[0].at + 1)


def _mend(act: Operator, chunks: dict[Chunk, bool], right: Held, at: Chunk) -> None:
    history, step = act.history, act.step
    wrong = held(history, chunks)
    isolation, recount = history.plan.world.isolation, (step["table"], step["harm"]) != ("dead_letters", "lost")
    if wrong != right and not auditing.finds(history.world, isolation, history.version, at, recount=recount):
        raise Violation(auditing.AUDIT, f"it finds nothing in {at}: {step}")
    planned = {chunk: values for chunk, values in _planned(act.plan()).items() if chunk[1:3] in chunks}
    if outside := {chunk for chunk in act.chunks if not _within(history, act, chunk)}:
        raise Violation(PLAN, f"it was not asked for {outside}")
    if held(history, chunks) != wrong:
        raise Violation(PLAN, "planning changes what is stored")
    if step["fault"]:
        history.world.store.faults.append(Planned(step["table"], step["fault"]))
    _apply(act)
    if history.mixed_outcomes:
        act.stopped_in_time()
        raise Refused("counted by the rules of before, and by others")
    found = held(history, chunks)
    if _head_is_gone(history, at):
        whole = {chunk for chunk, is_whole in chunks.items() if is_whole}
        _left_alone(act, *({key: one[key] for key in one if key[1:3] in whole} for one in (found, wrong, right)))
        raise Refused("retention has taken records of this chunk meanwhile")
    changed = {key: found.get(key) for key in wrong.keys() | found.keys() if wrong.get(key) != found.get(key)}
    if changed != planned:
        differ = {key for key in changed.keys() | planned.keys() if changed.get(key, 0) != planned.get(key, 0)}
        told = {key: (planned.get(key, "not planned"), changed.get(key, "not changed")) for key in differ}
        raise Violation(PLAN, [*told.items()][:4])
    _compare(MENDED, found, right, at)
    if act.request.repair and not act.met_others:
        history.kept[_source(history, at).tp] = at[1]  # else there is no way to put it right once more
        act.undo()
        _compare(UNDONE, held(history, chunks), wrong, None)
        act.apply()
        _compare(MENDED, held(history, chunks), right, at)
    if left := [one for one in act.plan() if (one.counted.source.source_id, one.counted.chunk) == at]:
        raise Violation(MENDED, f"a second plan finds {left[0].cells}")


def _head_is_gone(history: History, at: Chunk) -> bool:
    one = _source(history, at)
    return one.log.low > max(at[1], one.first_offset)


def _left_alone(act: Operator, found: Held, wrong: Held, right: Held) -> None:
    """Of a chunk of which retention took records meanwhile, what was not mended stays as it is.

    Where a repair has mended a part of it, that is told.
    """
    keys = found.keys() | wrong.keys() | right.keys()
    if worse := [key for key in keys if found.get(key) not in (wrong.get(key), right.get(key))]:
        told = [(key, found.get(key), wrong.get(key), right.get(key)) for key in worse]
        raise Violation(MENDED, f"retention came meanwhile: (found, before, right) {told[:4]}")
    half = not any(_same(found, other, keys) for other in (wrong, right))
    if half and act.request.repair and not any("was begun" in note for note in act.told):
        raise Violation(MENDED, f"it is mended by half, and that is not told: {act.told}")


def _same(one: Held, other: Held, keys: Iterable[tuple[Any, ...]]) -> bool:
    return all(one.get(key) == other.get(key) for key in keys)


def _source(history: History, at: Chunk) -> Counted:
    return source_of(history.world.store, history.world.kafka, at[0])


def _apply(act: Operator) -> None:
    """Do it; whom another one was faster than asks again."""
    try:
        act.apply()
    except Refused:
        if not act.met_others:
            raise
        act.apply()


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


def closed(history: History) -> dict[Chunk, bool]:
    """Closed chunks that a replay may count again; whether one pass over the log gives what is stored of it."""
    store, logs = history.world.store, [history.world.kafka.log(tp) for tp in history.world.kafka.tps()]
    grids = grids_of(history)
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


def held(history: History, chunks: dict[Chunk, bool]) -> Held:
    """What a reader sees of these chunks."""
    store, grids, held = history.world.store, grids_of(history), Held()
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
