"""Whether another chunk length would pay, told from the rate of each partition; pure."""

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Final

from orgstats.consumer.counting.grid import LONGEST, SHORTEST
from orgstats.consumer.ops.findings import Finding
from orgstats.consumer.ops.lag import Lag

FULL_SECONDS: Final = 60.0
"""A chunk that is full sooner shares each 10 s with others, and late events add rows: a longer one saves them."""
AGAIN_SECONDS: Final = 60.0
"""Reading the open chunks again after a restart should take no longer."""
AGAIN_RATE: Final = 100_000
"""Records a second that a consumer reads again, put low: docs/performance.md has what was measured."""


def advice(partitions: Collection[Lag], consumers: int) -> Iterator[Finding]:
    """A note for each length that would be better, and for which partitions."""
    counted = [one for one in partitions if one.position is not None]
    again = sum(one.chunk_length for one in counted) / (AGAIN_RATE * max(1, consumers))
    wanted = sorted(
        (one.topic, length, one.partition, one.chunk_length)
        for one in counted
        if (length := _better(one, again)) != one.chunk_length
    )
    for (topic, length), group in groupby(wanted, key=lambda one: one[:2]):
        those = [*group]
        longer = length > those[0][3]
        numbers = ",".join(str(partition) for _, _, partition, _ in those)
        why = (
            f"their chunks are full within {FULL_SECONDS:.0f} s: longer ones would write fewer rows"
            if longer
            else f"reading all open chunks again after a restart may take {again:,.0f} s: shorter ones would take less"
        )
        yield Finding(
            "note",
            f"topic {topic}, partitions {numbers}: {why}",
            f"orgstats chunk-length set {length} --topic {topic} --partitions {numbers}; see docs/scaling.md",
        )


def _better(one: Lag, again: float) -> int:
    """The shortest length that is not full too soon; a shorter one only where reading again takes too long."""
    least = SHORTEST
    while least < min(LONGEST, one.produced_rate * FULL_SECONDS):
        least *= 2
    if least > one.chunk_length:
        return least
    length = one.chunk_length
    while again > AGAIN_SECONDS and length > least:
        length, again = length // 2, again / 2
    return length
