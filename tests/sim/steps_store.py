"""Steps: what goes wrong with ClickHouse, and what operators do with it."""

from contextlib import suppress

from orgstats.errors import OrgstatsError
from tests.sim.clickhouse import Planned
from tests.sim.history import History, action
from tests.sim.operating import change_length
from tests.sim.plan import Step
from tests.sim.steps_kafka import append

_BEYOND = 30_000
"""So many offsets behind where the length changes there are records."""
_DAY_SECONDS = 86_400


@action
def fault(history: History, step: Step) -> None:
    """The next insert into a table goes wrong."""
    history.world.store.faults.append(Planned(step["table"], step["fault"]))


@action
def arrive(history: History, _step: Step) -> None:
    """Inserts that were on their way come in."""
    history.world.store.arrive()


@action
def store_away(history: History, _step: Step) -> None:
    """ClickHouse does not answer, or does again."""
    history.world.store.away = not history.world.store.away


@action
def trouble(history: History, step: Step) -> None:
    """It is read-only, or without memory, disk, or a replica that has caught up; or has all of them again."""
    history.world.store.trouble = step["trouble"]


@action
def slow(history: History, step: Step) -> None:
    """What is stored of one partition cannot be read, or can again."""
    history.world.store.slow ^= {history.tp(step["tp"])}


@action
def merge(history: History, _step: Step) -> None:
    """Parts are merged: rows that lose are deleted."""
    history.world.store.merge()


@action
def expire(history: History, step: Step) -> None:
    """Retention by age."""
    history.world.store.expire(history.world.clock.epoch_ms() // 1000 - step["days"] * _DAY_SECONDS)


@action
def chunk_length(history: History, step: Step) -> None:
    """An operator changes the length of chunks while consumers run; where that cannot be now, it is refused."""
    with suppress(OrgstatsError):
        for change in change_length(history.world, step["length"]):
            tp = change.located.source.topic, change.located.source.partition
            while step["grows"] and history.world.kafka.log(tp).end < change.from_offset + _BEYOND:
                append(history, tp, {"records": 1, "apart": 7000, "kind": history.world.kafka.log(tp).end})


@action
def back_up(history: History, _step: Step) -> None:
    """A backup is made."""
    history.backup, history.backup_ahead = history.world.store.copy(), history.clocks_ahead


@action
def restore(history: History, step: Step) -> None:
    """The backup is restored, with the consumers restarted or under them.

    Not one from when nobody could tell the time, of a topic that is gone by now: nothing corrects what it tells of it.
    """
    there = {uuid for uuid, _ in history.world.kafka.topics.values()}
    of_gone = any(row.topic_id not in there for row in history.backup["sources"])
    if not history.alone or (history.backup_ahead and of_gone):
        return
    if step["restarts"]:
        history.end_all()
    history.moved = history.restored = history.went_back = True
    history.clocks_ahead, history.to_come = history.clocks_ahead or history.backup_ahead, None
    history.world.store.restore(history.backup)
    history.limits.on_restore()
    counted = history.world.counted()
    for tp in history.world.kafka.tps():
        log = history.world.kafka.log(tp)
        log.maybe |= {at for at in log.compacted if at >= counted.get(tp, 0)}
