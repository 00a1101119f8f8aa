"""One history from its plan to what came of it, and many of them together."""

from collections import Counter
from dataclasses import dataclass, field

from orgstats.consumer.states import PartitionState
from tests.sim import (
    steps_chunk_length,
    steps_erase,
    steps_kafka,
    steps_operators,
    steps_processes,
    steps_redrive,
    steps_replay_heads,
    steps_rewind,
    steps_store,
)
from tests.sim.history import History
from tests.sim.oracle import Violation
from tests.sim.plan import Plan

KINDS = (
    *(steps_chunk_length, steps_erase, steps_kafka, steps_operators, steps_processes, steps_redrive),
    *(steps_replay_heads, steps_rewind, steps_store),
)
"""They register what steps do."""


@dataclass(frozen=True)
class Outcome:
    """What came of a history: the invariant that did not hold, if one did not; and what was met on the way."""

    invariant: str = ""
    detail: str = ""
    limits: frozenset[str] = frozenset()
    met: Counter[tuple[str, PartitionState]] = field(default_factory=Counter)
    quiet_points: int = 0


@dataclass
class Tally:
    """Of many histories."""

    histories: int = 0
    quiet_points: int = 0
    met: Counter[tuple[str, PartitionState]] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.histories += 1
        self.quiet_points += outcome.quiet_points
        self.met += outcome.met
        self.limits.update(outcome.limits)

    def __str__(self) -> str:
        """For people."""
        beyond = "; ".join(f"{why}: {count}" for why, count in sorted(self.limits.items()))
        return f"{self.histories} histories, {self.quiet_points} quiet points (of some source not compared: {beyond})"


def play(plan: Plan) -> Outcome:
    """Play it."""
    history, violation = History(plan), None
    try:
        history.play()
    except Violation as found:
        violation = found
    return Outcome(
        violation.invariant if violation else "",
        str(violation or ""),
        frozenset(history.limits.found.values()),
        history.met,
        history.quiet_points,
    )
