"""Steps: what producers and operators do to Kafka, and what happens to its logs."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.states import PartitionState
from orgstats.errors import Unavailable
from tests.sim import checks
from tests.sim.events import body
from tests.sim.history import History, action
from tests.sim.oracle import Violation
from tests.sim.plan import SHORTEST, Step
from tests.sim.world import SimProcess

_MOST_LEAD_MS = 30_000
"""A producer's timestamp is not further ahead, or rules could be missed by it (docs/reliability.md)."""


def append(history: History, tp: TopicPartition, step: Step) -> list[int]:
    """Records at the end of a log; their offsets."""
    world, choice = history.world, Random(step["kind"])
    now, log, found = world.clock.epoch_ms(), world.kafka.log(tp), []
    for _ in range(step["records"]):
        when = now
        if not history.plan.world.log_append:
            when += choice.choice((0, 0, -60_000, -86_400_000, _MOST_LEAD_MS))
        apart = step["apart"] if step["apart"] < 60 else step["apart"] * choice.randint(1, 3)
        found.append(log.append(body(choice, now // 1000), when, now, apart))
    return found


@action
def produce(history: History, step: Step) -> None:
    """Producers write."""
    append(history, history.tp(step["tp"]), step)


@action
def broken(history: History, step: Step) -> None:
    """A producer goes wrong."""
    history.world.kafka.produce(history.tp(step["tp"]), *[b"{"] * step["records"])


@action
def begin(history: History, step: Step) -> None:
    """A transaction begins with its first records."""
    tp = history.tp(step["tp"])
    log = history.world.kafka.log(tp)
    if len(log.open) < 2:
        log.open[step["kind"]] = [log.end]
        log.open[step["kind"]] = append(history, tp, step)


@action
def send(history: History, step: Step) -> None:
    """More records in the first transaction that is open, or beside it."""
    tp = history.tp(step["tp"])
    log = history.world.kafka.log(tp)
    found = append(history, tp, step)
    if log.open and step["kind"] % 2:
        next(iter(log.open.values())).extend(found)


@action
def end(history: History, step: Step) -> None:
    """A transaction is committed, or aborted."""
    log = history.world.kafka.log(history.tp(step["tp"]))
    if log.open:
        log.finish(next(iter(log.open)), commit=step["commit"])


@action
def kafka_away(history: History, _step: Step) -> None:
    """Kafka does not answer, or does again."""
    kafka = history.world.kafka
    kafka.away = None if kafka.away else Unavailable("Kafka: no answer")


@action
def leaderless(history: History, step: Step) -> None:
    """A partition has no leader, or has one again."""
    history.world.kafka.leaderless ^= {history.tp(step["tp"])}


@action
def lose_commits(history: History, step: Step) -> None:
    """The next commits get lost on their way."""
    history.world.kafka.lost_commits = step["commits"]


@action
def retain(history: History, step: Step) -> None:
    """Retention deletes what is counted already."""
    tp = history.tp(step["tp"])
    log = history.world.kafka.log(tp)
    _retain(history, tp, min(log.stable_end, history.world.counted().get(tp, 0)), step["share"])


@action
def lose(history: History, step: Step) -> None:
    """Retention deletes whatever is old, counted or not."""
    tp = history.tp(step["tp"])
    if step["grows"]:
        append(history, tp, {"records": step["grows"], "apart": 7, "kind": round(1000 * step["share"])})
    _retain(history, tp, history.world.kafka.log(tp).stable_end, step["share"])


@action
def overtake(history: History, step: Step) -> None:
    """Retention overtakes a consumer that has counted more than is stored: that is stored, and not listed as gone."""
    tp, world = history.tp(step["tp"]), history.world
    process = next((one for one in history.idle() if one.state(tp) is PartitionState.COUNTING), None)
    log = world.kafka.log(tp)
    if process is None or not history.untroubled or history.went_back or log.open or log.unresolved:
        return
    append(history, tp, {**step, "apart": 1})
    history.turn(process, 1)
    opened = process.loop._partitions.open.get(tp) if process in history.processes else None
    if opened is None or process.state(tp) is not PartitionState.COUNTING:
        return
    counted, source_id = opened.partition.next_offset, opened.partition.source.source_id
    before = {(row.source_id, row.from_offset, row.to_offset) for row in world.store.final("gaps")}
    before.add((source_id, *(opened.partition._start.gap or (0, 0))))  # which is not stored yet
    append(history, tp, {**step, "apart": 7})
    _retain(history, tp, log.end, 1.0)
    for _ in range(6):
        world.clock.sleep(1.0)
        history.turn(process, 1)
    listed = [row for row in world.store.final("gaps") if row.source_id == source_id and row.why == "retention"]
    listed = [row for row in listed if (row.source_id, row.from_offset, row.to_offset) not in before]
    if lost := [row for row in listed if row.from_offset < counted <= row.to_offset]:
        raise Violation(checks.GAPS, f"{tp} was counted to {counted}, and {lost} is listed")


def _retain(history: History, tp: TopicPartition, most: int, share: float) -> None:
    low = history.world.kafka.log(tp).low
    delete_below(history, tp, low + round(share * (most - low)))


def delete_below(history: History, tp: TopicPartition, low: int) -> None:
    """Retention comes up to an offset."""
    low = min(low, history.kept.get(tp, low))
    if low > history.world.kafka.log(tp).low:
        history.limits.on_retention(tp, low)
        history.world.kafka.retain(tp, low)


@action
def cut(history: History, step: Step) -> None:
    """An unclean election: the log loses its tail, and perhaps others come to its offsets before anybody looks."""
    if not history.alone:
        return
    tp = history.tp(step["tp"])
    kafka, store = history.world.kafka, history.world.store
    log = kafka.log(tp)
    store.arrive()
    if step["ends"] or not history.plan.world.epochs:
        history.end_all()
    elif history.plan.world.tears:
        history.end_all(arrives=step["counted"])
    most = max(log.low, min(log.end, history.world.counted().get(tp, 0))) if step["counted"] else log.end
    back = round((most - log.low) * step["share"] ** 3)
    before = len(log.vanished)
    cut_back(history, tp, most - back, zombies=False)
    for record in log.vanished[before:][: step.get("same", 0)]:
        log.end = record.at  # who sent it does so again, the very same, which comes to where it was
        log.append(record.body, record.when_ms, kafka.clock.epoch_ms(), pairs=record.pairs)
    if step["grows"]:
        append(history, tp, {"records": step["grows"], "apart": 60, "kind": round(1000 * step["share"])})


@action
def cut_behind(history: History, step: Step) -> None:
    """The log loses the end of a closed chunk, and others come to all its offsets before anybody looks.

    Either counting is to go on where a chunk begins, and nothing is read again; or offsets are set back, perhaps to a
    chunk whose head is gone, and the next consumer stores often on its way to where it knows that the log is another.
    Or consumers count on meanwhile.
    """
    tp = history.tp(step["tp"])
    kafka, log = history.world.kafka, history.world.kafka.log(tp)
    if not history.alone or log.open or log.unresolved or tp not in kafka.commits:
        return
    if step["ends_chunk"] and log.end % SHORTEST:
        append(history, tp, {"records": 1, "apart": SHORTEST - log.end % SHORTEST, "kind": step["kind"]})
        history.settle(ends=False)
    counted = history.world.counted().get(tp, 0)
    unseen = step["unseen"] and not history.plan.world.epochs and not step["ends_chunk"]  # that nobody could tell
    base = 0 if step["ends_chunk"] or unseen else SHORTEST
    if counted < (1 if unseen else base + SHORTEST) or log.low >= SHORTEST:
        return
    history.world.store.arrive()
    if not unseen:
        history.end_all()
    if not step["ends_chunk"] and not unseen:
        if step["head_lost"]:
            _retain(history, tp, SHORTEST, 0.5)
        kafka.commits[tp] = replace(kafka.commits[tp], next_offset=max(log.low, SHORTEST - 1))
    last = counted - counted % SHORTEST or counted
    end = max(log.low, base + round((last - base) * step["share"]))
    _cut_and_grow(history, tp, end, counted, step)
    if unseen:  # without epochs nobody who goes on behind the cut can tell, nor who goes on from the next chunk
        log.untold = (counted - 1) // SHORTEST < (log.end - 1) // SHORTEST
        _go_on(history, history.idle(), 8)
        history.end_all()
    _go_on(history, [history.start()], step["turns"])
    if step["again"]:
        history.end_all()
        _cut_and_grow(history, tp, max(log.low, end // 2), counted, step)


def _cut_and_grow(history: History, tp: TopicPartition, end: int, grown: int, step: Step) -> None:
    log = history.world.kafka.log(tp)
    cut_back(history, tp, end, zombies=bool(history.processes))
    while log.end <= grown:
        append(history, tp, {"records": 1, "apart": 1500, "kind": step["kind"] + log.end})


def cut_back(history: History, tp: TopicPartition, end: int, *, zombies: bool) -> None:
    """The log ends here from now on."""
    history.limits.on_cut(tp, end, zombies=zombies)
    history.world.kafka.cut_back(tp, end)
    history.moved = True  # the commit may lie behind the end now, or is for what was there before


def _go_on(history: History, processes: Sequence[SimProcess | None], turns: int) -> None:
    """Slowly, so that each turn stores what it has."""
    for process in processes:
        for _ in range(turns if process else 0):
            history.world.clock.sleep(1.0)
            if process in history.processes:
                history.turn(process, 1)
            history.check_complete_until()


@action
def elect(history: History, step: Step) -> None:
    """Another leader, with the whole log."""
    history.world.kafka.log(history.tp(step["tp"])).elect()


@action
def compact(history: History, step: Step) -> None:
    """Any records but the last vanish, their offsets stay.

    Those that a flush was torn of, or that a consumer which was cut off stores late, are read again by its successor,
    and may be missing then.
    """
    tp = history.tp(step["tp"])
    log, choice = history.world.kafka.log(tp), Random(step["kind"])
    again = [at for process in history.processes if (at := process.next_offset(tp)) is not None]
    counted = min([history.world.counted().get(tp, 0), *again])
    gone = {record.at for record in log.records[:-1] if record.at < log.stable_end and choice.random() < 0.4}
    log.compacted |= gone
    log.maybe |= {at for at in gone if at >= counted}


@action
def commit_back(history: History, step: Step) -> None:
    """An operator sets the group's offsets back, which Kafka lets nobody do while it has members."""
    _set_commit(history, step, lambda commit, _end: round(commit * step["share"]))


@action
def commit_ahead(history: History, step: Step) -> None:
    """An operator sets them ahead, perhaps to where there is no record yet."""
    _set_commit(history, step, lambda commit, end: commit + round((end - commit + 1000) * step["share"]))


@action
def drop_metadata(history: History, step: Step) -> None:
    """A tool writes the commits anew, without what stood beside them."""
    _set_commit(history, {**step, "tp": 0}, lambda commit, _end: commit)


def _set_commit(history: History, step: Step, to) -> None:  # type: ignore[no-untyped-def]
    if not history.alone:
        return
    history.end_all()
    kafka, tp = history.world.kafka, history.tp(step["tp"])
    if tp in kafka.commits:
        commit = kafka.commits[tp]
        history.moved = True
        kafka.commits[tp] = replace(commit, next_offset=to(commit.next_offset, kafka.log(tp).end), metadata="")
        if history.plan.world.accept_skip and kafka.commits[tp].next_offset > history.world.counted().get(tp, 0):
            history.limits.on_skip(tp)  # also where it was of a topic that has been made again since


@action
def add_partition(history: History, step: Step) -> None:
    """A topic gets one partition more."""
    topic, _ = history.tp(step["tp"])
    if len(history.world.kafka.topics[topic][1]) < 4:
        history.world.kafka.add_partition(topic)
        history.world.group.rebalance()


@action
def recreate(history: History, step: Step) -> None:
    """A topic is deleted and made again, perhaps after a while.

    Not while nobody can tell the time, as nothing corrects what is told of it.
    """
    if not history.alone or history.clocks_ahead:
        return
    topic, _ = history.tp(step["tp"])
    if step["ends"]:
        history.end_all()
    kafka = history.world.kafka
    history.limits.on_deletion(topic)
    partitions = len(kafka.topics[topic][1])
    order = [*kafka.topics]
    history.recreated = history.moved = True  # a commit may still be made of what was
    kafka.delete(topic)
    if step["away"]:
        history.world.group.rebalance()
        for process in history.idle():
            history.turn(process, step["away"])
            history.world.clock.sleep(2.0)
    kafka.create(topic, partitions)
    kafka.topics = {name: kafka.topics[name] for name in order}
    history.world.group.rebalance()
