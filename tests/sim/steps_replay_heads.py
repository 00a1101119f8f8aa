"""Steps: an operator replays a closed chunk of which retention has deleted the first records."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Final

from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.ops.recount import HeadPolicy
from orgstats.consumer.ops.replay import ReplayRequest
from orgstats.errors import Refused
from tests.sim import erased
from tests.sim.damage import Chunk, damage
from tests.sim.history import History, action
from tests.sim.oracle import Violation, one_pass, source_of
from tests.sim.plan import Step
from tests.sim.replaying import Operator, grids_of
from tests.sim.steps_kafka import delete_below
from tests.sim.steps_operators import Held, closed, held, may
from tests.support.record import FakeRecord

HEADS: Final = "a chunk without its head is treated as the operator says"


@action
def replay_head(history: History, step: Step) -> None:
    """It is damaged, and left as it is, filled from what the log still has, or counted by that alone.

    Afterwards the store is as it was before: what is lost of a head nobody can bring back.
    """
    if not may(history) or not history.untroubled:
        return
    store, choice = history.world.store, Random(step["kind"])
    whole = [chunk for chunk, is_whole in closed(history).items() if is_whole]
    if not whole:
        return
    at = choice.choice(whole)
    one = source_of(store, history.world.kafka, at[0])
    end = grids_of(history)[at[0]].chunk_end(at[1])
    low = max(at[1], one.first_offset) + 1 + round(step["share"] * (end - at[1] - 2))
    delete_below(history, one.tp, min(low, one.log.stable_end))
    if at[0] in history.limits.found or not max(at[1], one.first_offset) < one.log.low < end:
        return  # an open transaction keeps its records, and all that follow
    before = store.copy()
    right = held(history, {at: True})
    if damage(history, step, at, choice):
        _replay(history, step, at, right, one.log.within(at[1], end, history.plan.world.isolation))
    store.restore(before)


def _replay(history: History, step: Step, at: Chunk, right: Held, left: list[FakeRecord]) -> None:
    head, wrong = HeadPolicy(step["head"]), held(history, {at: True})
    request = ReplayRequest(tuple(history.world.topics), repair=head is HeadPolicy.drop, head=head)
    if step["says"]:
        request = replace(request, from_offset=at[1], to_offset=at[1] + 1)
    act = Operator(history, {**step, "beside": 1 << 60}, request)
    listed = _listed(history, at)
    if step["says"] and head is HeadPolicy.refuse:
        with suppress(Refused):
            act.apply()
            raise Violation(HEADS, "an explicit range with a head that is gone is replayed")
    else:
        act.apply()
    left_alone = head in (HeadPolicy.refuse, HeadPolicy.skip) or (head is HeadPolicy.keep and step["harm"] != "lost")
    low = min((record.at for record in left), default=1 << 60)  # letters that are gone are known from the store alone
    gone = {key: values for key, values in wrong.items() if key[0] == "dead_letters" and key[3] < low}
    remaining = gone | _expected(history, at, left)
    lost = right.keys() - wrong.keys()
    kept = wrong | {key: values for key, values in remaining.items() if key in lost}
    wanted = wrong if left_alone else kept if head is HeadPolicy.keep else remaining
    _compare(held(history, {at: True}), wanted)
    drops = head is HeadPolicy.drop and _told(wrong) != _told(remaining)
    if (now := _listed(history, at)) != listed + drops:
        raise Violation(HEADS, f"{now} gaps are listed, {listed} before")
    if head is HeadPolicy.drop:
        act.undo()
        _compare(held(history, {at: True}), wrong)


def _listed(history: History, at: Chunk) -> int:
    """Gaps that begin in it."""
    rows, end = history.world.store.final("gaps"), grids_of(history)[at[0]].chunk_end(at[1])
    return sum(1 for row in rows if row.source_id == at[0] and at[1] <= row.from_offset < end)


def _expected(history: History, at: Chunk, records: Iterable[FakeRecord]) -> Held:
    """What these records give, in the keys of `held`."""
    values, dead = one_pass(records, history.rules, history.version)
    values = erased.forgotten(values, {row.org_id for row in history.world.store.erasures()})
    found: Held = {("dead_letters", *at, offset): () for offset in dead}
    for family in FAMILIES:
        for key in {key[1:-1] for key in values if key[0] == family.table}:
            org, bucket, *rest = key
            own = (org, *rest, bucket) if family.table == "totals" else key
            found[family.table, *at, *own] = tuple(values[family.table, *key, name] for name in family.values)
    return {key: one for key, one in found.items() if key[0] == "dead_letters" or any(one)}


def _compare(found: Held, wanted: Held) -> None:
    has, should = _told(found), _told(wanted)
    keys = has.keys() | should.keys()
    if wrong := {key: (has.get(key), should.get(key)) for key in keys if has.get(key) != should.get(key)}:
        raise Violation(HEADS, f"(found, wanted): {[*wrong.items()][:4]}")


def _told(values: Held) -> Held:
    """Of letters only whether they are there."""
    return {key: () if key[0] == "dead_letters" else one for key, one in values.items()}
