"""What traffic looks like to a counter: few organizations send most of it, and most cells are touched rarely.

The shares are those of `deploy/local/traffic.py`, so that the simulation and the benchmarks look at the same traffic.
Every number of cells comes from one formula: of keys with the probabilities p, n events touch
sum(1 - exp(-n p)), as events of different keys arrive independently of each other.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from orgstats.deploy.local.traffic import CATEGORIES, OUTCOMES, Mix
from orgstats.schemas.outcomes import BUCKET_SECONDS

Groups = list[tuple[float, float]]
"""(probability of each key, how many keys): keys that are about equally likely stand together."""

ORGANIZATION_EXPONENT = 1.1
"""The share of the organization of rank r falls with r to the power of this."""
PROJECTS = 7
"""Organizations have one to so many projects, as many organizations of each."""
LATE_BUCKETS = 180
"""Late events are half an hour late on average."""
EARLIER_HOUR = (1 - math.exp(-2)) / 2
"""As many of the late events belong to an hour before, with hours twice as long as they are late on average."""
_FINENESS = 20


def distinct(events: float, groups: Groups) -> float:
    """How many different keys so many events have."""
    return sum(-math.expm1(-events * probability) * keys for probability, keys in groups)


@dataclass(frozen=True)
class Shape:
    """Traffic of so many organizations; `late` is the share of events that belong to another bucket."""

    organizations: int
    late: float = Mix().late
    raw: float = Mix().raw

    @cached_property
    def cells(self) -> Groups:
        """Keys of `counts` in one bucket: organization, category, outcome, reason."""
        kinds = [(share * among, reasons) for share, reasons in self._outcomes() for among in CATEGORIES.values()]
        return _binned(
            (who * share / reasons, many * reasons) for who, many in self._ranks() for share, reasons in kinds
        )

    @cached_property
    def project_cells(self) -> Groups:
        """Keys of `project_counts` in one bucket: organization, project, category, outcome."""
        kinds = _binned(
            (share * among * in_project, 1 / PROJECTS)
            for share, _ in self._outcomes()
            for among in CATEGORIES.values()
            for projects in range(1, PROJECTS + 1)
            for in_project in _project_shares(projects)
        )
        return _binned((who * share, many * keys) for who, many in self._ranks() for share, keys in kinds)

    @cached_property
    def senders(self) -> Groups:
        """Keys of `hour_counts` in one hour: organization."""
        return _binned(self._ranks())

    @cached_property
    def largest(self) -> float:
        """Share of all events that the largest organization sends."""
        return next(self._ranks())[0]

    def share(self, rank: int) -> float:
        """Share of all events that the organization of this rank sends."""
        return self.largest * math.pow(rank, -ORGANIZATION_EXPONENT)

    def touched(self, events: float, groups: Groups, seconds: float) -> float:
        """Cells that so many events of so many seconds touch; the seconds lie within one bucket."""
        return distinct(events * (1 - self.late), groups) + self._late(events * self.late, groups, seconds)

    def summed(self, events: float) -> float:
        """Sums by hour that so many events touch; the late ones that belong to an hour before touch one more."""
        before = self.late * EARLIER_HOUR
        return distinct(events * (1 - before), self.senders) + distinct(events * before, self.senders)

    def _late(self, events: float, groups: Groups, seconds: float) -> float:
        """Late events are spread over many buckets: tenths of them, each over more buckets than the one before."""
        touched, edges = 0.0, [-math.log1p(-tenth / 10) * LATE_BUCKETS for tenth in range(10)]
        for near, far in zip(edges, [*edges[1:], edges[-1] + LATE_BUCKETS], strict=True):
            buckets = far - near + seconds / BUCKET_SECONDS / 10
            touched += buckets * distinct(events / 10 / buckets, groups)
        return touched

    def _outcomes(self) -> Iterator[tuple[float, int]]:
        """Share and number of reasons of each outcome; what nobody has classified is mostly accepted."""
        for outcome, (share, reasons) in OUTCOMES.items():
            yield share * (1 - self.raw) + (self.raw if outcome == 0 else 0), len(reasons)

    def _ranks(self) -> Iterator[tuple[float, float]]:
        """Share and number of organizations, the largest first; those of near ranks stand together."""
        spans = list(_spans(self.organizations))
        weights = [math.pow(first * last, -ORGANIZATION_EXPONENT / 2) for first, last in spans]
        whole = sum(w * (last - first + 1) for w, (first, last) in zip(weights, spans, strict=True))
        for weight, (first, last) in zip(weights, spans, strict=True):
            yield weight / whole, last - first + 1


def _spans(ranks: int) -> Iterator[tuple[int, int]]:
    first = 1
    while first <= ranks:
        last = min(ranks, max(first, int(first * 1.05)))
        yield first, last
        first = last + 1


def _project_shares(projects: int) -> list[float]:
    """How an organization's events are spread over its projects."""
    shares = [0.0] * projects
    for number in range(1, 5_000):
        shares[number % projects] += 1 / (number * (number + 1))
    return shares


def _binned(groups: Iterable[tuple[float, float]]) -> Groups:
    """Groups of about equal probability as one."""
    keys: defaultdict[int, float] = defaultdict(float)
    weight: defaultdict[int, float] = defaultdict(float)
    for probability, many in groups:
        slot = round(math.log(probability) * _FINENESS)
        keys[slot] += many
        weight[slot] += many * probability
    return [(weight[slot] / many, many) for slot, many in keys.items()]
