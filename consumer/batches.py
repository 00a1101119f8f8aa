"""From a batch that was read to counts: each run goes to its partition, and what that shows becomes an event of it."""

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from orgstats.consumer import metrics
from orgstats.consumer.counting.batch import Record
from orgstats.consumer.counting.partition import ChunkNotKnown, LogChanged, Partition
from orgstats.consumer.kafka.group import ReadBatch, TopicPartition
from orgstats.consumer.partitions import Partitions
from orgstats.failpoints import failpoint

logger = structlog.get_logger("orgstats.consumer")


class ReadNext(NamedTuple):
    """What a batch changes about what is read: partitions that halted, and those to be looked at anew.

    `at_ends` once the last of the partitions that were opened has come to the end of its log.
    """

    halted: list[TopicPartition]
    anew: list[TopicPartition]
    at_ends: bool = False


def count_batch(batch: ReadBatch, partitions: Partitions) -> ReadNext:
    """Count a batch; what is not to be read now is passed over, it will be read again."""
    after = ReadNext([], [])
    for tp, run in batch.runs:
        if partition := partitions.read(tp):
            _count_run(tp, partition, run, partitions, after)
    if batch.runs:
        failpoint("after_decode")
    for tp, next_offset in batch.ends:
        if partition := partitions.read(tp):
            try:
                partition.advance(next_offset)
            except LogChanged as error:
                _log_changed(tp, error, partitions, after)
            except ChunkNotKnown as error:
                _not_known(tp, error, partitions, after)
            else:
                partitions.see_caught_up(tp)
    if lost := partitions.lost_position(batch.lost_position):
        logger.warning("the log no longer has the next record: storing what is counted, then looking anew", tps=lost)
        after.anew.extend(lost)
    return after._replace(at_ends=partitions.see_ends(tp for tp, _ in batch.ends))


def _count_run(
    tp: TopicPartition, partition: Partition, run: Sequence[Record], partitions: Partitions, after: ReadNext
) -> None:
    chunk, moved = partition.chunk, partition.out_of_bounds
    try:
        partition.count(run)
    except LogChanged as error:
        _log_changed(tp, error, partitions, after)
        return
    except ChunkNotKnown as error:
        _not_known(tp, error, partitions, after)
        return
    metrics.records.labels(tp[0]).inc(len(run))
    metrics.out_of_bounds.labels(tp[0]).inc(partition.out_of_bounds - moved)
    if partition.chunk is not chunk:
        failpoint("at_chunk_boundary")
    partitions.see_caught_up(tp)
    if why := partitions.see_limit(tp):
        logger.error("halted", why=why)
        metrics.halted.labels(*tp).set(1)
        after.halted.append(tp)


def _not_known(tp: TopicPartition, error: ChunkNotKnown, partitions: Partitions, after: ReadNext) -> None:
    logger.warning("waiting for the next chunk", topic=tp[0], partition=tp[1], error=str(error))
    partitions.chunk_not_known(tp)
    after.anew.append(tp)


def _log_changed(tp: TopicPartition, error: LogChanged, partitions: Partitions, after: ReadNext) -> None:
    logger.warning("the log has changed", topic=tp[0], partition=tp[1], error=str(error))
    partitions.log_changed(tp, error.chunk)
    after.anew.append(tp)
