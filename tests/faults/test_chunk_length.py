"""Another chunk length for a partition that real consumers count under load, while they are killed and cut off."""

import signal

import pytest

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.source import Source
from tests.faults.round import Round
from tests.ops.conftest import orgstats_runner
from tests.support.oracle import CHUNK
from tests.support.wait import wait_for

LONGER = 2 * CHUNK


def chunks(one: Round, partition: int) -> set[int]:
    """First offsets of the chunks of which anything is stored."""
    source = Source(one.topic, one.uuid, partition).source_id
    client = connect(one.url, client_name="tests")
    try:
        return {chunk for (chunk,) in client.execute(f"SELECT DISTINCT chunk FROM counts WHERE source_id = {source}")}
    finally:
        client.disconnect()


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_the_chunk_length_changes_under_load_and_no_count_does(one: Round) -> None:
    """Members are killed at ends of chunks and between inserts, one sleeps across the change; all cells compared."""
    orgstats = orgstats_runner(one.site.bootstrap_servers, one.topic, f"group-{one.topic}", one.url)
    one.traffic.produce(2_000)
    for name in ("a", "b", "c"):
        one.start(name)
    wait_for(lambda: len(one.progress()) == one.partitions, 60, poll_seconds=0.1)
    wanted = ("chunk-length", "set", str(LONGER), "--partitions", "0")
    planned = orgstats(*wanted).stdout
    assert f"chunks of {LONGER:,} instead of {CHUNK:,}" in planned
    done = orgstats(*wanted, "--execute").stdout
    assert "is decided" in done
    at = int(done.partition("from offset ")[2].partition(" on")[0].replace(",", ""))
    assert orgstats("chunk-length", "ls", "--partitions", "0").stdout.count("decided") == 1
    failpoints = iter(("at_chunk_boundary", "after_insert", "answer_lost", *[""] * 1_000))
    sleeper = one.members[2]
    while (end := one.ends()[0]) < at + 3 * LONGER:
        one.traffic.produce(2_000)
        one.traffic.transaction(CHUNK * 3 // 2, 0, keep=False)
        if end > at - 4 * LONGER and not one.zombies and not one.done["zombie"]:
            one._signal(sleeper, signal.SIGSTOP)
            one.zombies.append((float("inf"), sleeper))
        elif awake := [m for m in one.members if m is not sleeper and m.daemon.child.running]:
            one.kill(awake[0])
            one.start(f"k{len(one.done)}-{end}", next(failpoints))
        one.tend(lambda: next(failpoints))
    one._signal(sleeper, signal.SIGCONT)
    one.drain()
    one.compare()
    found = chunks(one, 0)
    assert all(chunk % LONGER == 0 for chunk in found if chunk >= at)
    assert any(chunk >= at for chunk in found)
    assert any(chunk % LONGER for chunk in found)
    assert one.done["killed"] > 3
