"""Steps: an operator changes the length of chunks while consumers count, is killed, and takes back what is left."""

from contextlib import suppress
from typing import Final

from orgstats.consumer.ops.chunk_length import LengthChange
from orgstats.consumer.store.chunk_lengths import State
from orgstats.errors import OrgstatsError, Unavailable
from tests.sim.clickhouse import Planned, Row
from tests.sim.history import History, action
from tests.sim.operating import left_proposed, make_change, plan, take_back
from tests.sim.oracle import Violation
from tests.sim.plan import Step
from tests.sim.steps_kafka import append
from tests.sim.world import Killed

TOLD: Final = "a change of the chunk length is what the operator was told"
_BEYOND: Final = 30_000
"""So many offsets behind where the length changes there are records."""

_ASKED: Final = 5
"""The effect by which he has asked where the log ends: it may grow beyond any offset before he decides."""


@action
def chunk_length(history: History, step: Step) -> None:
    """An operator changes the length of chunks while consumers run; where that cannot be now, it is refused."""
    world, changes = history.world, list[LengthChange]()
    with suppress(OrgstatsError, Killed):
        changes += plan(world, step["length"])
        if step.get("fault"):
            world.store.faults.append(Planned("chunk_lengths", step["fault"]))
        act = _Operator(history, step)
        for change in changes:
            act.change(change)
            _grow(history, step, change)
    for change in changes:  # also where what he proposed is left over: consumers wait there
        _grow(history, step, change)
    if step.get("takes_back"):
        with suppress(OrgstatsError):
            take_back(world)
            if left := left_proposed(world):
                raise Violation(TOLD, f"taken back, and still proposed: {left}")


def _grow(history: History, step: Step, change: LengthChange, beyond: int = _BEYOND) -> None:
    tp = change.located.source.topic, change.located.source.partition
    while step["grows"] and tp in history.world.kafka.tps():
        log = history.world.kafka.log(tp)
        if log.end >= change.from_offset + beyond:
            return
        append(history, tp, {"records": 1, "apart": 7000, "kind": log.end})


class _Operator:
    """Who is killed at an effect; consumers go on beside him, and at another effect the log grows fast."""

    def __init__(self, history: History, step: Step) -> None:
        self._history, self._step = history, step
        self._effects = 0
        self._change: LengthChange | None = None

    def change(self, change: LengthChange) -> None:
        """Make it: what was told must be so. Raises Killed."""
        self._change = change
        try:
            entry_id = make_change(self._history.world, change, self._effect)
        except Unavailable as error:
            if "was taken back" in str(error) and any(row.state == State.PROPOSED for row in self._entries(change)):
                raise Violation(TOLD, f"it is to be taken back: {self._entries(change)}") from error
            return
        if any(row.state != State.DECIDED for row in self._entries(change) if row.entry_id == entry_id):
            raise Violation(TOLD, f"{entry_id} is to be decided: {self._entries(change)}")

    def _entries(self, change: LengthChange) -> list[Row]:
        where = change.located.source.source_id, change.from_offset
        every = self._history.world.store.final("chunk_lengths")
        return [row for row in every if (row.source_id, row.from_offset) == where]

    def _effect(self) -> None:
        self._effects += 1
        self._history.beside(self._effects, self._step.get("beside", 1000))
        if self._effects == self._step.get("grows_at", 0) and self._change is not None:
            _grow(self._history, self._step, self._change, -1 if self._effects < _ASKED else _BEYOND)
            for process in self._history.idle():  # who has read of no change by then counts as far as it is certain
                self._history.turn(process, 9)
        if self._effects == self._step.get("effect", 0):
            raise Killed
