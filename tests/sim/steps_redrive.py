"""Steps: an operator sends dead letters again, is killed on the way, and another one does the same beside him."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from orgstats.consumer.ops.dead_letters import Filter, find, mark
from orgstats.consumer.ops.redrive import UNKNOWN, RedriveOptions, RedriveResult, redrive
from orgstats.consumer.ops.transforms import transforms_of
from orgstats.errors import Refused, Unavailable
from tests.sim import redriven
from tests.sim.history import History, action
from tests.sim.letters import letters
from tests.sim.log import SimLog
from tests.sim.operating import PAGE, connections, operator
from tests.sim.oracle import VERSIONS, Violation, sources
from tests.sim.plan import Step
from tests.sim.redriven import Asked, Origin
from tests.sim.steps_kafka import delete_below
from tests.sim.store import SimStore
from tests.sim.world import Killed

ONCE: Final = "a redriven letter is in the log once"
MENDED: Final = "what is sent is the letter, mended"
SAID: Final = "a redrive does what it said, and no more than it was asked"
REFUSED: Final = "a redrive that is refused sends nothing"
STAYS: Final = "a letter that cannot be mended stays"
FATE: Final = "a letter's fate is unknown only where the log has lost its place"
_MOST_TRIES: Final = 12
_FOREIGN: Final = 1_000_000
"""The transaction of somebody else."""
_EVENT: Final = {"org_id": 1, "project_id": 2, "key_id": 7, "category": 0, "outcome": 0, "reason": None, "quantity": 2}
_LONG: Final = json.dumps({"timestamp": "x", "much": "x" * 66_000}).encode()
_USUAL: Final[Step] = {"place": "", "undelivered": "", "mends": True} | dict.fromkeys(
    ("elsewhere", "first", "stops", "kept_hours", "now", "forgets", "hidden", "rate"), 0
)
"""Of a step that does not say."""


@action
def redrive_(history: History, step: Step) -> None:
    """All dead letters that can be mended are sent to a topic again, each once.

    Not where the store was restored: it may have forgotten what was sent (docs/backups.md).
    """
    step, kafka = _USUAL | step, history.world.kafka
    if not history.untroubled or history.restored or any(kafka.log(tp).open for tp in kafka.tps()):
        return
    tp = history.tp(step["tp"])
    _letters_come(history, kafka.log(tp))
    for process in history.idle():
        history.turn(process, 4)
    act = _Operators(history, step, tp[0])
    if history.plan.world.isolation != "read_committed" or history.plan.world.compacted:
        act.is_refused()
        return
    kafka.topic_settings = {"retention.ms": str(act.asked.kept_ms)} if act.asked.kept_ms else {}
    usual = {one.source_id for one in sources(history.world.store, kafka) if not one.log.vanished}
    before = redriven.there(history.world)
    mendable = redriven.mendable(history.world, act.asked)
    stay = redriven.stays(history.world, mendable)
    wanted = {origin: letter for origin, letter in mendable.items() if origin[0] in usual}
    act.says(len(wanted), exactly=len(usual) == len(history.world.store.winners("sources")))
    if step["hidden"]:
        for one in kafka.tps():
            kafka.log(one).open[_FOREIGN] = [
                kafka.log(one).append(b"{", kafka.clock.epoch_ms(), kafka.clock.epoch_ms())
            ]
    if step["first"] or step["stops"]:
        act.a_few()
    act.until_done()
    _show_hidden(history)
    if act.forgot:
        act.settle_unknown()
        wanted = {origin: (row, whole) for origin, (row, whole) in wanted.items() if whole == row.payload}
    kafka.topic_settings = {}
    _compare(history, act.asked, wanted, before, usual)
    _have_stayed(history, stay, before)


def _letters_come(history: History, log: SimLog) -> None:
    """Usual ones, one that went round often, one that is long, and one of yesterday."""
    history.world.clock.sleep(2.0)
    now = history.world.clock.epoch_ms()
    for body, when_ms, hops in (
        *[(b'{"timestamp": "x"}', now, 0)] * 4,
        (b'{"timestamp": "y"}', now, redriven.MOST_HOPS),
        (_LONG, now, 0),
        (b'{"timestamp": "z"}', now - 86_400_000, 1),
    ):
        log.append(body, when_ms, now, pairs=(("orgstats-hops", str(hops).encode()),) if hops else ())
    history.world.clock.sleep(2.0)


def _compare(
    history: History, asked: Asked, wanted: dict[Origin, Any], before: dict[Origin, Any], usual: set[int]
) -> None:
    """Each of the wanted once, and the others as often as before, but for those that have become letters meanwhile."""
    sent = redriven.there(history.world)
    told = {origin: (len(before.get(origin, ())), len(sent.get(origin, ()))) for origin in wanted.keys() | sent.keys()}
    wrong = {origin: both for origin, both in told.items() if origin in wanted and both[1] != max(1, both[0])}
    wrong |= {origin: both for origin, both in told.items() if origin[0] in usual and both[1] > max(1, both[0])}
    if wrong:
        raise Violation(ONCE, f"(source, offset): (before, after): {wrong}")
    for origin, (row, payload) in wanted.items():
        if not before.get(origin) and (why := redriven.wrong(sent[origin][0], row, payload, asked, history.world)):
            raise Violation(MENDED, f"{origin}: {why} of {sent[origin][0]}")


def _have_stayed(history: History, stay: dict[Origin, Any], before: dict[Origin, Any]) -> None:
    """What cannot be mended is not sent; but for another letter that has come to its offset since."""
    now, sent = history.world.store.winners("dead_letters"), redriven.there(history.world)
    same = [one for one, row in stay.items() if now[row.source_id].get((row.source_id, row.offset)) == row]
    wrong = [one for one in same if len(sent[one]) > len(before.get(one, ()))]
    if wrong:
        raise Violation(STAYS, f"(source, offset): {wrong}")


def _show_hidden(history: History) -> None:
    for tp in history.world.kafka.tps():
        if _FOREIGN in history.world.kafka.log(tp).open:
            history.world.kafka.log(tp).finish(_FOREIGN, commit=False)


class _Operators:
    """Who asks again until nothing is left, is killed once on the way, and meets another one that does the same."""

    def __init__(self, history: History, step: Step, topic: str) -> None:
        self._history, self._step = history, step
        topics = [name for name in history.world.kafka.topics if name != topic]
        to = topics[0] if step["elsewhere"] and topics else None
        event = {**_EVENT, "timestamp": history.world.clock.epoch_ms() // 1000} if step["mends"] else None
        self.asked = Asked(event, to, step["kept_hours"] * 3_600_000, step["now"])
        self._options = RedriveOptions(
            transforms_of(sets=[f"{name}={json.dumps(value)}" for name, value in (event or {}).items()]),
            target=to,
            rate=step["rate"],
            execute=True,
            by="operator",
            timestamp_now=step["now"],
        )
        self._effects = self._unanswered = 0
        self.forgot = False
        """Whether retention has deleted all of the logs when he was killed."""

    def is_refused(self) -> None:
        """Where letters must not be sent."""
        before, sent = self._stored(), -1
        with suppress(Refused):
            sent = self._redrive(lambda: None, self._options).sent
        if sent > 0 or self._stored() != before:
            raise Violation(REFUSED, f"{sent} were sent")

    def says(self, wanted: int, *, exactly: bool) -> None:
        """What would be sent, and nothing is."""
        before = self._stored()
        told = self._redrive(lambda: None, replace(self._options, execute=False))
        if self._stored() != before:
            raise Violation(SAID, "it has written something, and was not asked to")
        if told.sent + told.uncertain != wanted if exactly else told.sent + told.uncertain < wanted:
            raise Violation(SAID, f"{told.sent} would be sent, {wanted} can be")

    def a_few(self) -> None:
        """Only so many are looked at, or it is stopped behind the first ones."""
        asked: list[None] = []

        def stopping() -> bool:
            asked.append(None)
            return self._step["stops"] and len(asked) > 1

        most = min(self._step["first"] or 1_000, PAGE if self._step["stops"] else 1_000)
        options = replace(self._options, limit=self._step["first"] or 1_000, stopping=stopping)
        began, before = self._history.world.clock.monotonic(), self._sent()
        done = self._redrive(lambda: None, options)
        sent, seconds = self._sent() - before, self._history.world.clock.monotonic() - began
        if done.sent > most or sent != done.sent:
            raise Violation(SAID, f"{sent} were sent and {done.sent} told, at most {most} were to be")
        if self._step["rate"] and seconds + 0.1 < done.sent / self._step["rate"]:
            raise Violation(SAID, f"{done.sent} were sent within {seconds} s")

    def until_done(self) -> None:
        """Whatever he is killed by, not answered, or fenced."""
        self._history.world.kafka.undelivered = self._step["undelivered"]
        for _ in range(_MOST_TRIES):
            try:
                result = self._redrive(self._effect, self._options, self._step["place"])
            except (Killed, Unavailable, Refused) as error:
                self._trouble(error)
            else:
                self._history.world.kafka.undelivered = ""
                self._see_unknown(result)
                return
        raise Violation(ONCE, f"not done within {_MOST_TRIES} tries")

    def settle_unknown(self) -> None:
        """As docs/operations.md says: those that were counted are dropped, all others sent again."""
        self._history.catch_up()
        counted = redriven.there(self._history.world)
        with operator(self._history.world, lambda: None):
            store = SimStore(self._history.world.store)
            found = find(store, Filter(actions=("redriving",)), 1_000)
            mark(store, [one for one in found if (one.source_id, one.offset) in counted], "dropped", "operator")
        self._redrive(lambda: None, replace(self._options, send_unknown=True))

    def _trouble(self, error: BaseException) -> None:
        history, kafka = self._history, self._history.world.kafka
        self._step = {**self._step, "place": ""}
        unseen = any(kafka.log(tp).unresolved for tp in kafka.tps())  # a cut that is lost with its head
        # Whose clocks are ahead does not catch up.
        if isinstance(error, Killed) and self._step["forgets"] and not (history.clocks_ahead or unseen):
            self.forgot = True
            for tp in kafka.tps():
                delete_below(history, tp, kafka.log(tp).stable_end)
        self._unanswered += isinstance(error, Unavailable)
        if self._unanswered > 1:
            _show_hidden(history)
        history.world.clock.sleep(1.0)

    def _see_unknown(self, result: RedriveResult) -> None:
        unknown = dict(redriven.unknown(self._history.world))
        if len(unknown) != result.left[UNKNOWN] or not all(unknown.values()):
            raise Violation(FATE, f"{result.left[UNKNOWN]} are told, whether the place is lost: {unknown}")

    def _redrive(self, effect: Callable[[], None], options: RedriveOptions, place: str = "") -> RedriveResult:
        world = self._history.world
        settings = {
            "max_event_age_seconds": VERSIONS[self._history.version],
            "kafka": {"isolation.level": self._history.plan.world.isolation},
        }
        with operator(world, effect, place):
            return redrive(connections(world, effect, **settings), Filter(), options)

    def _stored(self) -> tuple[object, ...]:
        kafka = self._history.world.kafka
        return len(self._history.world.store.rows["dead_letter_actions"]), [kafka.log(tp).end for tp in kafka.tps()]

    def _sent(self) -> int:
        return sum(1 for one in letters(self._history.world.store, {"actions": ["sent", "redriven"]}) if one.done)

    def _effect(self) -> None:
        self._effects += 1
        self._history.beside(self._effects, self._step["beside"])
        if self._effects == self._step["other"]:
            self._redrive(lambda: None, self._options)
        if self._effects == self._step["effect"]:
            raise Killed
