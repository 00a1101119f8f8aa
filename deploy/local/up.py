"""The whole product on one machine: embedded Kafka and ClickHouse, traffic, consumer and API, until Ctrl-C.

For a look and for trying things; nothing here is for production.
"""

import fcntl
import json
import os
import secrets
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import processes
from orgstats.deploy.traffic import DOCUMENTED_SLUG as SLUG
from orgstats.errors import ConfigurationError, OrgstatsError, Refused

TOPIC: Final = "outcomes"
ORG_ID: Final = 1
PARTITIONS: Final = 4
ORGANIZATIONS: Final = 50
HISTORY_SECONDS: Final = 86_400
HISTORY_RATE: Final = 20_000
"""Records of history a second: slow enough that the mock's few megabytes are read before they are dropped."""
PASSED_ON: Final = ("ORGSTATS_FLUSH_SECONDS", "ORGSTATS_RETENTION_DAYS", "ORGSTATS_LOG_LEVEL", "ORGSTATS_RULES")
"""Settings of the user's environment that the demo takes over; others would point it at other servers."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Address:
    """Where the API listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a client on this machine."""
        return f"http://{'127.0.0.1' if self.host in ('', '0.0.0.0') else self.host}:{self.port}"  # noqa: S104


@dataclass
class Stack:
    """The processes of one demo in the order they were started; any that ends ends all."""

    logs: Path
    environment: dict[str, str]
    children: list[processes.Child] = field(default_factory=list)
    finite: set[str] = field(default_factory=set)

    def add(self, name: str, *argv: str, finite: bool = False, **environment: str) -> processes.Child:
        """Start `argv`; a finite one may end with 0."""
        log = self.logs / f"{name.replace(' ', '-')}.log"
        child = processes.start(name, argv, log=log, env={**self.environment, **environment})
        self.children.append(child)
        if finite:
            self.finite.add(name)
        return child

    def orgstats(self, name: str, *arguments: str, finite: bool = False) -> processes.Child:
        """Start a command of ours."""
        return self.add(name, sys.executable, "-m", "orgstats.cli", *arguments, finite=finite)

    def check(self) -> None:
        """Raise when a process has ended that should not have."""
        for child in self.children:
            if not child.running and not (child.name in self.finite and child.popen.returncode == 0):
                _raise_ended(child)

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Until the condition holds; raises when the time is over or a process ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise OrgstatsError(f"{what}: not so after {seconds:g} s; see {self.logs}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End all: traffic, consumer and API first and together, then the servers that they lean on."""
        servers = [child for child in self.children if child.name in ("Kafka", "ClickHouse")]
        for group in ([child for child in self.children if child not in servers], servers):
            for child in reversed(group):
                child.terminate()
            for child in reversed(group):
                child.stop(grace_seconds=15)

    def kill(self) -> None:
        """End all at once."""
        for child in self.children:
            child.kill()


def _raise_ended(child: processes.Child) -> NoReturn:
    code = child.popen.returncode
    error = OrgstatsError(f"{child.name} has ended with {code}; the end of {child.log}:\n{child.tail()}")
    error.exit_code = code if code in (69, 70, 78) else 70
    raise error


def up(directory: Path, *, kafka: str, rate: float, listen: str | None, fresh: bool, say: Say) -> None:
    """Start everything, print how to use it, and run until KeyboardInterrupt or until a part ends.

    Raises Refused when another `up` uses the directory, ConfigurationError for an address that is taken, and
    OrgstatsError, with the end of its log, when a part ends.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        if fresh:
            for name in ("clickhouse", "password", "token"):
                _remove(directory / name)
        address = _free_address(listen, say)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ORGSTATS_")}
        environment |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        stack = Stack(directory / "logs", environment)
        try:
            _run(stack, directory, kafka, rate, address, say)
        except KeyboardInterrupt:
            say("stopping")
        finally:
            _stop(stack)


def _stop(stack: Stack) -> None:
    try:
        stack.stop()
    except KeyboardInterrupt:  # a second Ctrl-C
        stack.kill()


def _run(stack: Stack, directory: Path, kafka: str, rate: float, address: Address, say: Say) -> None:
    started_ms = time.time_ns() // 1_000_000
    say("starting Kafka and ClickHouse")
    clickhouse_url = _start_servers(stack, directory, kafka)
    token = _prepare(clickhouse_url, directory, stack.environment)
    say("starting consumer, API and traffic")
    counted_until = _counted_until(clickhouse_url)
    stack.orgstats("consumer", "consume", "--group", "orgstats-up")
    stack.orgstats("API", "serve", "--listen", f"{address.host}:{address.port}")
    traffic = ("generate", "--organizations", str(ORGANIZATIONS), "--unkeyed")
    stack.orgstats("live traffic", *traffic, "--rate", f"{rate:g}", "--seed", str(time.time_ns() % 10**9))
    stack.wait_for(lambda: _partitions_read(clickhouse_url, started_ms) >= PARTITIONS, 60, "no partition is read")
    now = int(time.time())
    since = max(counted_until, now - HISTORY_SECONDS)
    count = int((now - since) * rate)
    if count > 0:
        span = ("--since", str(since), "--until", str(now), "--count", str(count))
        stack.orgstats("history", *traffic, *span, "--rate", str(HISTORY_RATE), finite=True)
    stack.wait_for(lambda: _has_data(address, token), 60, "the endpoint shows no events")
    print(_welcome(address, token), flush=True)
    if count > HISTORY_RATE:
        say(f"the day before is being filled in, {count:,} events, about {count // HISTORY_RATE} s")
    while True:
        stack.check()
        time.sleep(0.2)


def _start_servers(stack: Stack, directory: Path, kafka: str) -> str:
    """Start both, put their addresses into the environment of the others; ClickHouse's URL."""
    password = _secret(directory / "password", lambda: secrets.token_urlsafe(24))
    data = str(directory / "clickhouse")
    clickhouse = stack.add(
        "ClickHouse",
        sys.executable,
        "-m",
        "orgstats.deploy.local.chdb_server",
        "--path",
        data,
        ORGSTATS_CHDB_PASSWORD=password,
    )
    module = "orgstats.deploy.local.mock_kafka" if kafka == "mock" else "orgstats.deploy.local.apache_kafka"
    broker = stack.add("Kafka", sys.executable, "-m", module)
    port = processes.wait_ready(clickhouse, clickhouse.first_json_line, seconds=60)["port"]
    ready = processes.wait_ready(broker, broker.first_json_line, seconds=300)  # the first time it is downloaded
    url = f"clickhouse://default:{quote(password, safe='')}@127.0.0.1:{port}/default"
    stack.environment |= {
        "ORGSTATS_BOOTSTRAP_SERVERS": ready["bootstrap_servers"],
        "ORGSTATS_TOPIC": TOPIC,
        "ORGSTATS_CLICKHOUSE_URL": url,
        "ORGSTATS_DRAIN_SECONDS": "0",
    }
    if kafka == "mock":  # it has no UUIDs and starts at offset 0 each time
        stack.environment["ORGSTATS_TOPIC_ID"] = f"up-{uuid.uuid4()}"
    _make_topic(ready["bootstrap_servers"], kafka)
    return url


def _make_topic(bootstrap_servers: str, kafka: str) -> None:
    """The mock makes a topic when it is asked about it; a real Kafka has to be told."""
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not in its __all__

    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    if kafka == "mock":
        admin.list_topics(TOPIC, timeout=10)
    else:
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)


def _prepare(clickhouse_url: str, directory: Path, environment: Mapping[str, str]) -> str:
    """Tables, the organization, and a token that may read it: the stored one while it is valid."""
    from orgstats.query.access import digest_of, is_valid
    from orgstats.query.clickhouse import Database
    from orgstats.query.directory import Directory, Wanted
    from orgstats.schemas.migrate import MigrateSettings, migrate

    migrate(clickhouse_url, retention_days=MigrateSettings.from_env(environment).retention_days)
    people = Directory(Database(clickhouse_url, size=1))
    now = time.time()
    people.add_organization(Wanted(SLUG, "The Interstellar Jurisdiction", ORG_ID, rename=True), now)
    path = directory / "token"
    if path.exists():
        kept = path.read_text().strip()
        if any(token.digest == digest_of(kept) and is_valid(token, now) for token in people.tokens()):
            return kept
        path.unlink()
    return _secret(path, lambda: people.create_token(org_id=ORG_ID, name="up", expires_at=None, now=now)[0])


def _counted_until(clickhouse_url: str) -> int:
    """Where an earlier run's counts end, in epoch seconds; 0 when there are none."""
    with connect(clickhouse_url, client_name="orgstats-up") as client:
        return int(client.execute("SELECT toUnixTimestamp(max(bucket)) FROM counts")[0][0])


def _partitions_read(clickhouse_url: str, since_ms: int) -> int:
    """How many partitions the consumer has begun to read."""
    sql = "SELECT uniqExact(source_id) FROM sources WHERE toUnixTimestamp64Milli(registered_at) >= %(since_ms)s"
    with connect(clickhouse_url, client_name="orgstats-up") as client:
        return int(client.execute(sql, {"since_ms": since_ms})[0][0])


def _has_data(address: Address, token: str) -> bool:
    request = urllib.request.Request(  # noqa: S310 - our own server, over http
        f"{address.url}/api/0/organizations/{SLUG}/stats/", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
            return any(count for _, count in json.load(response))
    except (urllib.error.URLError, OSError):
        return False


def _welcome(address: Address, token: str) -> str:
    url = f"{address.url}/api/0/organizations/{SLUG}/stats/"
    return (
        f"\n  API        {url}\n"
        f"  dashboard  {address.url}/#org={SLUG}&token={token}\n"
        f"  token      {token}\n\n"
        f"  curl -H 'Authorization: Bearer {token}' '{url}?stat=received&resolution=1h'\n\n"
        "  Ctrl-C stops everything.\n"
    )


def _free_address(listen: str | None, say: Say) -> Address:
    host, _, port = (listen or "127.0.0.1:8000").rpartition(":")
    if not port.isdigit():
        raise ConfigurationError(f"ORGSTATS_LISTEN must be host:port, not {listen!r}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            if listen:
                raise ConfigurationError(f"ORGSTATS_LISTEN: cannot listen on {listen}: {error.strerror}") from None
            probe.bind((host, 0))
            say(f"port {port} is taken, using {probe.getsockname()[1]}")
        return Address(host, probe.getsockname()[1])


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"another `orgstats up` is running on {directory}; stop it, or set ORGSTATS_CACHE") from None
        yield


def _secret(path: Path, make: Callable[[], str]) -> str:
    """The text kept in a file that only its owner may read, made when missing."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
    return path.read_text().strip()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
