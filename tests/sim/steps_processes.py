"""Steps: processes that start, stop, are killed, stand still and go on; versions of the program and of the rules."""

import json
from functools import partial
from typing import Final

from orgstats.consumer.kafka.errors import Fenced
from tests.sim.history import DEEPEST, MOST_PROCESSES, History, action
from tests.sim.plan import Step
from tests.sim.steps_kafka import append
from tests.sim.world import SimProcess

_LATER_SECONDS: Final = 0.25
"""A few turns of a loop that has nothing to read."""


@action
def turn(history: History, step: Step) -> None:
    """A process goes on for a while."""
    if process := history.pick(step["which"]):
        history.turn(process, step["turns"])


@action
def start(history: History, _step: Step) -> None:
    """Another process."""
    if len(history.processes) < MOST_PROCESSES:
        history.start()


@action
def start_mistaken(history: History, step: Step) -> None:
    """A process is started that reads otherwise than what is counted was read: it is refused, and has stored nothing.

    Not where somebody has not been counted yet, since that would be counted as it reads.
    """
    world, kafka = history.world, history.world.kafka
    registered = {(row.topic, row.partition, row.topic_id) for row in world.store.final("sources")}
    unknown = any((*tp, kafka.topics[tp[0]][0]) not in registered for tp in kafka.tps())
    if unknown or not history.untroubled or len(history.processes) > MOST_PROCESSES:
        return
    other = {"read_committed": "read_uncommitted", "read_uncommitted": "read_committed"}[history.plan.world.isolation]
    process = history.start(kafka={"isolation.level": other})
    for _ in range(step["turns"]):
        for one in history.idle():
            history.turn(one, 1)
    if process in history.processes:
        history.end(process, arrives=False)


@action
def stop(history: History, step: Step) -> None:
    """SIGTERM, between two turns; or in one of the next turns, or while it sleeps."""
    if process := history.pick(step["which"]):
        later = step["which"] % 3 == 0
        history.run(process, partial(process.run, _LATER_SECONDS) if later else process.stop)
        history.drop(process)


@action
def kill(history: History, step: Step) -> None:
    """SIGKILL, between two turns."""
    if process := history.pick(step["which"]):
        history.end(process, arrives=step["arrives"])


@action
def kill_at(history: History, step: Step) -> None:
    """SIGKILL before or after one of the next things that it does to others."""
    if process := history.pick(step["which"]):
        process.fuse = (step["effect"], process.kill)


@action
def stand_still(history: History, step: Step) -> None:
    """It is stopped in the middle of something, goes on later, and may not know by then what has happened meanwhile."""
    process = history.pick(step["which"])
    if process is None:
        return

    def stops() -> None:
        if history.depth >= DEEPEST:
            return
        clock = history.world.clock
        member = process.member if process.members else None
        if member is not None and process.busy:
            member.silent_since = clock.monotonic()
        history.depth += 1
        if step["seconds"]:
            clock.sleep(step["seconds"])
            history.world.group.expire()
        history.go_on(step["steps"])
        history.depth -= 1
        if member is not None and not process.dead and not member.closed:
            member.silent_since = None

    process.fuse = (step["effect"], stops)


@action
def hold(history: History, step: Step) -> None:
    """From now on, or no more, a checkpoint only begins when it is let."""
    if process := history.pick(step["which"]):
        process.executor.hold = not process.executor.hold
        _finish(history, process)


@action
def finish(history: History, step: Step) -> None:
    """A checkpoint that was begun is run, beside the loop."""
    if process := history.pick(step["which"]):
        _finish(history, process)


def _finish(history: History, process: SimProcess) -> None:
    history.run(process, process.executor.run)


@action
def expel(history: History, step: Step) -> None:
    """The group has not heard of a member for too long, and it does not know that yet."""
    if (process := history.pick(step["which"])) and process.member in history.world.group.members:
        history.world.group.expel(process.member)


@action
def fence(history: History, step: Step) -> None:
    """The broker does not know a member any more."""
    if process := history.pick(step["which"]):
        process.member.fenced = Fenced("another process uses the same name")


@action
def rebalance(history: History, _step: Step) -> None:
    """All partitions are dealt anew."""
    history.world.group.rebalance()


@action
def repeat(history: History, step: Step) -> None:
    """A fetch brings records that were delivered before."""
    if process := history.pick(step["which"]):
        process.member.repeats = step["offsets"]


@action
def wait(history: History, step: Step) -> None:
    """Time passes; the group hears of all that live."""
    history.world.clock.sleep(step["seconds"])
    history.world.group.expire()


@action
def skew(history: History, step: Step) -> None:
    """The clock of a consumer's machine is set; the store's and a consumer's are not both ahead."""
    if process := history.pick(step["which"]):
        ahead = max(0, step["seconds"])
        process.clock.skew_ms = 1000 * (step["seconds"] if not ahead or history.world.store.skew_ms <= 0 else 0)


@action
def skew_store(history: History, step: Step) -> None:
    """The clock of ClickHouse is set."""
    if step["seconds"] <= 0 or all(process.clock.skew_ms <= 0 for process in history.processes):
        history.world.store.skew_ms = 1000 * step["seconds"]


@action
def skew_all(history: History, step: Step) -> None:
    """Every clock is ahead, so that nobody can tell the time; that ends when all are right again."""
    history.clocks_ahead = True
    history.world.store.skew_ms = 1000 * step["seconds"]
    for process in history.processes:
        process.clock.skew_ms = 1000 * step["seconds"]


@action
def settle(history: History, step: Step) -> None:
    """Faults cease, and everything is compared."""
    history.settle(ends=step["ends"])


@action
def version(history: History, step: Step) -> None:
    """Processes that start from now on are of another version; those that run go on beside them, or are ended first."""
    torn = history.plan.world.tears
    if step["version"] == history.version or not history.alone:
        return
    history.world.store.arrive()
    if step["ends"] or torn:
        history.end_all()
    history.version = step["version"]
    history.mixed_times = True
    history.limits.on_change(torn=torn)


@action
def publish(history: History, _step: Step) -> None:
    """Another entry of the rules."""
    history.rules.publish(history.world.clock.epoch_ms())
    history.world.store.rules = history.rules.history()


@action
def rules_unread(history: History, step: Step) -> None:
    """Rules are published, and then nobody can read them until they are long in force, while producers go on."""
    world, tp = history.world, history.tp(step["tp"])
    if world.store.away:
        return
    publish(history, step)
    world.store.away = True
    for second in range(0, 130, step["seconds"]):
        world.clock.sleep(step["seconds"])
        event: dict[str, object] = {
            "org_id": 1,
            "project_id": 1,
            "key_id": 7,
            "category": 0,
            "reason": None,
            "quantity": 1,
        }
        event |= {"timestamp": world.clock.epoch_ms() // 1000, "release": "bad" if second else None}
        world.kafka.produce(tp, json.dumps(event).encode())
        for process in history.idle():
            history.turn(process, 2)
    world.store.away = False


@action
def void(history: History, step: Step) -> None:
    """An entry is taken back: another edition."""
    torn = history.plan.world.tears
    if not history.alone:
        return
    history.world.store.arrive()
    if torn:
        history.end_all()
    if history.rules.void(step["which"]):
        history.world.store.rules = history.rules.history()
        history.mixed_outcomes = True
        history.limits.on_change(torn=torn)
    if step.get("seconds"):  # who counts learns of it, and goes on
        for _ in range(3):
            history.world.clock.sleep(step["seconds"])
            append(history, history.tp(step["tp"]), step | {"apart": 1})
            for process in history.idle():
                history.turn(process, 3)
