"""A real Apache Kafka on loopback without Docker: fetched from Maven Central, one KRaft node, for tests and demos."""

import base64
import fcntl
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from orgstats.deploy.local import processes
from orgstats.deploy.local.paths import cache_dir, free_ports
from orgstats.errors import ConfigurationError, Unavailable

POM: Final = Path(__file__).with_name("pom.xml")
VERSION: Final[str] = re.findall(r"kafka_2\.13</artifactId>\s*<version>([^<]+)", POM.read_text())[0]
CLASSES: Final = Path("classes") / "kafka.jsa"

BROKER_PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",  # a misspelt topic must not come into being
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.retention.ms": "-1",  # records with old timestamps must not vanish; a topic may say otherwise
    "log.retention.check.interval.ms": "500",  # tests wait for retention and for deleted chunks
    "log.initial.task.delay.ms": "500",
    "file.delete.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
    "log.cleaner.dedupe.buffer.size": "8388608",  # instead of 128 MiB of heap
    "controlled.shutdown.enable": "false",  # nobody is there to hand over to
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2000",  # a killed broker may register again only after it: 9 s by default
}
"""What differs from Kafka's own defaults; everything is one node on loopback."""


class Running:
    """A started broker. `bootstrap_servers` and the data outlive stop, kill and restart."""

    def __init__(
        self,
        directory: Path,
        properties: Mapping[str, str],
        java: Sequence[str],
        ports: tuple[int, int],
        sasl: tuple[str, str] | None,
    ):
        self.bootstrap_servers = f"127.0.0.1:{ports[0]}"
        self._directory = directory
        self._java = java
        self._client = {"bootstrap.servers": self.bootstrap_servers, **(_sasl_client(*sasl) if sasl else {})}
        addresses = {
            "listeners": f"{'SASL_PLAINTEXT' if sasl else 'PLAINTEXT'}://127.0.0.1:{ports[0]},"
            f"CONTROLLER://127.0.0.1:{ports[1]}",
            "controller.quorum.voters": f"1@127.0.0.1:{ports[1]}",
            "log.dirs": str(directory / "data"),
        }
        text = "".join(
            f"{name}={value}\n"
            for name, value in {**(_sasl_broker(*sasl) if sasl else {}), **properties, **addresses}.items()
        )
        (directory / "server.properties").write_text(text)
        self._child = self._start()

    @property
    def pid(self) -> int:
        """The process id of the Java machine."""
        return self._child.pid

    @property
    def child(self) -> processes.Child:
        """The process, to watch it."""
        return self._child

    def stop(self, grace_seconds: float = 20) -> None:
        """End it in order, or by SIGKILL after the grace; the data stays."""
        self._child.stop(grace_seconds)

    def kill(self) -> None:
        """End it by SIGKILL; the data stays as it is at this moment."""
        self._child.kill()

    def restart(self) -> None:
        """Start it again on the same port and data; ready when this returns."""
        self.stop()
        self._child = self._start()

    def _start(self) -> processes.Child:
        child = processes.start(
            f"Apache Kafka {VERSION}",
            [*self._java, "kafka.Kafka", str(self._directory / "server.properties")],
            log=self._directory / "kafka.log",
        )
        processes.wait_ready(child, lambda: _answers(self._client), seconds=180, poll_seconds=0.1)
        return child


def start(
    directory: Path,
    *,
    properties: Mapping[str, str] | None = None,
    heap_mb: int = 512,
    port: int = 0,
    sasl: tuple[str, str] | None = None,
) -> Running:
    """A broker with its data in `directory` (made anew) that answers when this returns, about a second later.

    `properties` go over BROKER_PROPERTIES. With `sasl`, a user and a password, it takes nobody else: SASL/PLAIN
    without TLS. The first start ever downloads 44 MB through Maven. Raises
    ConfigurationError when java or mvn is missing and Unavailable when the broker does not come up.
    """
    _prepare()
    java, classes = _java(heap_mb), _home() / CLASSES
    if classes.exists():
        java.append(f"-XX:SharedArchiveFile={classes}")  # of another Java it is passed over
    return _start(directory, {**BROKER_PROPERTIES, **(properties or {})}, java, port, sasl)


def _start(
    directory: Path, properties: Mapping[str, str], java: Sequence[str], port: int, sasl: tuple[str, str] | None
) -> Running:
    shutil.rmtree(directory / "data", ignore_errors=True)
    shutil.copytree(_home() / "formatted", directory / "data")
    meta = directory / "data" / "meta.properties"
    text = re.sub(r"(?m)^(cluster|directory)\.id=.*$", lambda line: f"{line[1]}.id={_kafka_uuid()}", meta.read_text())
    meta.write_text(text)
    listener, controller = free_ports(2)
    return Running(directory, properties, java, (port or listener, controller), sasl)


def runnable() -> str | None:
    """Why this machine cannot run it (java or mvn missing), or None when it can."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if not missing or (missing == ["mvn"] and _jars().exists()):
        return None
    return f"{' and '.join(missing)} not found: install a JRE 17 or later and Maven"


def _java(heap_mb: int) -> list[str]:
    return [
        "java",
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # a short life: compile quickly rather than well
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        f"{_jars()}/*",
    ]


def _home() -> Path:
    return cache_dir() / "kafka" / VERSION


def _jars() -> Path:
    return _home() / "jars"


def _prepare() -> None:
    """Fetch and make once what each start then finds: the jars, empty formatted logs, the classes that Java has read.

    Formatting is a run of Java of a second; reading the classes is three quarters of what a broker takes to start.
    """
    if reason := runnable():
        raise ConfigurationError(reason)
    _home().mkdir(parents=True, exist_ok=True)
    with (_home() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may share one cache
        for name, fill in (("jars", _download), ("formatted", _format), (CLASSES.parts[0], _archive)):
            if not (_home() / name).exists():
                _make(_home() / name, fill)


def _make(target: Path, fill: Callable[[Path], None]) -> None:
    """`fill` a directory beside the target and rename it, so that a torn download never counts as done."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        (made := Path(scratch) / "made").mkdir()
        fill(made)
        made.rename(target)


def _download(target: Path) -> None:
    _run("mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={target}")


def _format(target: Path) -> None:
    properties = target.parent / "format.properties"
    properties.write_text(
        "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n"
        "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\n"
        f"controller.quorum.voters=1@127.0.0.1:9093\nlog.dirs={target}\n"
    )
    tool = [*_java(256), "kafka.tools.StorageTool", "format"]
    _run(*tool, f"--cluster-id={_kafka_uuid()}", "--config", str(properties))


def _archive(target: Path) -> None:
    """Java writes the archive as it ends; a broker that does not end in time leaves none, and others do without."""
    java = [*_java(256), f"-XX:ArchiveClassesAtExit={target / CLASSES.name}"]
    (directory := target.parent / "broker").mkdir()
    _start(directory, BROKER_PROPERTIES, java, 0, None).stop(grace_seconds=120)


def _kafka_uuid() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode:
        raise Unavailable(f"{argv[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")


def _sasl_broker(user: str, password: str) -> dict[str, str]:
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="{user}" password="{password}"'
    return {
        "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{login} user_{user}="{password}";',
    }


def _sasl_client(user: str, password: str) -> dict[str, str]:
    return {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": password,
    }


def _answers(client: Mapping[str, str]) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({**client, "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False
