"""One topic, one database, a few consumers and all that can be done to them; classified cell by cell at the end."""

import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]
from confluent_kafka.admin._listoffsets import OffsetSpec

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.source import Source
from orgstats.errors import Unavailable
from orgstats.schemas.migrate import migrate
from tests.faults.ledger import Gap, Ledger, differences
from tests.faults.proxy import Proxy
from tests.faults.traffic import Traffic
from tests.support import oracle, stored
from tests.support.daemon import Daemon
from tests.support.wait import wait_for

PARTITIONS: Final = 4
SESSION_SECONDS: Final = 2.0
FAILPOINTS: Final = (
    "after_decode",
    "before_insert",
    "answer_lost",
    "after_insert",
    "before_commit",
    "after_commit",
    "at_chunk_boundary",
    "in_revoke",
)
BROKER_PROPERTIES: Final = {
    "group.min.session.timeout.ms": "1000",
    # The same for group.protocol=consumer, where the broker decides.
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": str(int(SESSION_SECONDS * 1000)),
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "400",
}


READING: Final = ("batches", "messages")
"""Members read one way and the other in turn, unless ORGSTATS_READING says how all do."""
CLASSIC_SESSION: Final = {
    "ORGSTATS_KAFKA__SESSION_TIMEOUT_MS": str(int(SESSION_SECONDS * 1000)),
    "ORGSTATS_KAFKA__HEARTBEAT_INTERVAL_MS": "400",
}


class Unequal(AssertionError):
    """The store differs from the oracle, or a consumer ended in a way it must not."""


@dataclass
class Member:
    """A consumer process, and the failpoint it was started with."""

    daemon: Daemon
    failpoint: str = ""
    since: float = field(default_factory=time.monotonic)
    joined: float | None = None
    """When it was first seen to have partitions, which on a busy machine takes a while; monotonic seconds."""

    def has_joined(self) -> bool:
        """Whether it has had partitions by now."""
        if self.joined is None and '"assigned"' in self.daemon.child.tail(50):
            self.joined = time.monotonic()
        return self.joined is not None


@dataclass(frozen=True)
class Site:
    """Where rounds take place: a broker, and a ClickHouse behind a proxy."""

    bootstrap_servers: str
    clickhouse_url: str
    proxy: Proxy
    directory: Path


class Round:
    """Everything about one topic. `done` counts faults that really happened; it is shared by all rounds of a plan."""

    def __init__(self, site: Site, seed: int, done: Counter[str], **env: str) -> None:
        self.site, self.done = site, done
        self.chance = random.Random(seed)
        self.topic = f"faults-{uuid.uuid4().hex[:8]}"
        self.database = self.topic.replace("-", "_")
        self.url = _with_database(site.clickhouse_url, self.database)
        self.env = {
            **({} if env.get("ORGSTATS_KAFKA__GROUP_PROTOCOL") == "consumer" else CLASSIC_SESSION),
            "ORGSTATS_KAFKA__TOPIC_METADATA_REFRESH_INTERVAL_MS": "1000",
            "ORGSTATS_REVOKE_SECONDS": "3",
            **env,
        }
        self.admin = AdminClient({"bootstrap.servers": site.bootstrap_servers, "log_level": 0})
        migrate(self.url, retention_days=0)
        self.partitions = PARTITIONS
        self.uuid = self.create_topic()
        self.ledgers = [Ledger(site.bootstrap_servers, self.topic, PARTITIONS)]
        self.gaps: list[Gap] = []
        self.before: list[oracle.Truth] = []
        """Truths of topics of this name that are gone."""
        self.gaps_before: list[Gap] = []
        self.traffic = Traffic(site.bootstrap_servers, self.topic, PARTITIONS, seed)
        self.members: list[Member] = []
        self.zombies: list[tuple[float, Member]] = []
        self.started = 0

    # Topic and group

    def create_topic(self) -> str:
        """Make the topic; its UUID."""
        self.admin.create_topics([NewTopic(self.topic, num_partitions=PARTITIONS, replication_factor=1)])[
            self.topic
        ].result(30)
        return wait_for(self._uuid, 30)

    def _uuid(self) -> str:
        try:
            described = self.admin.describe_topics(TopicCollection([self.topic]))[self.topic].result(10)
        except KafkaException:
            return ""
        return str(described.topic_id) if len(described.partitions) == self.partitions else ""

    def recreate_topic(self) -> None:
        """Delete the topic and make it again under its name; what was counted of the old one stays."""
        self.ledgers[-1].catch_up()
        self.before.append(self.ledgers[-1].truth(self.gaps, max_age_seconds=self.max_age_seconds))
        self.gaps_before += self.gaps
        self.gaps = []
        self.admin.delete_topics([self.topic])[self.topic].result(30)
        wait_for(lambda: self.topic not in self.admin.list_topics(timeout=10).topics, 30)
        self.uuid = self.create_topic()
        self.ledgers.append(Ledger(self.site.bootstrap_servers, self.topic, PARTITIONS))
        self.done["topic re-created"] += 1

    def add_partitions(self, partitions: int) -> None:
        """More partitions, while everything runs."""
        self.partitions = partitions
        self.admin.create_partitions([NewPartitions(self.topic, partitions)])[self.topic].result(30)
        wait_for(self._uuid, 30)
        self.ledgers[-1].add_partitions(partitions)
        self.traffic._partitions = partitions
        self.done["partitions added"] += 1

    def delete_below(self, lows: dict[int, int]) -> None:
        """What retention does: the records below these offsets are gone."""
        self.ledgers[-1].catch_up()
        asked = [TopicPartition(self.topic, partition, low) for partition, low in lows.items()]
        for future in self.admin.delete_records(asked).values():
            future.result(30)
        self.done["retention cut"] += 1

    def ends(self) -> dict[int, int]:
        """Where the logs end, once every transaction is decided; nobody may be producing."""
        return wait_for(self._ends, 120, poll_seconds=0.1)

    def told_ends(self) -> tuple[dict[int, int], dict[int, int]]:
        """By partition the last stable offset, and where the log ends; nothing while leaders change."""
        asked = {TopicPartition(self.topic, p): OffsetSpec.latest() for p in range(self.partitions)}  # type: ignore[no-untyped-call]
        try:
            stable, end = (
                {tp.partition: future.result(30).offset for tp, future in answer.items()}
                for answer in [
                    self.admin.list_offsets(asked, isolation_level=level)
                    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
                ]
            )
        except KafkaException:  # leaders or partitions have changed, which a client learns late
            self.admin = AdminClient({"bootstrap.servers": self.site.bootstrap_servers, "log_level": 0})
            return {}, {}
        return stable, end

    def _ends(self) -> dict[int, int]:
        decided, all_there_is = self.told_ends()
        return decided if decided == all_there_is else {}

    def set_offsets(self, offsets: dict[int, int]) -> None:
        """What `kafka-consumer-groups --reset-offsets` does, once the group has no members."""
        asked = [TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()]
        request = ConsumerGroupTopicPartitions(f"group-{self.topic}", asked)

        def reset() -> bool:
            try:
                answer = self.admin.alter_consumer_group_offsets([request])[f"group-{self.topic}"].result(10)
            except KafkaException:
                return False
            return all(one.error is None for one in answer.topic_partitions)

        wait_for(reset, 30, poll_seconds=0.2)
        self.done["offsets set by hand"] += 1

    def progress(self, of: str = "least(next_offset, hourly_offset)") -> dict[int, int]:
        """Up to where every table is written, or another term of `progress`, by partition of the topic's present id."""
        sources = {Source(self.topic, self.uuid, p).source_id: p for p in range(self.partitions)}
        client = connect(self.url, client_name="tests")
        try:
            rows = client.execute(f"SELECT source_id, {of} FROM progress FINAL")
        finally:
            client.disconnect()
        return {sources[source]: next_offset for source, next_offset in rows if source in sources}

    # Consumers

    def start(self, name: str, failpoint: str = "", *, static: bool = True) -> Member:
        """Start a consumer; with a failpoint it kills itself there, some time or other."""
        way = os.environ.get("ORGSTATS_READING") or READING[self.started % len(READING)]
        self.started += 1
        self.done[f"started, reads {way}"] += 1
        env = {"ORGSTATS_READING": way, **self.env, **({"ORGSTATS_INSTANCE_ID": name} if static else {})}
        if failpoint:
            env["ORGSTATS_FAILPOINTS"] = f"{failpoint}=kill@{self.chance.randint(1, 2)}"
        url = _with_database(self.site.proxy.url, self.database)
        directory = self.site.directory / self.topic
        label = f"{name}-{len(list(directory.glob(f'{name}-*'))) if directory.exists() else 0}"
        member = Member(Daemon(label, directory, self.site.bootstrap_servers, self.topic, url, **env), failpoint)
        self.members.append(member)
        return member

    def tend(self, next_failpoint: Callable[[], str]) -> None:
        """Start again what has killed itself, and continue zombies whose time has come."""
        for member in list(self.members):
            if member.daemon.child.running:
                continue
            code = member.daemon.child.popen.returncode
            if code != -signal.SIGKILL:
                raise Unequal(f"a consumer ended with {code}:\n{member.daemon.child.tail(30)}")
            self.done["killed at a failpoint"] += 1
            self.done[f"killed {member.failpoint}"] += 1
            self.members.remove(member)
            self.start(member.daemon.name.rsplit("-", 1)[0], next_failpoint())
        now = time.monotonic()
        for due, member in list(self.zombies):
            if now >= due:
                self.zombies.remove((due, member))
                self._signal(member, signal.SIGCONT)
                self.done["zombie"] += 1

    def make_zombie(self, seconds: float) -> None:
        """Stop a member, and let it go on after the others have taken its partitions."""
        stopped = [member for _, member in self.zombies]
        running = [m for m in self.members if m.daemon.child.running and m not in stopped]
        if len(running) > 1:
            member = self.chance.choice(running)
            self._signal(member, signal.SIGSTOP)
            self.zombies.append((time.monotonic() + seconds, member))

    @staticmethod
    def _signal(member: Member, number: signal.Signals) -> None:
        if member.daemon.child.running:
            member.daemon.child._signal(number)

    def kill(self, member: Member) -> None:
        """End a member by SIGKILL."""
        self.zombies = [(due, one) for due, one in self.zombies if one is not member]
        self.members.remove(member)
        if member.daemon.child.kill() == -signal.SIGKILL:
            self.done["killed"] += 1

    def stop(self, member: Member) -> None:
        """End a member in order; a zombie is continued first."""
        self.zombies = [(due, one) for due, one in self.zombies if one is not member]
        self._signal(member, signal.SIGTERM)
        self._wait_for_the_end(member)

    def _wait_for_the_end(self, member: Member) -> None:
        self._signal(member, signal.SIGCONT)
        self.members.remove(member)
        code = member.daemon.child.popen.wait(180)
        young = code == -signal.SIGTERM and not member.daemon.child.tail()  # asked before it could listen
        mischief = self.site.proxy.chances or self.site.proxy.error
        unsaved = code == Unavailable.exit_code and mischief  # the last flush did not get through, as was intended
        if code and not young and not unsaved:
            raise Unequal(f"a consumer ended with {code} when asked to stop:\n{member.daemon.child.tail(30)}")

    def kill_all(self) -> None:
        """End every member by SIGKILL, at whatever it is."""
        for member in list(self.members):
            self.kill(member)

    def stop_all(self) -> None:
        """End every member in order; each must leave with 0."""
        for member in self.members:
            self._signal(member, signal.SIGTERM)
        self.zombies.clear()
        for member in list(self.members):
            self._wait_for_the_end(member)

    # Comparison

    @property
    def max_age_seconds(self) -> int:
        """The setting of the fingerprint that rounds change."""
        return int(self.env.get("ORGSTATS_MAX_EVENT_AGE_SECONDS", 90 * 86_400))

    def drain(self, seconds: float = 120) -> None:
        """Until everything in the log is counted, by members without failpoints."""
        for member in [m for m in self.members if m.failpoint]:
            self.kill(member)
        for at in range(2 - len(self.members)):
            self.start(f"last{at}")
        for _, member in self.zombies:
            self._signal(member, signal.SIGCONT)
        self.zombies.clear()
        self.tend(str)
        ends = self.ends()

        def counted() -> bool:
            self.tend(str)
            progress = self.progress()
            return all(progress.get(partition, -1) >= end for partition, end in ends.items())

        try:
            wait_for(counted, seconds, poll_seconds=0.2)
        except AssertionError as error:
            behind = {p: (self.progress().get(p), end) for p, end in ends.items() if self.progress().get(p) != end}
            tails = "\n\n".join(f"{one.daemon.name}:\n{one.daemon.child.tail(40)}" for one in self.members)
            raise Unequal(f"not all is counted: partition: (position, end) {behind}\n{tails}") from error

    def compare(self) -> None:
        """Raises Unequal with every cell, dead letter or gap that is not as the oracle has it."""
        self.site.proxy.settle()
        self.ledgers[-1].catch_up()
        truth = self.ledgers[-1].truth(self.gaps, max_age_seconds=self.max_age_seconds)
        gaps = sorted(self.gaps_before + self.gaps)
        if (found := stored.gaps(self.url)) != gaps:
            raise Unequal(f"database {self.database}: gaps {found}, expected {gaps}")
        self.compare_cells(truth)

    def compare_cells(self, truth: oracle.Truth) -> None:
        """The same without the gaps, against the truth of the topic as it is."""
        if wrong := differences(self.url, [*self.before, truth]):
            raise Unequal(f"database {self.database}: {wrong}"[:20_000])
        self.done["records compared"] += sum(truth.events.values()) + len(truth.dead_letters)
        self.done["cells compared"] += len(truth.events)
        self.done["comparisons"] += 1

    def close(self, *, keep: bool = False) -> None:
        """End everything that was started; the topic goes, and the database unless it is to be looked at."""
        self.traffic.stop()
        self.site.proxy.chances = {}
        self.kill_all()
        if not keep:
            self.admin.delete_topics([self.topic])[self.topic].result(30)
            client = connect(self.site.clickhouse_url, client_name="tests")
            client.execute(f"DROP DATABASE {self.database} SYNC")
            client.disconnect()


def _with_database(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()
