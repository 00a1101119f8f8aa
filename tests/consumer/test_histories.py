"""The promise, on the real counting code, over random histories of everything that can go wrong."""

import os
from collections import Counter

import pytest

from tests.consumer.histories import World, expected, project_totals, stored_counts

HISTORIES = int(os.environ.get("ORGSTATS_TEST_HISTORIES", "2000"))
CHUNK = 100


def _listed(world: World, offset: int) -> bool:
    return any(start <= offset < end for start, end in world.store.gaps)


@pytest.mark.parametrize("first_seed", range(0, HISTORIES, CHUNK))
def test_counts_equal_one_pass_over_the_log(first_seed: int) -> None:
    """After any history the store holds what one pass gives; only records listed as gaps may be missing."""
    for seed in range(first_seed, min(first_seed + CHUNK, HISTORIES)):
        world = World(seed)
        world.play(steps=60)
        gone = {r.at for r in world.log if r.at < world.before_start or _listed(world, r.at)}
        surely, surely_dead = expected(r for r in world.log if r.at not in gone)
        at_most, at_most_dead = expected(iter(world.log))
        stored = stored_counts(world.store)
        wrong = {
            key: (stored[key], surely[key], at_most[key])
            for key in stored | at_most
            if not surely[key] <= stored[key] <= at_most[key]
        }
        assert not wrong, f"seed {seed}"
        assert surely_dead <= set(world.store.dead) <= at_most_dead, f"seed {seed}"
        by_project = project_totals(world.store)
        by_org: Counter[tuple[int, ...]] = Counter()
        for (org, bucket, outcome, _), quantity in stored.items():
            by_org[org, bucket, outcome] += quantity
        if not gone:
            assert +by_project == +by_org, f"seed {seed}"
