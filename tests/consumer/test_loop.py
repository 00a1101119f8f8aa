"""The real loop, played in memory: counting, rebalances, outages, lost positions, topics that go, stopping."""

import itertools
from collections import Counter

import pytest

from orgstats.consumer.counting.grid import CHUNK_LENGTH, SHORTEST
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.kafka.errors import Fenced, Unreleased
from orgstats.consumer.membership import MOST_FENCED
from orgstats.errors import Refused, Unavailable
from tests.sim.clickhouse import Fault, Planned
from tests.sim.group import SimConsumer
from tests.sim.kafka import SimTopics
from tests.sim.world import SimProcess, SimWorld

A, B = ("events", 0), ("events", 1)
K = CHUNK_LENGTH // 128  # about a thousand offsets of a chunk as long as in production
OTHER = ("other", 0)
FENCED = Fenced("another process uses the same name")


def counted(process: SimProcess) -> None:
    """Everything is stored and committed, and every cell equals one pass."""
    process.until(process.world.all_is_counted)
    assert process.world.store.counts() == process.world.expected()


def test_records_are_counted_and_committed(world: SimWorld) -> None:
    """What comes is stored within a flush, and the commit follows the store."""
    process = world.process()
    counted(process)
    world.produce(A, 5)
    counted(process)
    process.stop()


def test_what_had_come_before_is_stored_as_soon_as_it_is_counted(world: SimWorld) -> None:
    """It does not wait for the flush time; what comes afterwards does."""
    for partition in (A, B):
        world.produce(partition, 50)
    process = world.process(flush_seconds=60.0, batch_size=10)
    counted(process)
    process.turn(5)
    counted_at = world.clock.monotonic()
    assert counted_at < 30
    world.produce(A, 5)
    counted(process)
    assert world.clock.monotonic() > counted_at + 30


def test_a_chunk_that_closes_is_stored_whole(world: SimWorld) -> None:
    """Records far apart fill several chunks between two checkpoints."""
    world.produce(A, 40, apart=20 * K)
    process = world.process()
    counted(process)
    assert len({row.chunk for row in world.store.final("counts")}) > 5


def test_a_source_keeps_its_chunk_length(world: SimWorld) -> None:
    """The setting is for what is counted for the first time; a consumer with another one goes on as it was begun."""
    first = world.process(chunk_length=SHORTEST)
    counted(first)
    first.stop()
    world.produce(A, 40, apart=SHORTEST)
    counted(world.process(chunk_length=CHUNK_LENGTH))
    chunks = {row.chunk for row in world.store.final("counts")}
    assert all(chunk % SHORTEST == 0 for chunk in chunks)
    assert len(chunks) > 30


def test_an_idle_partition_tells_that_it_is_complete(world: SimWorld) -> None:
    """Without a new record the progress is written again, and its time moves on."""
    process = world.process()
    counted(process)
    before = {row.source_id: row.complete_until for row in world.store.final("progress")}
    process.turn(100)
    after = {row.source_id: row.complete_until for row in world.store.final("progress")}
    assert all(after[source] > before[source] for source in before)


def test_stopping_stores_and_commits_the_last_records(world: SimWorld) -> None:
    """The last flush is not waited for by the clock."""
    process = world.process()
    counted(process)
    world.produce(A, 3)
    process.turn()
    process.stop()
    assert world.all_is_counted()
    assert process.member.closed


@pytest.mark.parametrize("stuck", [False, True])
def test_stopping_with_a_checkpoint_under_way_waits_for_it(world: SimWorld, stuck: bool) -> None:
    """It is committed once it has ended; one that does not end within the deadline is 69, and nothing is committed."""
    process = world.process()
    process.executor.hold = True
    process.turn(5)
    process.executor.stuck = stuck
    if stuck:
        with pytest.raises(Unavailable, match="stopped before all that was counted was stored"):
            process.stop()
        assert not world.kafka.commits
    else:
        process.stop()
        assert world.all_is_counted()


@pytest.mark.parametrize("away", ["store", "kafka"])
def test_stopping_while_nobody_answers_is_69(world: SimWorld, away: str) -> None:
    """The next consumer counts again what was not stored."""
    process = world.process()
    counted(process)
    world.produce(A, 3)
    process.turn()
    if away == "store":
        world.store.away = True
    else:
        process.member.commit_fails = Unavailable("Kafka: no answer")
    with pytest.raises(Unavailable, match="Nothing is lost"):
        process.stop()
    world.store.away = False
    counted(world.process())


# Rebalances


@pytest.mark.parametrize("incremental", [False, True])
def test_partitions_move_to_a_second_member_and_back(incremental: bool) -> None:
    """What is revoked is stored and committed first, and nothing is counted twice."""
    world = SimWorld(partitions=4, incremental=incremental)
    for partition in range(4):
        world.produce(("events", partition))
    first = world.process()
    counted(first)
    world.produce(A, 5)
    second = world.process()
    for _ in range(20):
        first.turn()
        second.turn()
    assert sorted([*first.loop.assigned_tps(), *second.loop.assigned_tps()]) == [("events", n) for n in range(4)]
    assert len(first.loop.assigned_tps()) == 2
    world.produce(B, 5)
    second.until(lambda: world.store.progress().get(B) == world.ends()[B])
    second.stop()
    world.produce(B, 5)
    counted(first)


@pytest.mark.parametrize("incremental", [False, True])
def test_a_rebalance_waits_for_the_checkpoint_under_way(incremental: bool) -> None:
    """The new owner goes on where the commit is; a flush of what was read meanwhile comes first, too."""
    world = SimWorld(incremental=incremental)
    world.produce(A)
    world.produce(B)
    first = world.process()
    first.executor.hold = True
    first.turn(5)
    world.produce(A, 5)
    first.turn()
    second = world.process()
    first.turn()
    first.executor.hold = False
    assert world.store.counts() == world.expected()
    for _ in range(30):
        first.turn()
        second.turn()
    assert world.all_is_counted()


def test_partitions_are_not_kept_back_while_the_store_refuses(world: SimWorld) -> None:
    """The others wait for them; what is not stored the next owner counts."""
    first = world.process()
    counted(first)
    world.store.faults = [Planned("counts", "refused")] * 100
    world.produce(A, 5)
    first.until(lambda: not first.member.positions)
    second = world.process()
    before = world.clock.monotonic()
    first.turn()
    assert world.clock.monotonic() < before + 1
    world.store.faults.clear()
    for _ in range(40):
        first.turn()
        second.turn()
    assert world.all_is_counted()
    assert world.store.counts() == world.expected()


def test_nothing_is_opened_while_a_checkpoint_is_under_way(world: SimWorld) -> None:
    """It may hold counts of the very partitions that are to be looked at anew."""
    process = world.process()
    counted(process)
    process.executor.hold = True
    world.produce(A, 5)
    process.until(lambda: process.executor.begun)
    world.store.rules = RuleHistory((), ("0", "1-voided"))
    process.until(lambda: not process.loop.assigned_tps())
    process.turn(30)
    assert not process.loop.assigned_tps()
    process.executor.hold = False
    process.executor.run()
    counted(process)


def test_a_zombie_changes_no_count(world: SimWorld) -> None:
    """It learns late that it lost its partitions, and what it stores meanwhile has older versions."""
    zombie = world.process()
    counted(zombie)
    zombie.executor.hold = True
    world.produce(A, 5)
    zombie.until(lambda: zombie.loop.positions()[A].next_offset == 10 and zombie.world.ends()[A] == 15)
    zombie.turn(15)
    world.group.expel(zombie.member)
    heir = world.process()
    world.produce(A, 5)
    counted(heir)
    zombie.executor.run()
    zombie.executor.hold = False
    for _ in range(30):
        zombie.turn()
        heir.turn()
    assert world.all_is_counted()
    assert world.store.counts() == world.expected()


# What is written seldom


def by_hour(world: SimWorld) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    """Quantity by organization and hour, as `counts` and as `hourly` have it."""
    counts: Counter[tuple[int, int]] = Counter()
    hourly: Counter[tuple[int, int]] = Counter()
    for row in world.store.final("counts"):
        counts[row.org_id, row.bucket // 3600 * 3600] += row.quantity
    for row in world.store.final("hourly"):
        hourly[row.org_id, row.bucket] += row.quantity
    return +counts, +hourly


def test_hourly_is_written_every_half_minute_and_at_the_end(world: SimWorld) -> None:
    """In between progress tells how far it is written, and up to when it is complete; idle partitions, too."""
    process = world.process()
    counted(process)
    world.produce(A, 5)
    counted(process)
    counts, hourly = by_hour(world)
    assert counts != hourly
    behind = min(world.store.final("progress"), key=lambda row: row.hourly_offset)
    assert (behind.next_offset, behind.hourly_offset) == (15, 10)
    assert behind.hourly_complete_until < behind.complete_until
    begin = world.clock.monotonic()
    process.until(lambda: len(set(map(str, by_hour(world)))) == 1)
    assert world.clock.monotonic() - begin < 35
    process.until(lambda: all(row.hourly_complete_until == row.complete_until for row in world.store.final("progress")))
    world.produce(B, 5)
    counted(process)
    assert len(set(map(str, by_hour(world)))) == 2
    process.stop()
    assert len(set(map(str, by_hour(world)))) == 1


@pytest.mark.parametrize("deleted", ["nothing", "what is in hourly", "what is counted", "the chunk", "more chunks"])
@pytest.mark.parametrize("table", ["", "counts", "hourly", "totals", "progress"])
def test_hourly_that_is_behind_is_made_good_by_the_next_owner(world: SimWorld, deleted: str, table: str) -> None:
    """Killed before it was written, perhaps in a flush that was torn; whatever retention has taken since."""
    process = world.process()
    counted(process)
    world.produce(A, 5)
    counted(process)
    assert len(set(map(str, by_hour(world)))) == 2
    if table:
        world.store.faults.append(Planned(table, "torn"))
        world.clock.sleep(31)
        world.produce(A, 5)
        process.until(lambda: not world.store.faults)
    world.group.expel(process.member)
    lows = {"nothing": 0, "what is in hourly": 10, "what is counted": 15, "the chunk": CHUNK_LENGTH}
    low = lows.get(deleted, 3 * CHUNK_LENGTH)
    world.kafka.log(A).end = max(world.kafka.log(A).end, low)
    world.kafka.retain(A, low)
    world.produce(A, 5)
    process = world.process()
    process.until(world.all_is_counted)
    process.stop()
    counts, hourly = by_hour(world)
    assert counts == hourly
    if low <= 15:
        assert world.store.counts() == world.expected()


# Outages


@pytest.mark.parametrize("table", ["chunk_days", "counts", "hourly", "totals", "progress"])
@pytest.mark.parametrize("fault", ["refused", "torn", "lost answer"])
def test_an_insert_that_fails_is_made_good_by_the_next_checkpoint(world: SimWorld, table: str, fault: Fault) -> None:
    """Whatever part of a flush arrived."""
    world.store.faults.append(Planned(table, fault))
    process = world.process()
    counted(process)
    assert not world.store.faults
    expected = world.expected()
    assert world.store.counts() == expected
    accepted = sum(quantity for (_, _, outcome), quantity in expected.items() if outcome == 0)
    for width in (10, 3600):
        assert sum(row.accepted for row in world.store.final("totals") if row.width == width) == accepted
    assert sum(row.quantity for row in world.store.final("hourly")) == sum(expected.values())


def test_what_was_just_opened_is_read_before_the_first_checkpoint(world: SimWorld) -> None:
    """Else each rebalance would cost a flush that stores nothing, and new counts a flush interval more."""
    process = world.process()
    process.executor.hold = True
    process.until(lambda: process.executor.begun)
    process.executor.run()
    assert world.store.progress() == {A: 10, B: 10}


def test_while_the_store_is_away_nothing_is_read_and_the_tries_become_rarer(world: SimWorld) -> None:
    """Reading pauses at the first failure, and goes on once a checkpoint is stored."""
    process = world.process()
    counted(process)
    tried: list[float] = []
    world.store.away = True
    process.executor.hold = True
    world.produce(A, 5)
    begin = world.clock.monotonic()
    while world.clock.monotonic() < begin + 120:
        process.turn()
        if process.executor.begun:
            tried.append(world.clock.monotonic())
            process.executor.run()
    waited = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert waited == sorted(waited)
    assert waited[0] < 1 < 25 < waited[-1] < 31
    assert not process.member.positions
    world.produce(B, 5)
    process.turn(3)
    assert not process.member.positions
    world.store.away, process.executor.hold = False, False
    counted(process)
    assert process.member.positions == {A: 15, B: 15}


def test_kafka_away_at_a_checkpoint_stores_nothing_until_it_is_back(world: SimWorld) -> None:
    """Whether the topics are the same could not be asked."""
    process = world.process()
    counted(process)
    world.kafka.away = Unavailable("Kafka: no answer")
    world.produce(A, 5)
    process.turn(50)
    assert world.store.progress()[A] == 10
    world.kafka.away = None
    counted(process)


def test_a_store_that_went_back_is_counted_again(world: SimWorld) -> None:
    """Restored from a backup under the running consumer."""
    process = world.process()
    counted(process)
    backup = {table: list(rows) for table, rows in world.store.rows.items()}
    world.produce(A, 5)
    counted(process)
    world.store.rows = backup
    world.produce(A, 5)
    counted(process)


def test_a_store_that_went_back_before_the_first_checkpoint_is_counted_again() -> None:
    """What a partition went on from when it was opened has to be there still, or whole chunks would be missing."""
    world = SimWorld(partitions=1)
    world.produce(A, 3)
    process = world.process()
    counted(process)
    backup = {table: list(rows) for table, rows in world.store.rows.items()}
    world.produce(A, 10, apart=60 * K)
    counted(process)
    process.stop()
    process = world.process()
    process.executor.hold = True
    process.until(lambda: bool(process.loop.assigned_tps()))
    world.store.rows = backup
    process.executor.hold = False
    world.produce(A, 3)
    counted(process)


def test_a_store_that_lost_the_registration_of_a_source_gets_it_again(world: SimWorld) -> None:
    """Restored from a copy that is older than the source, before anything of it was stored."""
    process = world.process()
    process.executor.hold = True
    process.until(lambda: bool(process.loop.assigned_tps()))
    world.store.rows["sources"].clear()
    process.executor.hold = False
    process.executor.run()
    counted(process)


def test_a_store_that_went_back_while_stopping_is_69(world: SimWorld) -> None:
    """What was counted is not stored, which whoever stopped it has to know."""
    process = world.process()
    counted(process)
    backup = {table: list(rows) for table, rows in world.store.rows.items()}
    world.produce(A, 5)
    counted(process)
    world.store.rows = backup
    world.produce(A, 5)
    process.turn()
    with pytest.raises(Unavailable, match="stopped before all that was counted was stored"):
        process.stop()
    counted(world.process())


# Positions, topics


@pytest.mark.parametrize("incremental", [False, True])
def test_a_lost_position_is_looked_at_anew_after_storing_what_is_counted(incremental: bool) -> None:
    """Retention took what comes next: the offsets are listed, and counting goes on behind them."""
    world = SimWorld(incremental=incremental)
    world.produce(A)
    world.produce(B)
    process = world.process()
    counted(process)
    world.produce(A, 10)
    world.kafka.retain(A, 15)
    process.until(lambda: world.store.progress()[A] == 20)
    assert [(row.from_offset, row.to_offset) for row in world.store.final("gaps")] == [(10, 15)]
    world.produce(B, 5)
    process.until(world.all_is_counted)


def test_a_lost_position_stops_no_other_partition(world: SimWorld) -> None:
    """While what is counted of the one cannot be stored, the other is read on."""
    process = world.process()
    counted(process)
    process.executor.hold = True
    world.produce(A, 5)
    process.until(lambda: process.executor.begun)
    world.kafka.retain(A, 20)
    world.kafka.log(A).end = 30
    world.produce(B, 5)
    process.until(lambda: process.member.positions == {B: 15})
    process.executor.hold = False
    process.executor.run()
    process.until(lambda: world.store.progress() == {A: 30, B: 15})


@pytest.mark.parametrize("incremental", [False, True])
def test_a_log_that_was_cut_back_is_counted_as_it_is_now(incremental: bool) -> None:
    """What vanished is taken back, what came instead is counted, and another partition with it."""
    world = SimWorld(incremental=incremental)
    world.produce(A)
    process = world.process()
    counted(process)
    world.kafka.cut_back(A, 6)
    process.until(lambda: world.store.progress()[A] == 6)
    world.produce(A, 3)
    world.produce(B, 3)
    counted(process)


@pytest.mark.parametrize("incremental", [False, True])
def test_a_log_that_was_cut_back_and_has_grown_is_noticed_when_it_is_read_again(incremental: bool) -> None:
    """Records of a later epoch than was counted; what was read of the other partition in the same batch is counted."""
    world = SimWorld(incremental=incremental)
    world.produce(A)
    world.produce(B)
    process = world.process()
    counted(process)
    process.stop()
    world.kafka.cut_back(A, 6)
    world.produce(A, 10)
    world.produce(B, 5)
    counted(world.process())


def test_a_log_that_ends_below_what_was_read_is_noticed_at_a_checkpoint(
    world: SimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody who reads is told of it, as without leader epochs, the next look at the ends does."""
    process = world.process()
    counted(process)
    with monkeypatch.context() as patch:
        patch.setattr(SimConsumer, "_fetch", lambda *_: None)
        world.kafka.cut_back(A, 6)
        process.until(lambda: world.store.progress()[A] == 6)
    world.produce(A, 3)
    counted(process)


def test_a_compacted_topic_is_refused_by_a_named_id_too(world: SimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask for a topic's settings no UUID is needed."""
    monkeypatch.setattr(SimTopics, "cleanup_policy", lambda *_: "compact,delete")
    process = world.process(topic_id="mine")
    with pytest.raises(Refused, match="is compacted"):
        process.until(world.all_is_counted)


def test_a_log_that_was_cut_back_by_many_chunks_and_has_grown_is_counted_as_it_is_now() -> None:
    """However far back the cut is: chunks are compared until one agrees."""
    world = SimWorld(partitions=1)
    world.produce(A, 10, apart=60 * K)
    process = world.process()
    counted(process)
    process.stop()
    world.kafka.cut_back(A, 70 * K)
    world.produce(A, 12, apart=60 * K)
    counted(world.process())


def test_a_partition_that_comes_while_others_drain_is_read(world: SimWorld) -> None:
    """Its position was lost while a new partition is being assigned: all of them are read in the end."""
    world = SimWorld(incremental=True, partitions=2)
    world.produce(A)
    process = world.process()
    counted(process)
    process.executor.hold = True
    world.produce(A, 10)
    process.turn(2)
    world.kafka.retain(A, 20)
    world.kafka.log(A).end = 30
    log = world.kafka.topics["events"][1]
    log.append(type(log[0])())
    world.group.rebalance()
    world.produce(("events", 2), 5)
    process.turn(5)
    process.executor.hold = False
    process.executor.run()
    process.until(lambda: world.store.progress().get(("events", 2)) == 5)
    process.until(lambda: process.member.positions.keys() == {A, B, ("events", 2)})


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made-again"])
@pytest.mark.parametrize("incremental", [False, True])
def test_of_two_topics_one_goes_and_the_other_is_counted_on(again: bool, incremental: bool) -> None:
    """The loop tells so at its end, which is 78."""
    world = SimWorld("events", "other", partitions=1, incremental=incremental)
    world.produce(A)
    world.produce(OTHER)
    process = world.process()
    counted(process)
    counted_before = world.expected("other")
    world.kafka.delete("other")
    if again:
        world.kafka.create("other", 1)
        world.produce(OTHER)
    process.turn(80)
    world.produce(A, 5)
    process.until(lambda: world.store.progress().get(A) == 15)
    assert world.store.counts() == world.expected("events") + counted_before
    with pytest.raises(Refused, match="other"):
        process.stop()


def test_what_is_read_on_after_a_topic_has_gone_stays_paused() -> None:
    """Reading begins anew with the topics that are left, but not before a checkpoint is stored."""
    world = SimWorld("events", "other", partitions=1)
    world.produce(A)
    world.produce(OTHER)
    process = world.process()
    counted(process)
    process.executor.hold = True
    world.kafka.away = Unavailable("Kafka: no answer")
    world.produce(A, 5)
    world.produce(OTHER, 5)
    process.until(lambda: process.executor.begun)
    process.executor.run()
    process.until(lambda: not process.member.positions)
    world.kafka.away = None
    world.kafka.delete("other")
    process.until(lambda: process.executor.begun)
    process.executor.run()
    process.turn()
    assert not process.member.positions
    process.executor.hold = False
    process.executor.run()
    process.until(lambda: process.member.positions == {A: 15} and world.store.progress()[A] == 15)


def test_the_only_topic_gone_ends_the_loop(world: SimWorld) -> None:
    """There is nothing that could be counted on."""
    process = world.process()
    counted(process)
    world.kafka.delete("events")
    world.kafka.create("events", 2)
    with pytest.raises(Refused, match="made again"):
        process.run(60)


def test_a_topic_that_goes_while_others_drain_stops_no_reading() -> None:
    """Of two topics one is deleted just when the other one's position is lost."""
    world = SimWorld("events", "other", partitions=1)
    world.produce(A)
    world.produce(OTHER)
    process = world.process()
    counted(process)
    process.executor.hold = True
    world.produce(A, 10)
    process.until(lambda: process.executor.begun)
    world.kafka.retain(A, 20)
    world.kafka.log(A).end = 30
    process.turn(2)
    world.kafka.delete("other")
    process.executor.hold = False
    process.executor.run()
    process.until(lambda: world.store.progress()[A] == 30)
    world.kafka.log(A).records.clear()
    world.produce(A, 5)
    process.until(lambda: world.store.progress()[A] == 35)


# Rules, dead letters, names


def test_a_batch_read_with_stale_rules_is_read_again(world: SimWorld) -> None:
    """The process was stopped for a while: nothing is classified by a copy of the rules that is too old."""
    process = world.process()
    counted(process)
    world.produce(A, 5)
    world.store.away = True
    world.clock.sleep(60)
    process.turn(3)
    assert process.loop.positions()[A].next_offset == 10
    world.store.away = False
    counted(process)


def test_a_new_edition_of_the_rules_counts_the_open_chunks_again(world: SimWorld) -> None:
    """With the same answer the same cells come out, in the next revision."""
    process = world.process()
    counted(process)
    world.store.rules = RuleHistory((), ("0", "1-voided"))
    process.until(lambda: {row.revision for row in world.store.final("repairs")} == {1})
    counted(process)


def test_a_halted_partition_stands_and_the_others_are_counted(world: SimWorld) -> None:
    """So many records in a row could not be decoded; what came before is stored, and the end is 78."""
    process = world.process(dead_letter_run=3)
    counted(process)
    world.kafka.produce(A, b"{", b"{", b"{")
    process.until(lambda: world.store.progress() == {A: 13, B: 10})
    world.produce(A, 5)
    world.produce(B, 5)
    process.until(lambda: world.store.progress() == {A: 13, B: 15})
    process.turn(30)
    assert world.store.progress() == {A: 13, B: 15}
    assert len(list(world.store.final("dead_letters"))) == 3
    with pytest.raises(Refused, match="could not be decoded"):
        process.stop()


def test_a_member_that_is_fenced_joins_again(world: SimWorld) -> None:
    """A broker that restarted may have forgotten it; fenced again and again, it has a namesake, and ends."""
    process = world.process()
    for members in range(2, MOST_FENCED + 2):
        world.produce(A, 5)
        counted(process)
        process.member.fenced = FENCED
        process.turn()
        assert len(process.members) == members
    world.produce(A, 5)
    counted(process)
    process.member.fenced = FENCED
    with pytest.raises(Fenced):
        process.run(60)


def test_fenced_again_much_later_it_joins_again(world: SimWorld) -> None:
    """Restarts of a broker are no namesake, however many."""
    process = world.process()
    for members in range(2, MOST_FENCED + 4):
        counted(process)
        process.member.fenced = FENCED
        process.turn()
        assert len(process.members) == members
        world.clock.sleep(120)
        world.produce(A, 5)
    counted(process)


@pytest.mark.parametrize(("seconds", "ends"), [(45, False), (300, True)])
def test_a_name_that_is_not_released_is_waited_for(world: SimWorld, seconds: float, ends: bool) -> None:
    """A member that was killed keeps it for a session; for longer there is a namesake."""
    process = world.process()
    counted(process)
    free = world.clock.monotonic() + seconds

    def wait_until_free() -> None:
        while world.clock.monotonic() < free:
            process.member.fenced = Unreleased("taken")
            process.turn()

    if ends:
        with pytest.raises(Unreleased):
            wait_until_free()
    else:
        wait_until_free()
        world.produce(A, 5)
        counted(process)


def test_a_spare_member_waits_and_takes_over(world: SimWorld) -> None:
    """More members than partitions: one has nothing, until another one leaves."""
    processes = [world.process() for _ in range(3)]

    def turns(many: int) -> None:
        for _ in range(many):
            for process in processes:
                process.turn()

    turns(20)
    assert sorted(len(process.loop.assigned_tps()) for process in processes) == [0, 1, 1]
    processes.pop(0).stop()
    world.produce(A, 5)
    world.produce(B, 5)
    turns(40)
    assert world.all_is_counted()
    assert world.store.counts() == world.expected()
