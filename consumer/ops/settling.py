"""Finds out what became of dead letters that were being sent when a redrive was interrupted."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import Message

from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.kafka.properties import READ_COMMITTED
from orgstats.consumer.kafka.reader import LogReader
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.ops.dead_letters import Destination, UncertainLetter
from orgstats.consumer.ops.targets import source_ids
from orgstats.consumer.ops.transforms import origin_of
from orgstats.errors import Unavailable

OPEN_SECONDS: Final = 60.0
"""How long another producer's open transaction may hide the end of the target."""

Origin = tuple[int, int]
"""(source_id, offset)."""


class Settled:
    """Letters by what the log tells: sent (and where to), surely not sent, or unknown since the log lost the place."""

    def __init__(self) -> None:
        self.sent: list[tuple[UncertainLetter, Destination]] = []
        self.absent: list[UncertainLetter] = []
        self.unknown: list[UncertainLetter] = []


def look(connections: Connections, letters: Sequence[UncertainLetter]) -> Settled:
    """Look for each letter's record in its target, from the end on that the partition had before it was sent.

    To be asked by who has ended the transactions of these letters' earlier redrives, or some may still be open.
    """
    settled = Settled()
    for target in sorted({one.target for one in letters}):
        partitions = {source_id: at for at, source_id in enumerate(source_ids(connections, target))}
        there = [one for one in letters if one.target == target]
        settled.unknown += [one for one in there if one.target_source_id not in partitions]
        for source_id, partition in partitions.items():
            of_partition = [one for one in there if one.target_source_id == source_id]
            if of_partition:
                _look_in(connections, (target, partition), of_partition, settled)
    return settled


def _look_in(
    connections: Connections, tp: TopicPartition, letters: Sequence[UncertainLetter], settled: Settled
) -> None:
    end = _visible_end(connections, tp)
    low = connections.topics.starts([tp])[tp]
    firsts = {(one.source_id, one.offset): one.target_ends[tp[1]] for one in letters}
    found = _origins(connections, tp, max(low, min(firsts.values())), end)
    for one in letters:
        first = firsts[one.source_id, one.offset]
        if (one.source_id, one.offset) in found:
            to = Destination(one.target, one.target_ends, one.target_source_id, found[one.source_id, one.offset])
            settled.sent.append((one, to))
        elif low <= first <= end:
            settled.absent.append(one)
        else:  # retention passed the place, or the log was cut back
            settled.unknown.append(one)


def _origins(connections: Connections, tp: TopicPartition, first: int, end: int) -> Mapping[Origin, int]:
    """The offset of each redriven record in [first, end), by where it came from."""
    found: dict[Origin, int] = {}
    if first >= end:
        return found
    with LogReader(connections.settings.kafka_properties(), READ_COMMITTED) as reader:
        for run, _ in reader.read(tp, first, end):
            for message in run:
                origin = origin_of(_pairs(message))
                if origin is not None:
                    found[origin] = message.offset() or 0
    return found


def _pairs(message: Message) -> list[tuple[str, bytes]]:
    return [(name, bytes(value or b"")) for name, value in message.headers() or ()]  # type: ignore[arg-type, str-unpack]


def _visible_end(connections: Connections, tp: TopicPartition) -> int:
    """The end of the log now, once no open transaction hides a part of what is before it."""
    wanted = connections.topics.ends([tp], "read_uncommitted")[tp]
    deadline = time.monotonic() + OPEN_SECONDS
    while connections.topics.ends([tp], READ_COMMITTED)[tp] < wanted:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"an open transaction of another producer hides the end of {tp[0]}/{tp[1]}: try again later"
            )
        time.sleep(0.5)
    return wanted
