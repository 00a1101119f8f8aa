"""Completeness on a real broker: never later than the first record that was acknowledged and not counted."""

import time
from collections.abc import Callable

from confluent_kafka import Producer

from orgstats.clickhouse.connect import connect
from orgstats.consumer.ops.connections import open_connections
from orgstats.consumer.ops.lag import Lag, lag
from orgstats.consumer.settings import ConsumerSettings
from tests.faults.round import Round
from tests.support.wait import wait_for

RECORD = b'{"timestamp": 1700000000, "org_id": 1, "outcome": 0}'


def told(one: Round) -> tuple[int, float, float]:
    """Partition 0: position, complete until and when that was written, epoch seconds; zeroes before there is any."""
    client = connect(one.url, client_name="tests")
    try:
        rows = client.execute(
            "SELECT next_offset, toUnixTimestamp64Milli(complete_until) / 1000,"
            " toUnixTimestamp64Milli(written_at) / 1000"
            " FROM sources INNER JOIN (SELECT * FROM progress FINAL) AS p USING (source_id) WHERE partition = 0"
        )
    finally:
        client.disconnect()
    return rows[0] if rows else (0, 0.0, 0.0)


def behind(one: Round) -> Lag:
    """What `orgstats lag` says of partition 0."""
    site = open_connections(
        ConsumerSettings(
            bootstrap_servers=one.site.bootstrap_servers,
            topic=(one.topic,),
            group=f"group-{one.topic}",
            clickhouse_url=one.url,
        )
    )
    try:
        return lag(site, [0])[0]
    finally:
        site.store.close()


def test_an_open_transaction_holds_completeness_back(one: Round) -> None:
    """What lies behind its first record is acknowledged and cannot be counted; `lag` shows how much that is."""
    one.traffic._partitions = 1
    one.traffic.produce(100)
    one.drain()
    hanging = one.traffic._transactional
    hanging.begin_transaction()
    before = time.time()
    hanging.produce(one.topic, RECORD, partition=0)
    hanging.flush(30)
    one.traffic.produce(500)
    produced = time.time()
    wait_for(lambda: told(one)[2] > produced, 30, poll_seconds=0.1)
    position, complete_until, _ = told(one)
    assert position == 100
    # The first look at the ends may come between the two: then it is later by no more than the record was on its way.
    assert complete_until <= produced
    hidden = behind(one)
    assert (hidden.behind, hidden.open_transaction) == (501, 501)
    wait_for(lambda: told(one)[2] > produced + 2, 30, poll_seconds=0.1)
    assert told(one)[1] <= produced
    hanging.commit_transaction(30)
    wait_for(lambda: told(one)[1] > produced, 30, poll_seconds=0.1)
    assert before < told(one)[1] <= time.time()
    assert behind(one).open_transaction == 0
    one.drain()
    one.compare()


def test_records_from_the_future_claim_nothing(new_round: Callable[..., Round]) -> None:
    """Killed after the first flush of a backlog that was stamped almost an hour ahead, nothing is complete yet."""
    one = new_round(ORGSTATS_BATCH_SIZE="100", ORGSTATS_FAILPOINTS="after_insert=kill@1")
    ahead = round((time.time() + 3_000) * 1000)
    producer = Producer({"bootstrap.servers": one.site.bootstrap_servers})
    for _ in range(20_000):
        producer.produce(one.topic, RECORD, partition=0, timestamp=ahead)
    assert producer.flush(30) == 0
    position = 0
    for _ in range(5):  # the first flush may tell of a partition of which nothing was read yet
        member = one.start("a")
        member.daemon.child.popen.wait(150)
        one.members.remove(member)
        position, complete_until, _ = told(one)
        assert complete_until == 0
        if position:
            break
    assert 0 < position < 20_000
    del one.env["ORGSTATS_FAILPOINTS"]
    one.drain()
    wait_for(lambda: told(one)[1] > 0, 30, poll_seconds=0.1)
    assert told(one)[1] <= time.time()
    one.compare()
