"""The guarantee, on the real counting code, over random histories of everything that can go wrong."""

import os

import pytest

from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.ops.audit_rules import ChunkExtent, roll_ups
from tests.consumer.histories import Values, World, expected, stored_values, without_buckets, writes_of

HISTORIES = int(os.environ.get("ORGSTATS_TEST_HISTORIES", "2000"))
CHUNK = 100
INSERTS = 9
"""Of a flush, see `Store.write`."""


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
            before = stored_values(world.store)
            world.compact()
            world.owners.clear()
            if seed % 2:
                world.committed = world.random.randint(0, world.end)
            known = len(world.log)
            world.grow()
            world.finish()
            added, _ = expected(world.log[known:], world.fingerprint)
            assert +stored_values(world.store) == +(before + added), f"seed {seed}"
            assert not torn(world), f"seed {seed}"


@pytest.mark.parametrize(
    "retained", ["all", "from the last flush on", "from within the torn flush on", "nothing of it"]
)
@pytest.mark.parametrize("inserts", range(INSERTS + 1))
def test_a_flush_torn_between_two_tables_is_made_good(inserts: int, retained: str) -> None:
    """Whatever of it arrived and whatever retention has deleted since: only listed records may be in some tables."""
    for seed in range(2, 62, 3):  # no skips
        world = World(seed)
        world.open()
        world.read()
        world.flush()
        world.read()
        (owner,) = world.owners
        assert world.store.progress is not None
        flushed, torn_at = world.store.progress.next_offset, owner.partition.next_offset
        changes = owner.partition.take(seldom=seed % 2 == 0)
        world.store.begin(changes)
        for insert in writes_of(changes, owner.fingerprint)[:inserts]:
            for write in insert:
                world.store.apply(write)
        world.crash()
        lows = {"from the last flush on": flushed, "from within the torn flush on": (flushed + torn_at) // 2}
        world.low = lows.get(retained, 0 if retained == "all" else world.end)
        world.grow()
        world.finish()
        check(world, seed, by_time=True)
        if world.low <= flushed:
            assert not world.store.gaps, f"seed {seed}"


def check(world: World, seed: int, *, by_time: bool) -> None:
    """Every cell and dead letter against one pass; without `by_time` only sums over time.

    Chunks that were closed before the fingerprint changed keep its counts, which differ by time alone here.
    """
    gone = {r.at for r in world.log if r.at < world.before_start or listed(world, r.at)}
    surely, surely_dead = expected((r for r in world.log if r.at not in gone), world.fingerprint)
    at_most, at_most_dead = expected(world.log, world.fingerprint)
    stored = stored_values(world.store)
    wrong = outside(stored, surely, at_most) if by_time else outside(*map(without_buckets, (stored, surely, at_most)))
    assert not wrong, f"seed {seed}"
    dead = {offset for offset, (_, withdrawn) in world.store.dead.items() if not withdrawn}
    assert surely_dead <= dead <= at_most_dead, f"seed {seed}"
    assert not torn(world), f"seed {seed}"


def torn(world: World) -> list[object]:
    """What the audit finds of tables that do not agree: nothing but what listed gaps may leave is no finding."""
    store, gaps = world.store, tuple(world.store.gaps)
    chunks = {chunk for _, chunk, _ in store.cells}
    return [
        difference
        for chunk in sorted(chunks)
        for difference in roll_ups(ChunkExtent(chunk, Grid().chunk_end(chunk), world.low, gaps), store.chunk(chunk))
    ]


def listed(world: World, offset: int) -> bool:
    """Whether a gap that is listed holds the offset."""
    return any(start <= offset < end for start, end in world.store.gaps)


def outside(stored: Values, surely: Values, at_most: Values) -> dict[object, tuple[int, int, int]]:
    """Values that are less than must be counted, or more than there ever was."""
    return {
        key: (stored[key], surely[key], at_most[key])
        for key in stored | at_most
        if not surely[key] <= stored[key] <= at_most[key]
    }
