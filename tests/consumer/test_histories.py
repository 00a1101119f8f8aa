"""The guarantee, on the real counting code, over random histories of everything that can go wrong."""

import os
from collections import Counter
from typing import Any

import pytest

from tests.consumer.histories import World, expected, project_totals, stored_counts, without_buckets, wrong_hours

HISTORIES = int(os.environ.get("ORGSTATS_TEST_HISTORIES", "2000"))
CHUNK = 100


@pytest.mark.parametrize("first_seed", range(0, HISTORIES, CHUNK))
def test_counts_equal_one_pass_over_the_log(first_seed: int) -> None:
    """After any history the store holds what one pass gives; only records listed as gaps may be missing."""
    for seed in range(first_seed, min(first_seed + CHUNK, HISTORIES)):
        world = World(seed)
        world.play(steps=60)
        if world.undecidable:
            continue
        check(world, seed, by_time=not world.fingerprint_changed)
        if world.fingerprint_changed:
            world.count_all_again()
            check(world, seed, by_time=world.low == 0)


def test_compaction_lowers_no_count_when_it_is_allowed() -> None:
    """Whatever vanishes of what was counted, stored counts stay, and what comes after is added to them."""
    for seed in range(200):
        world = World(seed)
        world.allow_compaction = True
        for _ in range(3):
            world.finish()
            before = stored_counts(world.store)
            world.compact()
            world.owners.clear()
            if seed % 2:
                world.committed = world.random.randint(0, world.end)
            known = len(world.log)
            world.grow()
            world.finish()
            added, _ = expected(world.log[known:], world.fingerprint)
            assert +stored_counts(world.store) == +(before + added), f"seed {seed}"
            assert not wrong_hours(world.store), f"seed {seed}"


def check(world: World, seed: int, *, by_time: bool) -> None:
    """Every cell and dead letter against one pass; without `by_time` only sums over time.

    Chunks that were closed before the fingerprint changed keep its counts, which differ by time alone here.
    """
    gone = {r.at for r in world.log if r.at < world.before_start or listed(world, r.at)}
    surely, surely_dead = expected((r for r in world.log if r.at not in gone), world.fingerprint)
    at_most, at_most_dead = expected(world.log, world.fingerprint)
    stored = stored_counts(world.store)
    wrong = outside(stored, surely, at_most) if by_time else outside(*map(without_buckets, (stored, surely, at_most)))
    assert not wrong, f"seed {seed}"
    dead = {offset for offset, (_, withdrawn) in world.store.dead.items() if not withdrawn}
    assert surely_dead <= dead <= at_most_dead, f"seed {seed}"
    assert not wrong_hours(world.store), f"seed {seed}"
    by_project = project_totals(world.store)
    by_org: Counter[tuple[int, ...]] = Counter()
    for (org, bucket, outcome, _), quantity in stored.items():
        by_org[org, bucket, outcome] += quantity
    if not gone:
        assert +by_project == +by_org, f"seed {seed}"


def listed(world: World, offset: int) -> bool:
    """Whether a gap that is listed holds the offset."""
    return any(start <= offset < end for start, end in world.store.gaps)


def outside(stored: Counter[Any], surely: Counter[Any], at_most: Counter[Any]) -> dict[Any, tuple[int, int, int]]:
    """Cells that hold less than must be counted, or more than there ever was."""
    return {
        key: (stored[key], surely[key], at_most[key])
        for key in stored | at_most
        if not surely[key] <= stored[key] <= at_most[key]
    }
