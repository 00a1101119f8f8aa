"""Which fault met a partition in which state, how often; what never did must be known not to be possible."""

from collections.abc import Iterable, Mapping
from typing import Final

from orgstats.consumer.states import PartitionState

IMPOSSIBLE: Final = {
    ("compact", PartitionState.CATCHING_UP): "of a compacted topic nothing is read again",
}


def table(met: Mapping[tuple[str, PartitionState], int]) -> str:
    """For people."""
    kinds = sorted({kind for kind, _ in met})
    lines = [" " * 16 + "".join(f"{state:>13}" for state in PartitionState)]
    lines += [f"{kind:16}" + "".join(f"{met.get((kind, state), 0):13}" for state in PartitionState) for kind in kinds]
    return "\n".join(lines)


def never_met(met: Mapping[tuple[str, PartitionState], int], kinds: Iterable[str]) -> list[tuple[str, PartitionState]]:
    """What should have been met and was not."""
    pairs = [(kind, state) for kind in sorted(kinds) for state in PartitionState]
    return [pair for pair in pairs if not met.get(pair, 0) and pair not in IMPOSSIBLE]
