"""Consumers are upgraded one after another under load: those of two fingerprints count side by side."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.source import Source
from tests.faults.ledger import differences
from tests.faults.plan import RECORDS_PER_SECOND
from tests.faults.round import Member, Round, Unequal
from tests.ops.conftest import orgstats_runner
from tests.support import oracle, stored
from tests.support.oracle import CHUNK
from tests.support.wait import wait_for

AGES: Final = (10, 30)
"""Age limits of the two fingerprints, in seconds; the traffic has events of 20 s ago."""
AGE: Final = "ORGSTATS_MAX_EVENT_AGE_SECONDS"
SESSION: Final = {
    "ORGSTATS_KAFKA__SESSION_TIMEOUT_MS": "20000",
    "ORGSTATS_KAFKA__HEARTBEAT_INTERVAL_MS": "1000",
    "ORGSTATS_REVOKE_SECONDS": "60",
}
"""Long enough that nobody becomes a zombie on a busy machine: of that an upgrade does not promise anything."""
MEMBERS: Final = ("a", "b", "c")
WAIT_SECONDS: Final = 180.0
Chunk = tuple[int, int]
"""(partition, number of the chunk)."""


def upgrade(one: Round, seconds: float) -> None:
    """There and back again, in order or by SIGKILL: a closed chunk is wholly of one fingerprint, open ones of the last.

    Every cell of each chunk is compared after each time that all were upgraded. In the end a repair counts all of it by
    the last one.
    """
    one.env[AGE] = str(AGES[0])
    one.traffic.start(RECORDS_PER_SECOND)
    running = [one.start(name, static=one.chance.random() < 0.5) for name in MEMBERS]
    for member in running:
        _count_on(one, member)
    until, turns = time.monotonic() + seconds, 0
    closed: dict[Chunk, list[oracle.Truth]] = {}
    while time.monotonic() < until or turns < len(AGES):
        turns += 1
        one.env[AGE] = str(AGES[turns % len(AGES)])
        for at, name in enumerate(MEMBERS):
            (one.kill if one.chance.random() < 0.3 else one.stop)(running[at])
            running[at] = one.start(name, static=one.chance.random() < 0.5)
            _count_on(one, running[at])
            one.done["members upgraded"] += 1
        one.traffic.stop()
        one.drain(WAIT_SECONDS)
        _compare_by_chunk(one, closed)
        one.traffic.start(RECORDS_PER_SECOND)
    one.traffic.stop()
    one.drain(WAIT_SECONDS)
    one.stop_all()
    run = orgstats_runner(one.site.bootstrap_servers, one.topic, f"group-{one.topic}", one.url)
    repaired = run("replay", "apply", "--repair", **{AGE: one.env[AGE]})
    if repaired.returncode:
        raise Unequal(f"replay apply --repair ended with {repaired.returncode}:\n{repaired.stdout}{repaired.stderr}")
    one.compare()


def _count_on(one: Round, new: Member) -> None:
    """Until the new member has partitions, and what was there then is counted by old and new together."""

    def joined() -> bool:
        one.tend(str)
        return new.has_joined()

    wait_for(joined, WAIT_SECONDS, poll_seconds=0.1)
    target = sum(one.progress().values()) + RECORDS_PER_SECOND
    wait_for(lambda: sum(one.progress().values()) > target, WAIT_SECONDS, poll_seconds=0.1)
    one.tend(str)


def _compare_by_chunk(one: Round, closed: dict[Chunk, list[oracle.Truth]]) -> None:
    """`closed` are the truths of chunks that were closed when this was last asked: their records are as they were."""
    found, ends = _stored_by_chunk(one), one.ends()
    chosen, by_age = [], Counter[int]()
    for chunk, truths in _truths(one, closed).items():
        is_open = chunk[1] == ends[chunk[0]] // CHUNK
        if not is_open:
            closed[chunk] = truths
        possible = [truths[AGES.index(one.max_age_seconds)]] if is_open else truths
        equal = [truth for truth in possible if truth.counts() == found.get(chunk, {})]
        if not equal:
            wrong = stored.differing(found.get(chunk, {}), possible[-1].counts())
            raise Unequal(f"database {one.database}: chunk {chunk} is of no fingerprint: {wrong}"[:20_000])
        if not is_open and len(equal) == 1:
            by_age[AGES[truths.index(equal[0])]] += 1
        chosen.append(equal[0])
        one.done["cells compared"] += len(equal[0].events)
        one.done["records compared"] += sum(equal[0].events.values()) + len(equal[0].dead_letters)
    if wrong := differences(one.url, chosen):
        raise Unequal(f"database {one.database}: {wrong}"[:20_000])
    one.done["comparisons"] += 1
    for age, chunks in by_age.items():
        one.done[f"closed chunks of an age limit of {age} s"] = chunks


def _truths(one: Round, closed: dict[Chunk, list[oracle.Truth]]) -> dict[Chunk, list[oracle.Truth]]:
    """Of each chunk that has records, what each fingerprint gives."""
    one.ledgers[-1].catch_up()
    records: defaultdict[Chunk, list[oracle.Record]] = defaultdict(list)
    for record in one.ledgers[-1].records:
        if (chunk := (record.partition, record.offset // CHUNK)) not in closed:
            records[chunk].append(record)
    counted = {chunk: [oracle.count(some, max_age_seconds=age) for age in AGES] for chunk, some in records.items()}
    return {**closed, **counted}


def _stored_by_chunk(one: Round) -> dict[Chunk, dict[oracle.Cell, tuple[int, int]]]:
    sources = {Source(one.topic, one.uuid, p).source_id: p for p in range(one.partitions)}
    with connect(one.url, client_name="tests") as client:
        rows: Iterable[Any] = client.execute(
            "SELECT source_id, chunk, org_id, toUnixTimestamp(bucket), project_id, key_id, category, outcome,"
            " toString(reason), quantity, events FROM counts FINAL WHERE events > 0"
        )
    found: defaultdict[Chunk, dict[oracle.Cell, tuple[int, int]]] = defaultdict(dict)
    for source, chunk, *cell, quantity, events in rows:
        found[sources[source], chunk // CHUNK][oracle.Cell(*cell)] = quantity, events
    return found
