"""The seeded plan: rounds in which every fault there is happens to real processes, each classified cell by cell."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from orgstats.deploy.local.apache_kafka import Running
from tests.faults.proxy import Fault, State
from tests.faults.round import FAILPOINTS, Member, Round, Site, Unequal
from tests.support.oracle import CHUNK
from tests.support.wait import wait_for

MISCHIEF: Final[dict[Fault, float]] = {"swallow": 0.03, "double": 0.06, "late": 0.04, "delay": 0.04, "cut": 0.02}
"""Probability of each fault of an insert; a flush is nine of them, and two of three get through."""
RECORDS_PER_SECOND: Final = 1_500
JOIN_SECONDS: Final = 15.0
"""How long a member may take to get partitions, on a machine as busy as it may be."""
Kind = Callable[[Round], None]


@dataclass
class Plan:
    """Rounds from a seed; `done` counts faults that really happened."""

    site: Site
    broker: Running | None
    seed: int
    done: Counter[str]

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._kinds: list[Kind] = []

    def play(self, kind: Kind, **env: str) -> None:
        """One round of a kind, with settings of its consumers, classified at its end.

        Raises Unequal, and keeps topic and database then.
        """
        one = Round(self.site, self.chance.randrange(1 << 30), self.done, **env)
        proxied = dict(self.site.proxy.done)
        fine = False
        try:
            kind(one)
            fine = True
        finally:
            for fault, count in self.site.proxy.done.items():
                self.done[f"insert: {fault}"] += count - proxied.get(fault, 0)
            one.close(keep=not fine)
        self.done["rounds"] += 1

    def play_until(self, deadline: float) -> None:
        """Rounds of all kinds in random order until `deadline` (monotonic seconds)."""
        while time.monotonic() < deadline:
            if not self._kinds:
                kinds: list[Kind]
                kinds = [
                    self.storm,
                    self.storm,
                    self.mischief,
                    self.cuts,
                    self.gap,
                    self.recreate,
                    self.away,
                    self.fingerprint,
                    self.offsets,
                ]
                self._kinds = [*kinds, self.broker_restart] if self.broker else kinds
                self.chance.shuffle(self._kinds)
            self.play(self._kinds.pop())

    # Kinds of rounds

    def storm(self, one: Round, seconds: float = 60.0, enough: Callable[[], bool] = lambda: True) -> None:
        """Members join and leave every two seconds, the others kill themselves at failpoints, inserts go wrong.

        At least for `seconds`, and then until `enough`, though not for ever.
        """
        names = cycle(one.chance)
        self.site.proxy.chances = dict(MISCHIEF)
        one.traffic.start(RECORDS_PER_SECOND)
        for name in ("a", "b"):
            one.start(name, next(names))
        began = toggled = stopped = time.monotonic()
        guests: list[Member] = []
        while time.monotonic() < began + seconds or not enough():
            if time.monotonic() > began + 5 * seconds:
                raise Unequal(f"not every fault has come up: {dict(self.done)}")
            one.tend(lambda: next(names))
            if time.monotonic() > toggled + (2.0 if all(map(Member.has_joined, guests)) else JOIN_SECONDS):
                toggled = time.monotonic()
                self._come_or_go(one, guests)
                end_idlers(one, names)
            if time.monotonic() > stopped + 12.0:
                stopped = time.monotonic()
                one.make_zombie(seconds=one.chance.uniform(3.0, 5.0))
            if one.chance.random() < 0.01 and one.partitions == 4:
                one.add_partitions(6)
            time.sleep(0.1)
        self.done["seconds of storm"] += int(time.monotonic() - began)
        one.traffic.stop()
        self.site.proxy.chances = {}
        one.drain()
        one.compare()

    def _come_or_go(self, one: Round, guests: list[Member]) -> None:
        """The guest that has been there longest leaves, in order or not, or one more comes: two seconds, two guests."""
        guests[:] = [guest for guest in guests if guest in one.members]
        if len(guests) < 2:
            guests.append(one.start(f"guest{one.chance.randrange(1_000)}", static=one.chance.random() < 0.5))
            self.done["member joined"] += 1
            return
        guest = guests.pop(0)
        (one.kill if one.chance.random() < 0.5 else one.stop)(guest)
        self.done["member left"] += 1

    def mischief(self, one: Round, lost: int = 20, doubled: int = 20) -> None:
        """Three of ten inserts go wrong, until so many answers were lost and so many inserts doubled."""
        proxy = self.site.proxy
        before = Counter(proxy.done)
        proxy.chances = {"swallow": 0.12, "double": 0.12, "late": 0.03, "cut": 0.03}  # a flush is nine inserts
        one.traffic.start(RECORDS_PER_SECOND)
        for name in ("a", "b"):
            one.start(name)

        def enough() -> bool:
            one.tend(str)
            done = proxy.done
            twice = done["double"] + done["late"] - before["double"] - before["late"]
            return done["swallow"] - before["swallow"] >= lost and twice >= doubled

        wait_for(enough, 180, poll_seconds=0.1)
        one.traffic.stop()
        proxy.chances = {}
        one.drain()
        one.compare()

    def cuts(self, one: Round, cuts: int = 3) -> None:
        """Retention comes into the open chunk while everybody is dead, or while they count."""
        self.site.proxy.chances = dict(MISCHIEF)
        one.traffic.start(RECORDS_PER_SECOND)
        for at in range(cuts):
            for name in ("a", "b"):
                one.start(name)
            target = sum(one.progress().values()) + 2_000
            wait_for(lambda: sum(one.progress().values()) > target, 180, poll_seconds=0.1)  # noqa: B023
            if at % 2 == 0:
                one.kill_all()
            one.delete_below({p: one.chance.randint(n - n % CHUNK, n) for p, n in one.progress().items() if n % CHUNK})
            one.kill_all()
        one.traffic.stop()
        self.site.proxy.chances = {}
        one.drain()
        one.compare()

    def gap(self, one: Round) -> None:
        """Retention deletes what nobody has counted: exactly that is listed, everything else is counted."""
        one.traffic.produce(3_000)
        one.start("a")
        one.drain()
        one.stop_all()
        one.traffic.produce(3_000)
        one.traffic.transaction(500, keep=False)
        before, ends = one.progress(), one.ends()
        lows = {p: one.chance.randint(before[p] + 1, ends[p] - 1) for p in (0, 2)}
        one.delete_below(lows)
        one.gaps = [(p, before[p], low) for p, low in lows.items()]
        one.traffic.produce(1_000)
        one.drain()
        one.compare()
        self.done["gap"] += len(lows)

    def recreate(self, one: Round, times: int = 2) -> None:
        """The topic is deleted and made again, under running consumers and while none runs."""
        for at in range(times):
            one.traffic.produce(2_000)
            one.drain()
            running = at % 2 == 0
            if not running:
                one.stop_all()
            one.recreate_topic()
            if running:
                for member in list(one.members):
                    code = member.daemon.child.popen.wait(180)
                    if code != 78 or "deleted" not in member.daemon.child.tail():
                        raise Unequal(f"a consumer of a topic made anew ended with {code}")
                    one.members.remove(member)
        one.traffic.produce(2_000)
        one.drain()
        one.compare()

    def away(self, one: Round) -> None:
        """ClickHouse refuses connections, hangs, and answers with errors that pass."""
        one.traffic.start(RECORDS_PER_SECOND)
        for name in ("a", "b"):
            one.start(name)
        states: tuple[State, ...] = ("away", "hanging")
        for state in states:
            wait_for(lambda: sum(one.progress().values()) > 1_000, 180, poll_seconds=0.1)
            self.site.proxy.set_state(state)
            _work(one, one.chance.uniform(3.0, 8.0))
            self.site.proxy.set_state("fine")
            self.site.proxy.cut_all()
        for code, text in ((252, "Too many parts"), (241, "Memory limit exceeded"), (242, "Table is in readonly mode")):
            self.site.proxy.error = (code, text)
            _work(one, 2.0)
        self.site.proxy.error = None
        one.traffic.stop()
        one.drain()
        one.compare()
        self.done["ClickHouse away or refusing"] += 5

    def fingerprint(self, one: Round) -> None:
        """A setting that belongs to the fingerprint changes in the middle of a chunk, and consumers die meanwhile."""
        one.traffic.produce(4_000)
        one.drain()
        for age in (10, 30):
            one.stop_all()
            one.env["ORGSTATS_MAX_EVENT_AGE_SECONDS"] = str(age)
            member = one.start("a", one.chance.choice(["before_insert", "answer_lost", "after_insert", "after_commit"]))
            one.traffic.produce(1_000)
            wait_for(lambda: not member.daemon.child.running, 180, poll_seconds=0.1)  # noqa: B023
            one.tend(str)
            one.drain()
            one.compare()
            self.done["fingerprint changed"] += 1

    def offsets(self, one: Round) -> None:
        """An operator sets the offsets back, ahead, and loses them; closed chunks are among what is read again."""
        one.traffic.produce(3_000)
        for partition in range(2):
            one.traffic.transaction(CHUNK, partition, keep=False)
        one.traffic.produce(3_000)
        one.drain()
        ends = one.ends()
        for offsets in (
            {p: one.chance.randint(0, end) for p, end in ends.items()},
            dict.fromkeys(ends, 0),
            {p: end + 1_000 for p, end in ends.items()},
        ):
            one.stop_all()
            one.traffic.produce(1_500)
            one.set_offsets(offsets)
            one.drain()
            one.compare()

    def broker_restart(self, one: Round) -> None:
        """The broker is killed and comes back while everything runs."""
        if self.broker is None:
            return
        one.traffic.start(RECORDS_PER_SECOND)
        for name in ("a", "b"):
            one.start(name)
        for _ in range(2):
            wait_for(lambda: sum(one.progress().values()) > 1_000, 180, poll_seconds=0.1)
            self.broker.kill()
            _work(one, one.chance.uniform(0.5, 3.0))
            self.broker.restart()
            _work(one, 3.0)
            self.done["broker killed"] += 1
        one.traffic.stop()
        one.drain()
        one.compare()


def _work(one: Round, seconds: float) -> None:
    """Let the members work, and see that they do not end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        one.tend(str)
        time.sleep(0.1)


def end_idlers(one: Round, names: Iterator[str]) -> None:
    """A member that does not come to its failpoint is killed where it is."""
    for member in list(one.members):
        since = member.joined if member.has_joined() and member.joined else member.since + JOIN_SECONDS
        if member.failpoint and time.monotonic() > since + 12.0:
            name = member.daemon.name.rsplit("-", 1)[0]
            one.kill(member)
            one.start(name, next(names))


def cycle(chance: random.Random) -> Iterator[str]:
    """Failpoints in random order, all of them before any comes again."""
    while True:
        yield from chance.sample(FAILPOINTS, len(FAILPOINTS))
