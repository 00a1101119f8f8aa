"""The guarantee, on the real loop in a simulated world: random histories, and those that once failed."""

import json
import os
from collections import Counter
from itertools import count, takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from orgstats.consumer.states import PartitionState
from tests.sim.coverage import never_met, table
from tests.sim.history import ACTIONS, History
from tests.sim.plan import Plan, Step, WorldPlan, draw, from_lines
from tests.sim.play import Tally, play
from tests.sim.quiet_logs import quiet
from tests.sim.scripts import every
from tests.sim.shrink import kind_of

HISTORIES = int(os.environ.get("ORGSTATS_TEST_SIM_HISTORIES", "3000"))
PARTS = 6
"""That workers share; each takes every sixth seed."""
SCRIPTS = every()
RARE = {PartitionState.DRAINING, PartitionState.GONE}
"""Only met by each fault in more histories than a test should take."""


@pytest.mark.parametrize("part", range(PARTS))
def test_every_invariant_holds_in_random_histories(part: int, together: Path) -> None:
    """At each quiet point and at the end; and over the run every fault meets partitions in every state."""
    tally = Tally()
    with quiet():
        for seed in range(part, HISTORIES, PARTS):
            outcome = play(draw(seed))
            assert not outcome.invariant, f"{outcome.detail}\npython -m tests.sim --seed {seed} --histories 1"
            tally.add(outcome)
    met = _met_so_far(together, part, tally)
    if met is None:
        return  # the last part looks at what all have met
    missed = [pair for pair in never_met(met, ACTIONS.keys() - {"turn"}) if pair[1] not in RARE]
    assert not missed, table(met)
    assert {state for _, state in met} == {*PartitionState}


@pytest.fixture
def together(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that the workers of one run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


def _met_so_far(folder: Path, part: int, tally: Tally) -> Counter[tuple[str, PartitionState]] | None:
    """What the parts of this run have met, once all of them are done; until then None."""
    told = [[kind, state, times] for (kind, state), times in tally.met.items()]
    with NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write(json.dumps(told))
    Path(file.name).replace(folder / f"met-{part}.json")  # whole, or not there
    parts = [*folder.glob("met-*.json")]
    if len(parts) < PARTS:
        return None
    met: Counter[tuple[str, PartitionState]] = Counter()
    for one in parts:
        for kind, state, times in json.loads(one.read_text()):
            met[kind, PartitionState(state)] += times
    return met


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_was_written_down_holds(name: str) -> None:
    """Each showed a hole once, or is red without one guard; its first line says which."""
    assert SCRIPTS[name].about
    assert play(SCRIPTS[name]).detail == ""


@pytest.mark.parametrize(
    "kept", [1.0, 0.5, 0.25, 0.0], ids=["all", "from the last flush on", "within the torn one", "nothing"]
)
def test_a_flush_that_is_torn_anywhere_is_made_good(kept: float) -> None:
    """Killed between any two of its effects, whatever retention deletes then."""

    def torn(effect: int) -> bool:
        steps: list[Step] = [
            *({"do": "start"}, {"do": "turn", "which": 0, "turns": 5}),
            *({"do": "produce", "tp": 0, "records": 8, "apart": 1, "kind": 1}, {"do": "wait", "seconds": 2}),
            *({"do": "turn", "which": 0, "turns": 3}, {"do": "wait", "seconds": 2}),
            {"do": "produce", "tp": 0, "records": 8, "apart": 1, "kind": 2},
            *({"do": "kill_at", "which": 0, "effect": effect}, {"do": "turn", "which": 0, "turns": 2}),
            *({"do": "wait", "seconds": 40}, {"do": "lose", "tp": 0, "share": 1 - kept, "grows": 0}),
            {"do": "produce", "tp": 0, "records": 3, "apart": 1, "kind": 3},
        ]
        history = History(Plan(WorldPlan(partitions=1), steps))
        history.go_on(len(steps))
        killed = not history.processes
        history.settle(ends=True)
        return killed

    with quiet():
        assert sum(takewhile(bool, map(torn, count()))) >= 20


def test_a_rewind_that_is_killed_anywhere_is_done_when_it_is_asked_again() -> None:
    """Between any two of its effects; a log that is cut back before anybody counts on is known by its chain."""
    once = SCRIPTS["cut_after_a_rewind"]
    at = next(at for at, step in enumerate(once.steps) if step["do"] == "rewind")
    with quiet():
        for effect in range(90):
            steps = [*once.steps[:at], once.steps[at] | {"effect": effect}, *once.steps[at + 1 :]]
            assert play(Plan(once.world, steps)).detail == "", f"killed at {effect}"


def test_a_plan_is_read_as_it_is_written() -> None:
    """So that what is printed can be replayed."""
    plan = draw(7)
    assert from_lines(plan.to_lines()) == Plan(plan.world, plan.steps)


def test_a_shorter_history_has_to_show_the_same_fault() -> None:
    """Of the same partition and table; numbers are others where steps were left out."""
    cells = (
        "cells equal one pass: events/0 uuid-3: 4 differ (at least, stored, at most): {('counts', 0, 16999): (1, 0, 1)"
    )
    assert kind_of(cells) == kind_of(cells.replace("uuid-3: 4", "uuid-1: 12").replace("16999", "17000"))
    others = cells.replace("events/0", "events/1"), cells.replace("counts", "hourly")
    assert len({kind_of(one) for one in (cells, *others)}) == 3
