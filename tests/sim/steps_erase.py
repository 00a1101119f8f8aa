"""Steps: an operator erases an organization while consumers count, is killed on the way, and asks again."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from unittest.mock import patch

from orgstats.consumer.ops import erase
from orgstats.consumer.ops.replay import ReplayRequest, prepare
from orgstats.errors import Refused, Unavailable
from orgstats.schemas.grants import ERASED_FROM
from tests.sim import erased, sql_erasing
from tests.sim.clickhouse import Planned
from tests.sim.history import WHEN_QUIET, History, action
from tests.sim.operating import connections, operator
from tests.sim.oracle import VERSIONS, Violation, sources
from tests.sim.plan import Step
from tests.sim.replaying import EVER, grids_of
from tests.sim.world import Killed

GONE: Final = "nothing is left of an organization that was erased"
OTHERS: Final = "what others have stays when one is erased"
SAID: Final = "nothing is erased without being told to"
WAITS: Final = "a replay waits for an erasure that is not done"
_MOST_TRIES: Final = 12
_LOOK_SECONDS: Final = 3.0
_NOT_DONE: Final = "is erased but for"


@action
def erase_(history: History, step: Step) -> None:
    """All of an organization but the number of its events a day, while others count, and a flush may be under way."""
    store, kafka = history.world.store, history.world.kafka
    if not history.alone or store.away or store.trouble or store.slow or kafka.away or kafka.leaderless:
        return
    org_id = step["org"]
    _says(history, org_id)
    if step["fault"]:
        store.faults.append(Planned(step["table"], step["fault"]))
    before, act = _of_others(history, org_id), _Operator(history, step, org_id)
    if not act.until_done() and not any(row.done for row in store.erasures() if row.org_id == org_id):
        _replay_waits(history)  # where only what somebody stored late is left, it need not
    _compare(history, before, org_id)


def finish(history: History) -> None:
    """What was not done is asked for again, and what a backup or somebody who was cut off has brought back."""
    known = {row.org_id: row.done for row in history.world.store.erasures()}
    done = {org_id for org_id, is_done in known.items() if is_done}
    if not (history.plan.world.tears or history.restored):  # nobody was cut off
        for org_id in done:
            if found := [*_rows(history, org_id)]:
                raise Violation(GONE, f"{org_id} is back, and nobody was cut off: {found}")
    left = known.keys() - done
    left |= {one for one in history.erased if any(_rows(history, one)) or one not in known}
    for org_id in sorted(left):
        step = {"effect": 0, "beside": 1, "wait": 120}
        if not _Operator(history, step, org_id).until_done() and (chunks := [*_needless(history, org_id)]):
            raise Violation(GONE, f"{org_id} is still in {chunks}, which could be counted again")
    if left:
        history.catch_up()


def _rows(history: History, org_id: int) -> Iterator[tuple[str, int]]:
    for table in (*ERASED_FROM, "dead_letters"):
        if rows := sql_erasing.rows_of(history.world.store, table, {"org": org_id}):
            yield table, len(rows)


def _needless(history: History, org_id: int) -> Iterator[tuple[str, int]]:
    """Chunks that hold any of its events, and whose records are all in the log."""
    grids, store = grids_of(history), history.world.store
    known = {one.source_id: one for one in sources(store, history.world.kafka)}
    for table in erased.CELLS:
        for row in sql_erasing.cells_of(store, table, {"org": org_id}):
            if one := known.get(row.source_id):
                whole = row.chunk >= max(one.log.low, one.first_offset) and not history.plan.world.compacted
                closed = grids[one.source_id].chunk_of(one.next_offset) > row.chunk
                if whole or closed:
                    yield one.name, row.chunk


def _says(history: History, org_id: int) -> None:
    """How many events, and nothing is done."""
    store = history.world.store
    store.mutations_end()
    before = {table: [*rows] for table, rows in store.rows.items()}
    wanted = sum(row.events for row in store.final("counts") if row.org_id == org_id)
    with operator(history.world, lambda: None):
        told = erase.holding(connections(history.world), org_id)
    if told.events != wanted or store.rows != before:
        raise Violation(SAID, f"{told.events} events are told of {wanted}, or something was written")


def _replay_waits(history: History) -> None:
    isolation, age = history.plan.world.isolation, VERSIONS[history.version]
    request = ReplayRequest(tuple(history.world.kafka.topics), repair=True)
    with suppress(Refused, Unavailable), operator(history.world, lambda: None):
        where = connections(history.world, max_event_age_seconds=age, kafka={"isolation.level": isolation})
        prepare(where, request, EVER)
        raise Violation(WAITS, "it begins")


def _of_others(history: History, org_id: int) -> dict[object, object]:
    """What readers see of others in chunks that are closed."""
    store, grids = history.world.store, grids_of(history)
    ends = {row.source_id: row.next_offset for row in store.final("progress")}
    seen = dict[object, object]()
    for table in erased.CELLS:
        for row in store.final(table):
            closed = row.source_id in ends and row.chunk < grids[row.source_id].chunk_of(ends[row.source_id])
            if closed and row.org_id not in (0, org_id):
                seen[table, row[: row._fields.index("chunk") + 1]] = row[row._fields.index("chunk") + 1 : -1]
    return seen


def _compare(history: History, before: dict[object, object], org_id: int) -> None:
    after = _of_others(history, org_id)
    cut = any(history.world.kafka.log(tp).vanished for tp in history.world.kafka.tps())
    wrong = {key: (was, after.get(key)) for key, was in before.items() if after.get(key) != was}
    if wrong and not (cut or history.mixed_times or history.mixed_outcomes or history.went_back):
        raise Violation(OTHERS, f"(before, after): {[*wrong.items()][:4]}")


WHEN_QUIET.append(finish)


class _Operator:
    """Who asks again until it is done, is killed once, and lets consumers go on while he waits."""

    def __init__(self, history: History, step: Step, org_id: int) -> None:
        self._history, self._step, self._org_id = history, step, org_id
        self._effects = 0
        self._killed = not step["effect"]

    def until_done(self) -> bool:
        """Whether it is done; else consumers do not count some chunks anew, which he was told."""
        self._history.erased.add(self._org_id)
        self._history.erasing = True
        for _ in range(_MOST_TRIES):
            try:
                with operator(self._history.world, self._effect), patch.object(erase, "time", self):
                    erase.erase(
                        connections(self._history.world, self._effect),
                        self._org_id,
                        "operator",
                        lambda _text: None,
                        wait_seconds=self._step["wait"],
                    )
            except Killed:
                self.sleep(1.0)
            except Unavailable as error:
                if _NOT_DONE in str(error):
                    return False
                world = self._history.world
                world.store.away, world.store.trouble, world.kafka.away = False, "", None  # if that began meanwhile
                self.sleep(1.0)
            else:
                if found := [*_rows(self._history, self._org_id)]:
                    raise Violation(GONE, f"{self._org_id}: {found}")
                return True
        raise Violation(GONE, f"not done within {_MOST_TRIES} tries")

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return self._history.world.clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`: consumers go on, and the group hears of all that live."""
        until = self.monotonic() + seconds
        while self.monotonic() < until:
            self._history.world.clock.sleep(min(_LOOK_SECONDS, until - self.monotonic()))
            self._history.world.group.expire()
            for process in self._history.idle():
                self._history.turn(process, 2)

    def _effect(self) -> None:
        self._effects += 1
        self._history.beside(self._effects, self._step["beside"])
        if self._effects == self._step["effect"] and not self._killed:
            self._killed = True
            raise Killed
