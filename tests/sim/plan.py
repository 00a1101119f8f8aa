"""What is to happen, as plain data: a world and a list of steps, drawn from a seed, written and read as JSON lines.

A step says all it needs itself, as shares and numbers of what there is by then, so that any of them can be left out.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Any, Final

Step = dict[str, Any]
"""`do` and its arguments."""

STEPS: Final = 110
SHORTEST: Final = 1 << 14
"""Of chunks that histories have."""
FAULTS: Final = ("refused", "torn", "lost answer", "doubled", "late")
TABLES: Final = (
    *("counts", "hourly", "totals", "progress", "progress", "flushes", "dead_letters"),
    *("chunk_days", "chunk_days", "chunks", "repairs", "sources", "gaps"),
)
TROUBLES: Final = ("read only", "no memory", "disk full", "replica lags")


@dataclass(frozen=True)
class WorldPlan:
    """What a world is like from the beginning."""

    seed: int = 0
    partitions: int = 2
    topics: int = 1
    incremental: bool = False
    epochs: bool = True
    isolation: str = "read_committed"
    named: bool = False
    """Static members."""
    fetches_first: bool = False
    log_append: bool = True
    """Kafka's own timestamps; else producers', which may be wrong."""
    accept_skip: bool = False
    compacted: bool = False
    dead_letter_run: int = 0
    batch_size: int = 50
    flush_seconds: int = 1
    chunk_length: int = SHORTEST
    rules: int = 0
    """Entries of the rules that are in force from the beginning."""
    tears: bool = False
    """Whether flushes may be torn, and processes outlive their time."""


@dataclass
class Plan:
    """A history that is to be played; `about` says what it showed."""

    world: WorldPlan
    steps: list[Step] = field(default_factory=list)
    about: str = ""

    def to_lines(self) -> str:
        """As it can be read again."""
        first = {"about": self.about, "world": asdict(self.world)}
        return "".join(json.dumps(one) + "\n" for one in (first, *self.steps))


def from_lines(text: str) -> Plan:
    """A plan as `to_lines` writes it."""
    first, *steps = (json.loads(line) for line in text.splitlines() if line.strip())
    return Plan(WorldPlan(**first["world"]), steps, first.get("about", ""))


def draw(seed: int) -> Plan:
    """The history of a seed."""
    choice = Random(seed)
    compacted, fingerprints = choice.random() < 0.07, choice.random() < 0.3
    world = WorldPlan(
        seed,
        choice.choice((1, 2, 3)),
        choice.choice((1, 2)),
        choice.random() < 0.5,
        choice.random() < 0.75,
        choice.choice(("read_committed", "read_committed", "read_uncommitted")),
        choice.random() < 0.25,
        choice.random() < 0.5,
        choice.random() < 0.7,
        choice.random() < 0.2,
        compacted,
        choice.choice((0, 0, 3)),
        choice.choice((1, 3, 50)),
        choice.choice((1, 1, 10)),
        rules=choice.choice((0, 0, 2)),
    )
    kinds = list(_USUAL)
    groups = [one for one in _GROUPS if choice.random() < 0.4]
    if fingerprints and choice.random() < 0.5:
        groups = [one for one in groups if one not in _TEARING]
    if compacted:
        groups = [one for one in groups if one is not _CUT] + [_COMPACTION]
    elif fingerprints:
        groups.append(_FINGERPRINTS)
    if world.accept_skip and _OFFSETS not in groups:
        groups.append(_OFFSETS)
    if world.dead_letter_run:
        groups.append(_BROKEN)
    for group in groups:
        kinds += group
    world = replace(world, tears=any(group in _TEARING for group in groups))
    return Plan(world, [_step(choice.choice(kinds), choice) for _ in range(STEPS)])


_USUAL: Final = ("turn",) * 42 + ("produce",) * 10 + ("start",) * 4 + ("stop", "kill", "rebalance", "settle", "wait")
_CUT: Final = ("cut",) * 3 + ("cut_behind", "cut_behind", "elect")
_BROKEN: Final = ("broken",) * 3
_COMPACTION: Final = ("compact",) * 3
_FINGERPRINTS: Final = ("version", "version", "void", "void")
_OFFSETS: Final = ("commit_back", "commit_ahead", "drop_metadata")
_TEARING: Final = (
    ("fault",) * 7 + ("arrive",) * 2,
    ("store_away", "trouble", "trouble", "slow", "slow"),
    ("kill_at",) * 4,
    ("stand_still",) * 3,
    ("hold",) * 3 + ("finish",),
    ("expel", "fence", "repeat"),
)
_GROUPS: Final = (
    *_TEARING,
    ("kafka_away", "leaderless", "leaderless", "lose_commits"),
    ("begin", "begin", "send", "send", "end", "end"),
    ("retain",) * 2,
    ("lose", "lose", "overtake"),
    _CUT,
    ("back_up", "restore"),
    _OFFSETS,
    ("skew", "skew_store", "skew_all"),
    ("add_partition",),
    ("chunk_length",) * 2,
    ("recreate",) * 2,
    ("merge", "expire"),
    ("publish", "rules_unread"),
    ("replay",) * 3,
    ("replay_head", "replay_head", "rewind", "rewind"),
    ("redrive",) * 2,
    ("erase",),
    ("start_mistaken",),
)


def _step(kind: str, choice: Random) -> Step:
    """A step with its arguments."""
    step: Step = {"do": kind}
    for name, draw_one in _ARGUMENTS.get(kind, {}).items():
        step[name] = draw_one(choice)
    return step


def _number(choice: Random) -> int:
    return choice.randrange(1000)


def _share(choice: Random) -> float:
    return round(choice.random(), 3)


def _half(choice: Random) -> bool:
    return choice.random() < 0.5


_WHICH: Final = {"which": _number}
_TP: Final = {"tp": _number}
_RECORDS: Final = {
    **_TP,
    "records": lambda choice: choice.randint(1, 6),
    "apart": lambda choice: choice.choice((1, 1, 1, 7, 60, 7000, 7000)),
    "kind": _number,
}
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "turn": {**_WHICH, "turns": lambda choice: choice.choice((1, 1, 2, 3, 5, 9, 14))},
    "produce": _RECORDS,
    "stop": _WHICH,
    "kill": {**_WHICH, "arrives": _half},
    "kill_at": {**_WHICH, "effect": lambda choice: choice.randrange(25), "arrives": _half},
    "stand_still": {
        **_WHICH,
        "effect": lambda choice: choice.randrange(25),
        "steps": lambda choice: choice.randint(1, 20),
        "seconds": lambda choice: choice.choice((0, 0, 40)),
    },
    "hold": _WHICH,
    "finish": _WHICH,
    "expel": _WHICH,
    "fence": _WHICH,
    "repeat": {**_WHICH, "offsets": lambda choice: choice.choice((1, 5, 100))},
    "wait": {"seconds": lambda choice: choice.choice((1, 5, 40))},
    "fault": {"table": lambda choice: choice.choice(TABLES), "fault": lambda choice: choice.choice(FAULTS)},
    "trouble": {"trouble": lambda choice: choice.choice((*TROUBLES, ""))},
    "slow": _TP,
    "leaderless": _TP,
    "lose_commits": {"commits": lambda choice: choice.randint(1, 3)},
    "begin": _RECORDS,
    "send": _RECORDS,
    "end": {**_TP, "commit": _half},
    "retain": {**_TP, "share": _share},
    "lose": {**_TP, "share": _share, "grows": lambda choice: choice.choice((0, 4))},
    "overtake": _RECORDS,
    "broken": {**_TP, "records": lambda choice: choice.randint(3, 6)},
    "cut": {
        **_TP,
        "share": _share,
        "counted": _half,
        "grows": lambda choice: choice.choice((0, 0, 3)),
        "ends": _half,
        "same": lambda choice: choice.choice((0, 0, 2, 6)),
    },
    "cut_behind": {
        **_TP,
        "share": _share,
        "kind": _number,
        "ends_chunk": _half,
        "head_lost": _half,
        "again": _half,
        "unseen": _half,
        "turns": lambda choice: choice.choice((4, 12, 40)),
    },
    "elect": _TP,
    "rules_unread": {**_TP, "seconds": lambda choice: choice.choice((5, 12))},
    "compact": {**_TP, "kind": _number},
    "restore": {"restarts": _half},
    "commit_back": {**_TP, "share": _share},
    "commit_ahead": {**_TP, "share": _share},
    "skew": {**_WHICH, "seconds": lambda choice: choice.choice((-3600, -30, 0, 30, 3600))},
    "skew_all": {"seconds": lambda _choice: 36_000},
    "skew_store": {"seconds": lambda choice: choice.choice((-3600, -30, 0, 30))},
    "add_partition": _TP,
    "recreate": {**_TP, "ends": _half, "away": lambda choice: choice.choice((0, 0, 4, 12))},
    "expire": {"days": lambda choice: choice.choice((89, 60))},
    "chunk_length": {
        "length": lambda choice: 1 << choice.choice((14, 15)),
        "grows": _half,
        "effect": lambda choice: choice.choice((0, choice.randrange(1, 24))),
        "beside": lambda choice: choice.choice((2, 5, 1000)),
        "grows_at": lambda choice: choice.choice((0, 0, choice.randrange(1, 12))),
        "fault": lambda choice: choice.choice(("", "", "refused", "lost answer", "doubled")),
        "takes_back": _half,
    },
    "version": {"version": lambda choice: choice.randrange(3), "ends": _half},
    "void": {**_WHICH, **_RECORDS, "seconds": lambda choice: choice.choice((0, 12))},
    "settle": {"ends": _half},
    "redrive": {
        **_TP,
        "effect": lambda choice: choice.randrange(60),
        "other": lambda choice: choice.choice((0, 0, choice.randrange(1, 50))),
        "beside": lambda choice: choice.choice((2, 5, 1000)),
        "place": lambda choice: choice.choice(("", "", "redrive_sent", "redrive_marked", "redrive_committed")),
        "mends": lambda choice: choice.random() < 0.85,
        "elsewhere": _half,
        "first": lambda choice: choice.choice((0, 0, 1, 5)),
        "stops": lambda choice: choice.random() < 0.2,
        "kept_hours": lambda choice: choice.choice((0, 12)),
        "now": _half,
        "forgets": lambda choice: choice.random() < 0.4,
        "hidden": lambda choice: choice.random() < 0.2,
        "undelivered": lambda choice: choice.choice(("", "", "refused", "silent")),
        "rate": lambda choice: choice.choice((0, 0, 5)),
    },
    "replay": {
        "kind": _number,
        "table": lambda choice: choice.choice(("counts", "hourly", "totals", "dead_letters")),
        "harm": lambda choice: choice.choice(("lost", "more", "stray", "mistaken")),
        "repair": _half,
        "fault": lambda choice: choice.choice(("", "", *FAULTS)),
        "effect": lambda choice: choice.randrange(60),
        "beside": lambda choice: choice.choice((3, 7, 1000)),
        "span": lambda choice: choice.choice(("", "offsets", "times", "partition")),
        "stops": _half,
        "rate": lambda choice: choice.choice((0, 0, 7)),
        "second": lambda choice: choice.choice((0, choice.randrange(1, 60))),
        "voids": lambda choice: choice.choice((0, 0, 0, choice.randrange(1, 60))),
        "retains": lambda choice: choice.choice((0, 0, 0, choice.randrange(1, 60))),
    },
    "start_mistaken": {"turns": lambda choice: choice.choice((5, 20))},
    "erase": {
        "org": lambda choice: choice.randint(1, 2),
        "effect": lambda choice: choice.choice((0, choice.randrange(1, 80))),
        "beside": lambda choice: choice.choice((2, 5, 1000)),
        "wait": lambda choice: choice.choice((0, 10, 60)),
        "table": lambda choice: choice.choice(("counts", "hourly", "erasures")),
        "fault": lambda choice: choice.choice(("", "", "refused", "torn", "lost answer", "doubled")),
    },
    "replay_head": {
        "kind": _number,
        "table": lambda choice: choice.choice(("counts", "hourly", "totals", "dead_letters")),
        "harm": lambda choice: choice.choice(("lost", "lost", "more", "stray")),
        "share": _share,
        "head": lambda choice: choice.choice(("refuse", "skip", "keep", "drop")),
        "says": _half,
        "effect": lambda choice: choice.randrange(60),
    },
    "rewind": {
        **_TP,
        "kind": _number,
        "share": lambda choice: choice.choice((0, 0.1, 0.5, 1)),
        "grows": lambda choice: choice.choice((0, 3)),
        "apart": lambda choice: choice.choice((1, 7, 7000)),
        "head": lambda choice: choice.choice(("refuse", "skip", "drop")),
        "effect": lambda choice: choice.randrange(90),
        "beside": lambda _choice: 1000,
    },
}
