"""The whole product on one machine: embedded Kafka and ClickHouse, traffic, consumer and API, until Ctrl-C.

For a look and for trying things; nothing here is for production.
"""

import fcntl
import json
import os
import secrets
import shlex
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
from orgstats.deploy.local import apache_kafka, demo, processes
from orgstats.deploy.traffic import DOCUMENTED_SLUG as SLUG
from orgstats.deploy.traffic import daily_seconds
from orgstats.errors import ConfigurationError, OrgstatsError, Refused
from orgstats.query.access import OPS_SCOPE
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory

TOPIC: Final = "outcomes"
PARTITIONS: Final = 4
ORGANIZATIONS: Final = 50
HISTORY_SECONDS: Final = 86_400
PAST_SECONDS: Final = 3_600.0
MOCK_RATE: Final = 20_000
"""Records of history a second: slow enough that the mock's few megabytes are read before they are dropped."""
CHUNK_LENGTH: Final = 1 << 14
"""As short as it may be: at ten events a second a chunk is closed within two hours by day and five by night, and can be
replayed."""
SHOWN: Final = (
    "ORGSTATS_BOOTSTRAP_SERVERS",
    "ORGSTATS_TOPIC",
    "ORGSTATS_TOPIC_ID",
    "ORGSTATS_GROUP",
    "ORGSTATS_CLICKHOUSE_URL",
)
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

    def add(self, name: str, *argv: str, **environment: str) -> processes.Child:
        """Start `argv`."""
        log = self.logs / f"{name.replace(' ', '-')}.log"
        child = processes.start(name, argv, log=log, env={**self.environment, **environment})
        self.children.append(child)
        return child

    def orgstats(self, name: str, *arguments: str) -> processes.Child:
        """Start a command of ours."""
        return self.add(name, sys.executable, "-m", "orgstats.cli", *arguments)

    def check(self) -> None:
        """Raise when a process has ended that should not have."""
        for child in self.children:
            if not child.running:
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
            for name in ("clickhouse", "password", "token", "token-all", "token-ops"):
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
            _remove(directory / "env")
            _stop(stack)


def _stop(stack: Stack) -> None:
    try:
        stack.stop()
    except KeyboardInterrupt:  # a second Ctrl-C
        stack.kill()


def _run(stack: Stack, directory: Path, kafka: str, rate: float, address: Address, say: Say) -> None:
    if kafka == "auto":
        kafka = _kafka_here(say)
    say("starting Kafka and ClickHouse")
    clickhouse_url = _start_servers(stack, directory, kafka)
    counted_until = _prepare(clickhouse_url, stack.environment)
    people = Directory(Database(clickhouse_url, size=1))
    now = time.time()
    demo.name_everybody(people, now)
    token, every = (demo.token(people, directory / name, org, now) for name, org in (("token", 1), ("token-all", None)))
    operators = demo.token(people, directory / "token-ops", None, now, OPS_SCOPE)
    _write_environment(directory, stack.environment)
    say("starting consumer, API and traffic")
    started_ms = time.time_ns() // 1_000_000
    stack.orgstats("consumer", "consume")
    stack.orgstats("API", "serve", "--listen", f"{address.host}:{address.port}")
    stack.wait_for(lambda: _partitions_read(clickhouse_url, started_ms) >= PARTITIONS, 60, "no partition is read")
    now = time.time()
    since = max(counted_until, _history_since(now))
    traffic = ("generate", "--organizations", str(ORGANIZATIONS), "--unkeyed", "--seed", str(time.time_ns() % 10**9))
    fastest = ("--fastest", str(MOCK_RATE)) if kafka == "mock" else ()
    stack.orgstats("traffic", *traffic, "--since", f"{since:.0f}", "--follow", "--rate", f"{rate:g}", *fastest)
    past = int((daily_seconds(now) - daily_seconds(since)) * rate)
    _wait_for_the_past(stack, clickhouse_url, started_ms, past)
    stack.wait_for(lambda: _has_data(address, token), 60, "the endpoint shows no events")
    print(_welcome(address, (token, every, operators), stack.environment), flush=True)
    while True:
        stack.check()
        time.sleep(0.2)


def _kafka_here(say: Say) -> str:
    """A real Kafka where it can run, else the mock, and what that cannot do."""
    if missing := apache_kafka.runnable():
        say(f"no real Kafka here ({missing}), so a mock:")
        say("it forgets records after a while, which replay and audit need, and has no topic ids and no groups")
        return "mock"
    return "apache"


def _history_since(now: float) -> float:
    """The beginning of the hour a day ago, so that no hour of the last 24 is begun in its middle."""
    return (now - HISTORY_SECONDS) // 3600 * 3600


def _wait_for_the_past(stack: Stack, clickhouse_url: str, started_ms: int, count: int) -> None:
    """Until the day before is counted; a bar meanwhile, or a line where nobody sees one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("counting the day before"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    if not console.is_terminal:
        console.print(f"counting the day before: {count:,} events")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=count)

        def done() -> bool:
            counted = _counted(clickhouse_url, started_ms)
            bar.update(task, completed=min(counted, count))
            return counted >= count

        stack.wait_for(done, PAST_SECONDS, "the day before is not counted")


def _start_servers(stack: Stack, directory: Path, kafka: str) -> str:
    """Start both, put their addresses into the environment of the others; ClickHouse's URL."""
    password = demo.secret(directory / "password", lambda: secrets.token_urlsafe(24))
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
        "ORGSTATS_GROUP": "orgstats-up",
        "ORGSTATS_CHUNK_LENGTH": str(CHUNK_LENGTH),
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


def _prepare(clickhouse_url: str, environment: Mapping[str, str]) -> int:
    """Tables and rules; where an earlier run's counts end, in epoch seconds, 0 when there are none."""
    from orgstats.schemas.migrate import MigrateSettings, migrate

    migrate(clickhouse_url, retention_days=MigrateSettings.from_env(environment).retention_days)
    if "ORGSTATS_RULES" not in environment:
        demo.publish_rules(clickhouse_url, _history_since(time.time()))
    with connect(clickhouse_url, client_name="orgstats-up") as client:
        return int(client.execute("SELECT toUnixTimestamp(max(bucket)) FROM counts")[0][0])


def _write_environment(directory: Path, environment: Mapping[str, str]) -> None:
    """What makes any command work with this demo, for a shell to read; there is a password in it."""
    path = directory / "env"
    path.unlink(missing_ok=True)
    lines = [f"export {name}={shlex.quote(environment[name])}" for name in SHOWN if name in environment]
    demo.secret(path, lambda: "\n".join(lines))


def environment_of(directory: Path) -> str:
    """The lines of a demo that is running; raises ConfigurationError when none is."""
    path = directory / "env"
    if not path.exists():
        raise ConfigurationError("no demo is running here: start one with orgstats up")
    return path.read_text()


def _partitions_read(clickhouse_url: str, since_ms: int) -> int:
    """How many partitions the consumer has begun to read."""
    sql = "SELECT uniqExact(source_id) FROM sources WHERE toUnixTimestamp64Milli(registered_at) >= %(since_ms)s"
    with connect(clickhouse_url, client_name="orgstats-up") as client:
        return int(client.execute(sql, {"since_ms": since_ms})[0][0])


def _counted(clickhouse_url: str, since_ms: int) -> int:
    """Records of this run that are counted."""
    sql = (
        "SELECT sum(next_offset) FROM progress FINAL WHERE source_id IN"
        " (SELECT source_id FROM sources WHERE toUnixTimestamp64Milli(registered_at) >= %(since_ms)s)"
    )
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


def _welcome(address: Address, tokens: tuple[str, str, str], environment: Mapping[str, str]) -> str:
    token, every, operators = tokens
    url = f"{address.url}/api/0/organizations/{SLUG}/stats/"
    return (
        f"\n  API        {url}\n"
        f"  dashboard  {address.url}/#org={SLUG}&token={token}\n"
        f"  everybody  {address.url}/#org={SLUG}&token={every}\n"
        f"  operators  {address.url}/ops#token={operators}\n"
        f"  token      {token}\n"
        f"  Kafka      {environment['ORGSTATS_BOOTSTRAP_SERVERS']}, topic {TOPIC}\n\n"
        f"  curl -H 'Authorization: Bearer {token}' '{url}?stat=received&resolution=1h'\n\n"
        f'  In another terminal, every command works with this: eval "$(orgstats up --env)"\n'
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
