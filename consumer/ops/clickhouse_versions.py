"""ClickHouse versions that are known to be wrong in what the guarantee needs: `FINAL`, and inserts by a quorum."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

OLDEST: Final = (23, 8)
"""Older ones lack what migrations and statements use."""
OLDEST_TESTED: Final = (25, 8)
"""The oldest that the tests run with, see tests/support/servers.py."""

Release = tuple[int, int]
"""Year and number, as 25.8 has them."""


@dataclass(frozen=True, slots=True)
class VersionFault:
    """What is wrong from the release `first` on, up to the version that `fixed` has for a release, and before `gone`.

    `source` is the number of the change in ClickHouse's repository that mends it: its text says what was wrong, and
    its backports or the changelogs which version of a release has it.
    """

    source: int
    what: str
    first: Release
    gone: Release
    fixed: Mapping[Release, tuple[int, ...]] = field(default_factory=dict)
    replicated: bool = False
    """Only where tables are replicated."""

    def is_in(self, version: tuple[int, ...]) -> bool:
        """Whether a version, four numbers, has it."""
        release = version[0], version[1]
        if release in self.fixed:
            return version < self.fixed[release]
        return self.first <= release < self.gone

    @property
    def remedy(self) -> str:
        """Which versions to take."""
        named = [".".join(map(str, fixed)) for fixed in self.fixed.values()]
        return f"upgrade ClickHouse to {', '.join(named)} or at least {'.'.join(map(str, self.gone))}"


# Looked at and left out, since they need what our tables and statements do not have: 62432 (index_granularity_bytes=0),
# 98097 (skip indexes read with FINAL), 53511 (is_deleted), 111721 (a PREWHERE that is the bare column), 111196
# (insert_deduplicate=1).
FAULTS: Final = (
    VersionFault(
        55026,
        "a quorum insert may be confirmed although its quorum failed, when the Keeper session ended meanwhile",
        first=(23, 8),
        gone=(23, 10),
        fixed={(23, 8): (23, 8, 4, 69)},
        replicated=True,
    ),
    VersionFault(
        60041,
        "FINAL may give a wrong result where it splits the ranges of a part",
        first=(24, 1),
        gone=(24, 3),
        fixed={(24, 1): (24, 1, 6, 52), (24, 2): (24, 2, 2, 71)},
    ),
    VersionFault(
        62268,
        "FINAL may give a wrong result where not all columns of the primary key are in memory",
        first=(24, 3),
        gone=(24, 4),
        fixed={(24, 3): (24, 3, 3, 102)},
    ),
    VersionFault(
        108800,
        "insert_quorum=auto does not see that too few replicas are alive: each flush then waits for its timeout",
        first=(26, 2),
        gone=(26, 7),
        fixed={(26, 3): (26, 3, 17, 9), (26, 4): (26, 4, 5, 85), (26, 5): (26, 5, 5, 7), (26, 6): (26, 6, 2, 17)},
        replicated=True,
    ),
)


def numbers(version: str) -> tuple[int, ...]:
    """The four numbers of a version's text; what follows them, as `.altinitystable`, is left out, what lacks is 0."""
    found = [int(part) if part.isdecimal() else 0 for part in version.split(".")[:4]]
    return (*found, *[0] * (4 - len(found)))


def faults(version: str, *, replicated: bool) -> list[VersionFault]:
    """The known faults of a version."""
    return [one for one in FAULTS if one.is_in(numbers(version)) and (replicated or not one.replicated)]
