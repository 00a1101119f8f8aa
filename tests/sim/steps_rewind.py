"""Steps: an operator counts all again that the logs still hold, of logs that were cut back, while no consumer runs."""

from contextlib import suppress
from typing import Final

from orgstats.consumer.ops.recount import HeadPolicy
from orgstats.consumer.ops.replay import ReplayRequest
from orgstats.errors import Refused
from tests.sim.history import History, action
from tests.sim.oracle import Counted, Violation, sources
from tests.sim.plan import Step
from tests.sim.replaying import Operator, grids_of
from tests.sim.steps_kafka import append, cut_back

REWOUND: Final = "a rewind counts what the log holds, and nothing else"
REFUSED: Final = "a rewind is refused where a head is gone, or consumers run"


@action
def rewind(history: History, step: Step) -> None:
    """Some log is cut back, and perhaps grows again; then all that is left of it is counted, and nothing else stays."""
    store, kafka = history.world.store, history.world.kafka
    troubled = store.away or store.trouble or store.slow or store.expired_before or kafka.away or kafka.leaderless
    if troubled or history.mixed_times or history.mixed_outcomes or history.restored or not history.alone:
        return
    request = ReplayRequest(tuple(history.world.topics), repair=True, rewind=True, head=HeadPolicy(step["head"]))
    act = Operator(history, step, request)
    if history.world.group.members or (history.plan.world.compacted and _there(history)):
        _is_refused(history, act)
    if history.plan.world.compacted:
        return
    history.end_all()
    store.arrive()
    store.faults.clear()
    tp = history.tp(step["tp"])
    log = kafka.log(tp)
    if step["share"]:
        cut_back(history, tp, log.end - round((log.end - log.low) * step["share"]), zombies=False)
        append(history, tp, {"records": step["grows"], "apart": step["apart"], "kind": step["kind"]})
    before = _there(history)
    if step["head"] == "skip" and any(one.log.unresolved and _head_is_gone(history, one) for one in before):
        return  # what is left as it is may be of what vanished
    try:
        act.apply()
    except Refused as error:
        waits = "chunk length" in str(error) or "is being erased" in str(error)
        if not any(_head_is_gone(history, one) for one in before) and not waits:
            raise Violation(REFUSED, str(error)) from error
        return
    history.rewound = history.moved = True  # commits may be ahead of what is counted
    if history.plan.world.accept_skip:
        for one in kafka.tps():
            history.limits.on_skip(one)
    _check(history, act, before)


def _is_refused(history: History, act: Operator) -> None:
    before = history.world.store.copy()
    with suppress(Refused):
        act.apply()
        raise Violation(REFUSED, "it was done")
    if history.world.store.copy() != before:
        raise Violation(REFUSED, "it has written something")


def _there(history: History) -> list[Counted]:
    """Sources of topics that there are and of which anything is counted."""
    logs = [history.world.kafka.log(tp) for tp in history.world.kafka.tps()]
    told = history.world.store.winners("progress")
    every = sources(history.world.store, history.world.kafka)
    return [one for one in every if one.source_id in told and any(one.log is log for log in logs)]


def _head_is_gone(history: History, one: Counted) -> bool:
    chunk_first = grids_of(history)[one.source_id].chunk_of(max(one.log.low, one.first_offset))
    return one.log.low > max(chunk_first, one.first_offset)


def _check(history: History, act: Operator, before: list[Counted]) -> None:
    """Counted to where the logs end, every cell; also of what vanished nothing is left."""
    isolation = history.plan.world.isolation
    for was in before:
        was.log.unresolved = False
        was.log.cuts += 1  # it may be told as one
    now = {one.source_id: one for one in _there(history)}
    short = [one.name for one in now.values() if one.next_offset != one.log.visible_end(isolation)]
    if short:
        raise Violation(REWOUND, f"{short} are not counted to their ends")
    history.check()
    with suppress(Refused):
        act.undo()
        raise Violation(REWOUND, "it can be undone")
