"""Steps: an operator sends dead letters again, is killed on the way, and another one does the same beside him."""

import json
from collections import Counter
from collections.abc import Callable

from orgstats.consumer.ops.dead_letters import Filter
from orgstats.consumer.ops.redrive import RedriveOptions, redrive
from orgstats.consumer.ops.transforms import origin_of, transforms_of
from orgstats.errors import Refused, Unavailable
from tests.sim.history import History, action
from tests.sim.letters import letters
from tests.sim.operating import connections, operator
from tests.sim.oracle import VERSIONS, Violation, sources
from tests.sim.plan import Step
from tests.sim.world import Killed

ONCE = "a redriven letter is in the log once"
_MOST_TRIES = 12
_EVENT = {"org_id": 1, "project_id": 2, "key_id": 7, "category": 0, "outcome": 0, "reason": None, "quantity": 2}

Origin = tuple[int, int]


@action
def redrive_(history: History, step: Step) -> None:
    """All dead letters that can be mended are sent to their topic again, each once.

    Not where the store was restored: it may have forgotten what was sent (docs/backups.md).
    """
    one = history.plan.world
    logs = [history.world.kafka.log(tp) for tp in history.world.kafka.tps()]
    if (
        not history.untroubled
        or history.restored
        or one.isolation != "read_committed"
        or one.compacted
        or any(log.open for log in logs)
    ):
        return
    tp = history.tp(step["tp"])
    history.world.kafka.produce(tp, *[b'{"timestamp": "x"}'] * 2)
    history.world.clock.sleep(2.0)
    for process in history.idle():
        history.turn(process, 4)
    usual = {one.source_id for one in sources(history.world.store, history.world.kafka) if not one.log.vanished}
    before, wanted = _sent(history), _mendable(history, usual)
    event = {**_EVENT, "timestamp": history.world.clock.epoch_ms() // 1000}
    options = RedriveOptions(
        transforms_of(sets=[f"{name}={json.dumps(value)}" for name, value in event.items()]),
        execute=True,
        by="operator",
    )
    _Operators(history, step, options).until_done()
    sent = _sent(history)
    wrong = {origin: (before[origin], sent[origin]) for origin in wanted if sent[origin] != max(1, before[origin])}
    # Others may have become letters meanwhile.
    others = {origin for origin in sent if origin not in wanted and origin[0] in usual}
    wrong |= {origin: (before[origin], sent[origin]) for origin in others if sent[origin] > max(1, before[origin])}
    if wrong:
        raise Violation(ONCE, f"(source, offset): (before, after): {wrong}")


def _mendable(history: History, usual: set[int]) -> set[Origin]:
    """Letters of these sources that are not in the log again, and whose payload is a JSON object."""
    there = {topic: uuid for topic, (uuid, _) in history.world.kafka.topics.items()}
    found = set()
    for one in letters(history.world.store, {"actions": ["", "aborted", "lost", "redriving"]}):
        try:
            mendable = isinstance(json.loads(one.row.payload), dict)
        except ValueError:
            mendable = False
        if mendable and one.row.source_id in usual and one.row.topic in there:
            found.add((one.row.source_id, one.row.offset))
    return found


def _sent(history: History) -> Counter[Origin]:
    """How often records of each letter are in the logs for who reads committed ones."""
    return Counter(
        origin
        for tp in history.world.kafka.tps()
        for record in history.world.kafka.log(tp).within(0, 1 << 48)
        if record.pairs and (origin := origin_of(record.pairs))
    )


class _Operators:
    """Who asks again until nothing is left, is killed once on the way, and meets another one that does the same."""

    def __init__(self, history: History, step: Step, options: RedriveOptions) -> None:
        self._history, self._step, self._options = history, step, options
        self._effects = 0

    def until_done(self) -> None:
        """Whatever he is killed by, not answered, or fenced."""
        for _ in range(_MOST_TRIES):
            try:
                self._redrive(self._effect)
            except (Killed, Unavailable, Refused):
                self._history.world.clock.sleep(1.0)
            else:
                return
        raise Violation(ONCE, f"not done within {_MOST_TRIES} tries")

    def _redrive(self, effect: Callable[[], None]) -> None:
        history = self._history
        with operator(history.world, effect):
            redrive(
                connections(history.world, effect, max_event_age_seconds=VERSIONS[history.version]),
                Filter(),
                self._options,
            )

    def _effect(self) -> None:
        self._effects += 1
        if self._effects % self._step["beside"] == 0 and (process := self._history.pick(self._effects)):
            self._history.turn(process, 1)
        if self._effects == self._step["other"]:
            self._redrive(lambda: None)
        if self._effects == self._step["effect"]:
            raise Killed
