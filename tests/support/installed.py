"""Counts a topic with the orgstats that is installed, which need not be this tree's; prints JSON: how, and the cells.

`python -P tests/support/installed.py BOOTSTRAP_SERVERS TOPIC PARTITIONS`
"""

import json
import sys
from collections import Counter

from orgstats.consumer.counting import batch
from orgstats.consumer.counting.cells import COUNTS
from orgstats.consumer.counting.chunk import Chunk
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.kafka import reading
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer, TopicPartition


def main(bootstrap_servers: str, topic: str, partitions: int) -> None:
    """Read each partition from its start to its end."""
    assigned: set[TopicPartition] = set()
    callbacks = Callbacks(assigned.update, assigned.difference_update, assigned.difference_update, print)
    log = GroupConsumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "installed"}, [topic], callbacks, batches=True
    )
    while len(assigned) < partitions:
        log.read(1, 0.1)
    counter = batch.BatchCounter(AgeLimits(), RuleHistory(()))
    chunks, pending = {tp: Chunk(0) for tp in assigned}, {tp: counter.pending() for tp in assigned}
    log.start(dict.fromkeys(assigned, 0))
    ended: set[TopicPartition] = set()
    while ended != assigned:
        read = log.read(1_000, 0.1)
        for tp, run in read.runs:
            counter.count(run, pending[tp])
            counter.fold_into(chunks[tp], pending[tp])
        ended.update(tp for tp, _ in read.ends)
    log.close()
    cells: Counter[tuple[object, ...]] = Counter()
    for chunk in chunks.values():
        for key, (quantity, events) in chunk.take().rows[COUNTS]:
            cells[(*key, "quantity")] += quantity
            cells[(*key, "events")] += events
    told = {
        "file": batch.__file__,
        "compiled": [batch.COMPILED, any(chunk.takes_kinds for chunk in chunks.values()), reading.COMPILED],
        "why_not_batches": reading.why_not_batches(),
        "cells": list(cells.items()),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
