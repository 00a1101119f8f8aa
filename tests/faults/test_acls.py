"""The rights that `orgstats acls` prints are enough on a broker that allows nothing else, and none is too much."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from orgstats.consumer.kafka.acls import Acl, needed
from orgstats.consumer.kafka.group import Callbacks, GroupConsumer, TopicPartition
from orgstats.deploy.local import apache_kafka
from orgstats.errors import ConfigurationError
from tests.support import stored
from tests.support.daemon import Daemon
from tests.support.wait import wait_for

ORGSTATS: Final = str(Path(sys.executable).with_name("orgstats"))
LOGIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule required"
PASSWORD: Final = "S3cret"
PROPERTIES: Final = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin;User:ANONYMOUS",  # the controller's own listener has no users
    "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{LOGIN} username="admin" password="{PASSWORD}"'
    f' user_admin="{PASSWORD}" user_counting="{PASSWORD}";',
}
TOPIC: Final = "outcomes"
EVENT: Final = b'{"timestamp": 1700000000, "org_id": 1, "outcome": 0}'
ALL: Final = tuple(needed([TOPIC], "counting", redrive_to=[TOPIC]))
RESOURCES: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
LOGS_IN_BY: Final = ("security.protocol", "sasl.mechanism", "sasl.username", "sasl.password")
OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass(frozen=True)
class Guarded:
    """A broker that allows the user `counting` what it was told, and what that user's processes are told."""

    bootstrap_servers: str
    admin: AdminClient
    env: dict[str, str]
    directory: Path

    def allow(self, *acls: Acl) -> None:
        """Allow these; returns when the broker has them."""
        for made in self.admin.create_acls([_binding(acl) for acl in acls]).values():
            made.result(10)

    def forbid(self, acl: Acl) -> None:
        """No longer allow this one."""
        binding = _binding(acl)
        chosen = AclBindingFilter(
            binding.restype,
            binding.name,
            ResourcePatternType.LITERAL,
            binding.principal,
            "*",
            binding.operation,
            AclPermissionType.ALLOW,
        )
        for gone in self.admin.delete_acls([chosen]).values():
            assert len(gone.result(10)) == 1

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, as the user `counting`."""
        env = {**os.environ, **self.env, "ORGSTATS_BOOTSTRAP_SERVERS": self.bootstrap_servers}
        return subprocess.run(
            [ORGSTATS, *words], env=env, capture_output=True, text=True, timeout=120, check=False, cwd=self.directory
        )

    def consumer(self, name: str) -> Daemon:
        """A consumer, as the user `counting`."""
        url = self.env["ORGSTATS_CLICKHOUSE_URL"]
        return Daemon(name, self.directory, self.bootstrap_servers, TOPIC, url, **self.env)


def _binding(acl: Acl) -> AclBinding:
    return AclBinding(
        RESOURCES[acl.resource],
        acl.name,
        ResourcePatternType.LITERAL,
        "User:counting",
        "*",
        OPERATIONS[acl.operation],
        AclPermissionType.ALLOW,
    )


@pytest.fixture
def guarded(tmp_path: Path, clickhouse_url: str) -> Iterator[Guarded]:
    """A broker of its own, with ten records of which one is a dead letter; nobody but the admin is allowed anything."""
    if reason := apache_kafka.runnable():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs an Apache Kafka of its own: {reason}")
    broker = apache_kafka.start(tmp_path / "kafka", properties=PROPERTIES, sasl=("admin", PASSWORD))
    try:
        client: dict[str, str | int | float | bool] = {
            "bootstrap.servers": broker.bootstrap_servers,
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "admin",
            "sasl.password": PASSWORD,
        }
        admin = AdminClient(client)
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
        producer = Producer(client)
        for value in [EVENT] * 9 + [EVENT.replace(b": 1,", b': "1",')]:
            producer.produce(TOPIC, value, partition=0)
        assert producer.flush(30) == 0
        env = {
            "ORGSTATS_TOPIC": TOPIC,
            "ORGSTATS_GROUP": "counting",
            "ORGSTATS_CLICKHOUSE_URL": clickhouse_url,
            "ORGSTATS_KAFKA__SECURITY_PROTOCOL": "sasl_plaintext",
            "ORGSTATS_KAFKA__SASL_MECHANISM": "PLAIN",
            "ORGSTATS_KAFKA__SASL_USERNAME": "counting",
            "ORGSTATS_KAFKA__SASL_PASSWORD": PASSWORD,
        }
        yield Guarded(broker.bootstrap_servers, admin, env, tmp_path)
    finally:
        broker.kill()


LOOKS: Final = (["lag", "--interval", "0"], ["audit", "--recount"], ["replay", "plan"])
REDRIVE: Final = ["dead-letters", "redrive", "--number", "org_id", "--execute"]
USED: Final = {
    ("topic", "Read"): LOOKS,
    ("topic", "DescribeConfigs"): (REDRIVE,),
    ("group", "Read"): (["consume"],),
    ("topic", "Write"): (REDRIVE,),
    ("transactional-id", "Write"): (REDRIVE,),
}
"""What cannot be done without a right."""


@pytest.mark.campaign
def test_what_is_printed_is_enough_and_nothing_of_it_too_much(guarded: Guarded) -> None:
    """All of it: counting and every command work. Without any one of it, a consumer or a command ends with an error."""
    url = guarded.env["ORGSTATS_CLICKHOUSE_URL"]
    guarded.allow(*ALL)
    daemon = guarded.consumer("first")
    wait_for(lambda: stored.progress(url) == {0: 10}, 60, poll_seconds=0.1)
    assert daemon.child.stop(grace_seconds=30) == 0
    for acl in ALL:
        guarded.forbid(acl)
        tried = USED[acl.resource, acl.operation]
        refused = [done for words in tried if (done := guarded.run(*words)).returncode]
        assert refused, acl
        assert not any("Traceback" in done.stderr for done in refused), refused
        if (acl.resource, acl.operation) == ("topic", "Read"):
            assert {(done.returncode, "grant the principal READ" in done.stderr) for done in refused} == {(78, True)}
        guarded.allow(acl)
    for words in (*LOOKS, REDRIVE):
        done = guarded.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    daemon = guarded.consumer("second")
    wait_for(lambda: stored.progress(url)[0] > 10, 60, poll_seconds=0.1)
    assert daemon.child.stop(grace_seconds=30) == 0


def test_a_right_that_is_taken_away_from_who_reads_ends_the_reading(guarded: Guarded) -> None:
    """Whichever way records are read, the error has the remedy, and no record is taken for what it is not."""
    for batches in (True, False):
        guarded.allow(*ALL)
        assigned: set[TopicPartition] = set()
        log = GroupConsumer(
            {
                "bootstrap.servers": guarded.bootstrap_servers,
                "group.id": "counting",
                **{name: guarded.env[f"ORGSTATS_KAFKA__{name.upper().replace('.', '_')}"] for name in LOGS_IN_BY},
            },
            [TOPIC],
            Callbacks(assigned.update, assigned.difference_update, assigned.difference_update, lambda _: None),
            batches=batches,
        )
        wait_for(lambda log=log, assigned=assigned: log.read(1, 0.1) and assigned, 60)  # type: ignore[misc]
        log.start({(TOPIC, 0): 0})
        offsets: list[int] = []
        wait_for(lambda log=log, offsets=offsets: _read_ten(log, offsets), 30)  # type: ignore[misc]
        assert offsets == list(range(10))
        guarded.forbid(next(acl for acl in ALL if (acl.resource, acl.operation) == ("topic", "Read")))
        with pytest.raises(ConfigurationError, match="grant the principal READ"):
            wait_for(lambda log=log: log.read(10, 0.1).runs, 60)  # type: ignore[misc]
        log.close()


def _read_ten(log: GroupConsumer, offsets: list[int]) -> bool:
    """Read what there is, in as many reads as it takes, and add its offsets; whether ten have come."""
    for _, run in log.read(10 - len(offsets), 1).runs:
        offsets += [record.offset() for record in run]
    return len(offsets) >= 10


def test_json_is_what_the_lines_say(guarded: Guarded) -> None:
    """The same rights in both forms."""
    words = ("acls", "--principal", "User:counting", "--redrive")
    lines = guarded.run(*words).stdout.splitlines()
    found = [Acl(**one) for one in json.loads(guarded.run(*words, "--json").stdout)]
    assert tuple(found) == ALL
    assert len(lines) == len(found)
    for line, acl in zip(lines, found, strict=True):
        assert f"--operation {acl.operation} --{acl.resource} '{acl.name}'" in line
