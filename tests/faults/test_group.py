"""The consumer group by KIP-848, and topics that go away: real consumers, an Apache Kafka, every cell compared."""

import signal
from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.faults.conftest import Place
from tests.faults.plan import Plan
from tests.faults.round import Round
from tests.faults.test_daemon import ends_with, says
from tests.ops.conftest import orgstats_runner
from tests.support.wait import wait_for

KIP_848 = {"ORGSTATS_KAFKA__GROUP_PROTOCOL": "consumer"}


@pytest.fixture
def other_topic(one: Round) -> str:
    """A second topic that is counted by the consumers of the round; no record of it is in the ledger."""
    name = f"{one.topic}-other"
    one.admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])[name].result(30)
    wait_for(lambda: name in one.admin.list_topics(timeout=10).topics, 30)
    one.env["ORGSTATS_TOPIC"] = f"{one.topic},{name}"
    return name


@pytest.mark.timeout(540)
def test_members_of_the_consumer_protocol_come_and_go_under_load_and_change_no_count(
    place: Place, new_round: Callable[..., Round]
) -> None:
    """Members join, leave, kill themselves and sleep past their session, and every cell equals the oracle's."""
    one = new_round(**KIP_848)
    done = one.done = Counter()

    def enough() -> bool:
        return done["killed"] + done["killed at a failpoint"] >= 12 and done["zombie"] >= 3

    Plan(place.site, place.broker, 7, done).storm(one, seconds=60, enough=enough)
    assert done["cells compared"] > 0
    assert done["member joined"] > 0


def test_a_member_keeps_counting_what_it_keeps_when_another_joins(new_round: Callable[..., Round]) -> None:
    """Incremental means that of four partitions two go and two stay, which are not opened again."""
    one = new_round(**KIP_848)
    one.traffic.produce(500)
    first = one.start("a", static=False)
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one.start("b", static=False)
    says(first, '"event": "revoked"')
    one.traffic.produce(500)
    one.drain()
    log = first.daemon.child.log.read_text()
    assert log.count('"event": "assigned"') == 4
    assert '"partitions": 2, "event": "revoked"' in log
    one.compare()


def test_a_static_member_that_was_killed_comes_back_by_the_consumer_protocol(new_round: Callable[..., Round]) -> None:
    """Its name is taken until its session has timed out: it waits for that, and does not end."""
    one = new_round(**KIP_848)
    one.traffic.produce(500)
    first = one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one.kill(first)
    one.traffic.produce(500)
    one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 150, poll_seconds=0.1)
    one.stop_all()
    one.compare()


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made-again"])
def test_of_two_topics_one_goes_away_and_the_other_is_counted_on(one: Round, other_topic: str, again: bool) -> None:
    """The gone one is told at once and at the end, which is 78; started again, consumers count what is there."""
    one.traffic.produce(500)
    member = one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    wait_for(lambda: member.daemon.child.log.read_text().count('"event": "assigned"') >= 6, 60)
    admin = AdminClient({"bootstrap.servers": one.site.bootstrap_servers, "log_level": 0})
    admin.delete_topics([other_topic])[other_topic].result(30)
    if again:
        wait_for(lambda: other_topic not in admin.list_topics(timeout=10).topics, 30)
        admin.create_topics([NewTopic(other_topic, num_partitions=2, replication_factor=1)])[other_topic].result(30)
    says(member, '"event": "topic gone"')
    one.traffic.produce(500)
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one._signal(member, signal.SIGTERM)
    code, last = ends_with(one, member)
    assert code == 78
    assert other_topic in last
    one.traffic.produce(500)
    started = one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    one.stop(started)
    one.compare()
    if again:
        admin.delete_topics([other_topic])[other_topic].result(30)


@pytest.mark.timeout(300)
def test_commands_answer_for_the_topic_that_is_left(one: Round, other_topic: str) -> None:
    """Two topics were counted and one is deleted: every command answers for the other one, and names the gone one."""
    one.traffic.produce(500)
    member = one.start("a")
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    wait_for(lambda: member.daemon.child.log.read_text().count('"event": "assigned"') >= 6, 60)
    admin = AdminClient({"bootstrap.servers": one.site.bootstrap_servers, "log_level": 0})
    admin.delete_topics([other_topic])[other_topic].result(30)
    says(member, '"event": "topic gone"')
    one.traffic.produce(500)
    wait_for(lambda: one.progress() == one.ends(), 60, poll_seconds=0.1)
    run = orgstats_runner(one.site.bootstrap_servers, one.env["ORGSTATS_TOPIC"], f"group-{one.topic}", one.url)
    told = f"topic {other_topic} does not exist: this answer is without it"
    for words, expected in (
        (("lag", "--interval", "0"), f"{one.topic}/0"),
        (("audit", "--recount"), one.topic),
        (("replay", "plan", "--repair"), ""),  # the open chunks are the consumers'
        (("dead-letters", "ls"), one.topic),
        (("dead-letters", "redrive"), ""),
    ):
        answer = run(*words)
        assert answer.returncode == 0, (words, answer.stdout, answer.stderr)
        assert expected in answer.stdout, (words, answer.stdout)
        assert answer.stderr.count(told) == (words[0] != "dead-letters"), (words, answer.stderr)
    found = run("doctor")
    assert found.returncode == 1, found.stderr
    assert f"act   topic {other_topic} does not exist" in found.stdout
    assert f"ok    {one.topic}/0: 0 records behind" in found.stdout
    one._signal(member, signal.SIGTERM)
    assert ends_with(one, member)[0] == 78
    one.compare()
