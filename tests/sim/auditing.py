"""What the product's own audit says of a quiet world: of each chunk, roll-ups and conservation. It has to agree."""

from orgstats.consumer.counting.resume import LOG_CUT_BACK
from orgstats.consumer.counting.source import Source
from orgstats.consumer.ops.audit_rules import ChunkExtent, conservation, roll_ups
from tests.sim.oracle import Violation, sources
from tests.sim.store import SimStore
from tests.sim.world import SimWorld

AUDIT = "the audit agrees"


def agree(world: SimWorld, isolation: str, limits: dict[int, str]) -> None:
    """Raises Violation where it finds a difference that is none."""
    store = SimStore(world.store)
    rows = {row.source_id: row for row in world.store.final("sources")}
    grids = store.grids(list(rows))
    present = {uuid for uuid, _ in world.kafka.topics.values()}  # of one that is gone a torn flush stays as it is
    for one in sources(world.store, world.kafka):
        if (
            rows[one.source_id].topic_id not in present
            or one.source_id in limits
            or one.log.unresolved
            or world.store.expired_before
        ):
            continue
        gaps = tuple((first, end) for first, end, why in one.gaps if why != LOG_CUT_BACK)
        source = Source(rows[one.source_id].topic, rows[one.source_id].topic_id, rows[one.source_id].partition)
        for chunk in {row.chunk for row in world.store.winners("chunk_days").get(one.source_id, {}).values()}:
            whole_end = grids[one.source_id].chunk_end(chunk)
            end = min(whole_end, one.next_offset)
            if end <= max(chunk, one.first_offset):
                continue  # it was cut off, and is all zeros
            extent = ChunkExtent(max(chunk, one.first_offset), end, one.log.low, gaps, 0, one.hourly_offset)
            held = store.chunk(source, chunk, whole_end)
            found = list(roll_ups(extent, held))
            if not one.log.compacted:
                records = [r.at for r in one.log.within(extent.readable, end, isolation)]
                sure = sum(not extent.in_gap(at) for at in records)
                accounted = sum(
                    row.events
                    for row in world.store.winners("counts").get(one.source_id, {}).values()
                    if row.chunk == chunk
                ) + sum(not letter.withdrawn for letter in held.dead.values())
                found += conservation(extent, accounted, sure, len(records))
            if found:
                raise Violation(AUDIT, f"{one.name} chunk {chunk}: {found[:3]}")
