"""Steps: what goes wrong with ClickHouse, and what operators do with it."""

from tests.sim.clickhouse import Planned
from tests.sim.events import DAY_SECONDS
from tests.sim.history import History, action
from tests.sim.plan import Step


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
    """Retention by age; not beside an operator who compares what is stored before and after."""
    if history.damaged:
        return
    history.world.store.expire(history.world.clock.epoch_ms() // 1000 - step["days"] * DAY_SECONDS)


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
    kafka = history.world.kafka
    uncounted = history.plan.world.compacted or any(kafka.log(tp).low for tp in kafka.tps())
    if step["restarts"] or (history.erased and uncounted):  # docs/backups.md: what knows of an erasure must not run on
        history.end_all()
    history.moved = history.restored = history.went_back = True
    history.erasing = history.erasing or bool(history.erased)
    history.clocks_ahead, history.to_come = history.clocks_ahead or history.backup_ahead, None
    history.world.store.restore(history.backup)
    history.limits.on_restore()
    counted = history.world.counted()
    for tp in history.world.kafka.tps():
        log = history.world.kafka.log(tp)
        log.maybe |= {at for at in log.compacted if at >= counted.get(tp, 0)}
