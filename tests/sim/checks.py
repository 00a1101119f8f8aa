"""The invariants: what must hold whenever somebody looks, and what once faults have ceased."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from orgstats.consumer.counting.resume import LOG_CUT_BACK
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.states import PartitionState
from tests.sim import erased
from tests.sim.clickhouse import Row, SimClickHouse
from tests.sim.kafka import SimKafka
from tests.sim.limits import LONGEST
from tests.sim.log import SimLog
from tests.sim.oracle import Counted, Values, Violation, dead_letters, one_pass, sources, stored, summed
from tests.sim.plan import SHORTEST
from tests.sim.rules import SimRules
from tests.sim.world import SimProcess, SimWorld
from tests.support.record import FakeRecord

CELLS = "cells equal one pass"
LETTERS = "dead letters each once"
SMALLER = "what readers see never becomes smaller"
GAPS = "only what is gone is a gap"
COMPLETE = "complete_until never too early"
CUTS = "a cut is found only where there was one"
COMMITS = "the commit follows the store"
BACK = "commits do not go back"
CATCHES_UP = "after faults everything catches up"
TELLS = "what a consumer tells of itself is so"
ENDED = "no process ends without a reason"
PROGRAM = "no error of the program"


class Scope(NamedTuple):
    """What is compared: by which version of the program and which rules, and what cannot be told by time or outcome."""

    isolation: str
    version: int
    rules: SimRules
    mixed_times: bool
    mixed_outcomes: bool
    skips: set[TopicPartition]
    """Of which an operator has set a commit ahead, where that is accepted."""
    limits: dict[int, str]
    """By source: why the guarantee does not reach it any more."""


def complete_until(store: SimClickHouse, kafka: SimKafka, until_ms: int | None = None) -> None:
    """No record that was acknowledged before may be uncounted; later times than `until_ms` are not looked at."""
    for one in sources(store, kafka):
        if until_ms is not None and one.complete_until_ms > until_ms:
            continue
        log = one.log
        since_ms = log.cut_at_ms if log.unresolved else 0  # what is from before is counted, and will be once more
        # Who has counted further than the log reaches has counted nothing of what came since it was cut back.
        unseen = log.unresolved and one.next_offset > log.end
        first = min(one.next_offset, log.cut_to) if unseen else one.next_offset
        at = next((at for at, ms in _acknowledged(log, max(first, log.low)) if ms >= since_ms), None)
        if at is not None and one.complete_until_ms > log.acknowledged_ms[at]:
            told = f"told {one.complete_until_ms}, offset {at} of {log.acknowledged_ms[at]} is not counted"
            raise Violation(COMPLETE, f"{one.name}: {told}")


def rewinds(store: SimClickHouse, kafka: SimKafka) -> None:
    """Nothing is set back, and nothing said to be gone, of a log that nobody has cut back."""
    for one in sources(store, kafka):
        if one.rewinds > one.log.cuts:
            raise Violation(CUTS, f"{one.name}: {one.rewinds} found, there were {one.log.cuts}")


def to_come(store: SimClickHouse, kafka: SimKafka) -> list[Row]:
    """Progress of topics that there are which tells a time of completeness that is still to come."""
    now_ms, present = kafka.clock.epoch_ms(), {uuid for uuid, _ in kafka.topics.values()}
    ids = {row.source_id for row in store.final("sources") if row.topic_id in present}
    told = [row for row in store.final("progress") if row.source_id in ids]
    return [row for row in told if max(row.complete_until, row.hourly_complete_until).timestamp() * 1000 > now_ms]


def _acknowledged(log: SimLog, first: int) -> Iterator[tuple[int, int]]:
    """(offset, when) of records from an offset on."""
    for record in log.records[bisect_left(log.records, first, key=FakeRecord.offset) :]:
        if record.at not in log.aborted:
            yield record.at, log.acknowledged_ms[record.at]


def never_smaller(
    world: SimWorld, before: dict[int, tuple[int, int]], *, compacted: bool
) -> dict[int, tuple[int, int]]:
    """How many events `counts` shows of each source, and of how many rows: a reader never sees fewer than `before`.

    Not so where the log was cut back, and what vanished is taken back; nor where retention may have taken the head of a
    chunk that a torn flush reached: then it is counted again from its stored cells on, without waiting; and so where
    counting began within a chunk, or topics are compacted, until all that the torn flush reached is counted again. Nor
    where compaction has deleted what a torn first flush had stored.
    """
    now: dict[int, tuple[int, int]] = {}
    begun = {row.source_id: row.to_offset for row in world.store.final("flushes")}
    for one in sources(world.store, world.kafka):
        found = world.store.winners("counts").get(one.source_id, {})
        events = sum(row.events for row in found.values())
        now[one.source_id] = events, len(found)
        head = one.first_offset - one.first_offset % LONGEST  # of the chunk in which counting began
        whole = not one.log.vanished and not one.log.unresolved and not one.log.maybe and one.log.low <= head
        waits = not compacted and one.first_offset % SHORTEST == 0
        whole = whole and (waits or begun.get(one.source_id, 0) <= one.next_offset)
        if whole and events < before.get(one.source_id, (0, 0))[0]:
            raise Violation(SMALLER, f"{one.name}: {events} events, before {before[one.source_id][0]}")
    return now


def commits(world: SimWorld, before: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Nothing is committed that is not stored; returns the commits, none of which is less than `before`.

    But for logs that were cut back.
    """
    counted = world.counted()
    uuids = {topic: uuid for topic, (uuid, _) in world.kafka.topics.items()}
    ours = {  # one that was on its way while the topic was made again names the other one
        tp: one for tp, one in world.kafka.commits.items() if f"topic_id={uuids[tp[0]]} " in f"{one.metadata} "
    }
    ahead = {tp: one.next_offset for tp, one in ours.items() if one.next_offset > counted.get(tp, 0)}
    if ahead:
        raise Violation(COMMITS, f"committed {ahead}, stored {counted}")
    now = {tp: one.next_offset for tp, one in ours.items() if not world.kafka.log(tp).vanished}
    back = {tp: (before[tp], offset) for tp, offset in now.items() if offset < before.get(tp, 0)}
    if back:
        raise Violation(BACK, f"commits went back: {back}")
    return now


def tells(world: SimWorld, processes: Iterable[SimProcess]) -> None:
    """When all is stored: of what it counts, it says so and how far it is; and it pauses for nothing."""
    counted = world.counted()
    for process in processes:
        owned = {tp for tp in world.kafka.tps() if process.state(tp) is PartitionState.COUNTING}
        owned = {tp for tp in owned if world.group.owners.get(tp) is process.member}
        told = {tp: at.next_offset for tp, at in process.loop.positions().items() if tp in owned}
        # One without any progress was made again, and is empty.
        wrong = {tp: offset for tp, offset in told.items() if offset != counted.get(tp, offset)}
        if wrong or not owned <= process.loop.assigned_tps() or process.loop.pause_reasons():
            said = process.loop.assigned_tps(), process.loop.pause_reasons()
            raise Violation(TELLS, f"told {wrong}, stored {counted}; owned {owned}, said {said}")


def quiet(store: SimClickHouse, kafka: SimKafka, scope: Scope) -> None:
    """Every cell and dead letter of every source, as far as it is counted, equals one pass over its log."""
    for one in sources(store, kafka):
        if one.source_id in scope.limits:
            continue
        _gaps(one, scope)
        _cells(one, store, scope)


def _gaps(one: Counted, scope: Scope) -> None:
    for first, end, why in one.gaps:
        if why == "skip accepted" and one.tp not in scope.skips:
            raise Violation(GAPS, f"{one.name}: {first} to {end} is skipped, which nobody has accepted")
        if why == "skip accepted" and end > one.log.low and end % SHORTEST:
            raise Violation(GAPS, f"{one.name}: {first} to {end} is skipped, and that is within a chunk")
        if why == "retention" and end > one.log.low:
            raise Violation(GAPS, f"{one.name}: {first} to {end} is listed, the log begins at {one.log.low}")


def _cells(one: Counted, store: SimClickHouse, scope: Scope) -> None:
    gaps = [gap for gap in one.gaps if gap[2] != LOG_CUT_BACK]  # those offsets are given out again
    log = one.log
    every = list(log.ever(scope.isolation))
    sure = [
        r
        for r in every
        if one.first_offset <= r.at < one.next_offset
        and r.at not in log.maybe
        and not any(first <= r.at < end for first, end, _ in gaps)
    ]
    most, most_dead = one_pass(
        [*every, *log.vanished] if log.vanished and log.unresolved else every, scope.rules, scope.version
    )
    least, least_dead = one_pass([] if log.unresolved else sure, scope.rules, scope.version)
    if not log.unresolved and one.hourly_offset < one.next_offset:
        behind, _ = one_pass((r for r in sure if r.at < one.hourly_offset), scope.rules, scope.version)
        least = type(least)({key: behind[key] if key[0] == "hourly" else n for key, n in least.items()})
    found = stored(store, one.source_id)
    if orgs := {row.org_id for row in store.erasures()}:
        most, least = erased.forgotten(most, orgs), erased.forgotten(least, orgs)
        found = erased.forgotten(erased.without_moved(store, one.source_id, orgs, found), orgs)
    if scope.mixed_times or scope.mixed_outcomes:
        most, least, found = (summed(values, outcomes=scope.mixed_outcomes) for values in (most, least, found))
        expired = store.expired_before > 0
    else:
        expired = False
    wrong = {
        key: (least[key], n, most[key])
        for key, n in found.items()
        if not _low(least, key, store, expired) <= n <= most[key]
    }
    wrong |= {
        key: (n, 0, most[key]) for key, n in least.items() if key not in found and _low(least, key, store, expired)
    }
    if wrong:
        raise Violation(
            CELLS, f"{one.name}: {len(wrong)} differ (at least, stored, at most): {dict([*wrong.items()][:4])}"
        )
    dead = dead_letters(store, one.source_id)
    if not least_dead <= dead <= most_dead:
        raise Violation(
            LETTERS, f"{one.name}: missing {sorted(least_dead - dead)}, too many {sorted(dead - most_dead)}"
        )


def _low(least: Values, key: tuple[object, ...], store: SimClickHouse, expired: bool) -> int:
    if expired or (isinstance(key[2], int) and key[2] < store.expired_before and len(key) > 4):
        return 0
    return least[key]
