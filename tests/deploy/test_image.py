"""The image: what its Dockerfile refers to exists, and where a Docker engine answers it is built and run."""

import json
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local.paths import free_ports
from orgstats.deploy.traffic import Slot, records
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from tests.deploy.commands import unknown_variables
from tests.query.seeding import make_token
from tests.support import roles
from tests.support.servers import Kafka, docker_answers
from tests.support.wait import wait_for
from tests.test_layers import FILES, imported

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
STEPS = re.findall(r"^([A-Z]+) (.+)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)
BASE = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))["PYTHON"]
NAME = "orgstats:test"


def arguments(step: str) -> list[str]:
    """What stands behind each step of a kind."""
    return [text for kind, text in STEPS if kind == step]


def test_the_base_is_pinned_and_the_same_for_building_and_running() -> None:
    """A venv works only on the Python that made it, so both stages have one base, of one exact version."""
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", BASE)
    assert [text.split()[0] for text in arguments("FROM")] == ["${PYTHON}", "${PYTHON}"]
    assert "PIP_CONSTRAINT=/src/requirements.lock" in DOCKERFILE


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    """Each source of a COPY is here, and .dockerignore lets it through."""
    let_through = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    sources = [source for text in arguments("COPY") if "--from" not in text for source in text.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source.partition("/")[0] in let_through


def test_embedded_servers_are_left_out_and_every_other_module_is_let_through() -> None:
    """Of deploy/ only the modules at its top: made-up traffic, but no broker and no engine; nothing needs those."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in ignored if "deploy" in line and "#" not in line] == ["!deploy", "deploy/*", "!deploy/*.py"]
    let_in = [*ROOT.glob("deploy/*.py"), *(p for p in FILES if not p.is_relative_to(ROOT / "deploy"))]
    needs_local = {
        str(path.relative_to(ROOT)) for path in let_in if any(".deploy.local" in name for name in imported(path))
    }
    assert needs_local == {"orgstats/cli/up.py"}, "which asks for the extra `local` first"


def test_user_is_not_root_and_env_names_are_settings() -> None:
    """The user is a number that is not 0; what the image sets, the program knows."""
    assert all(re.fullmatch(r"[1-9]\d+:[1-9]\d+", user) for user in arguments("USER"))
    names = {word.partition("=")[0] for text in arguments("ENV") for word in text.split()}
    assert {"ORGSTATS_LISTEN", "ORGSTATS_METRICS_LISTEN"} <= names
    assert not unknown_variables({name for name in names if name.startswith("ORGSTATS_")})


def test_version_label_equals_package_version() -> None:
    """The label has the version of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"ARG VERSION={project['version']}" in DOCKERFILE
    assert 'org.opencontainers.image.version="${VERSION}"' in DOCKERFILE
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in DOCKERFILE


def test_the_build_file_is_for_both_architectures_and_tells_what_is_inside() -> None:
    """Its arguments are the Dockerfile's, its version the package's; a list of all packages is attached."""
    bake = json.loads((ROOT / "deploy" / "docker-bake.json").read_text(encoding="utf-8"))
    target, variables = bake["target"]["orgstats"], bake["variable"]
    assert target["platforms"] == ["linux/amd64", "linux/arm64"]
    assert "type=sbom" in target["attest"]
    assert (ROOT / target["dockerfile"]).is_file()
    for name, value in target["args"].items():
        assert f"ARG {name}=" in DOCKERFILE
        assert value == f"${{{name}}}"
        assert dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))[name] == variables[name]["default"]


def test_health_check_command_compiles() -> None:
    """Its one line compiles; the test that runs the image sees it succeed."""
    (text,) = arguments("HEALTHCHECK")
    python, flag, program = json.loads(text.partition("CMD ")[2])
    assert (python, flag) == ("python", "-c")
    compile(program, "HEALTHCHECK", "exec")


def docker(*words: str, seconds: float = 60, check: bool = True) -> str:
    """What docker prints."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=seconds, check=False)
    assert not check or done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="session")
def image() -> str:
    """The image, built; the test is skipped where that cannot be, and the reason says what is missing."""
    if not docker_answers() or shutil.which("docker") is None:
        pytest.skip("needs a Docker engine and its client")
    if not docker("images", "-q", BASE) and subprocess.run(["docker", "pull", "-q", BASE], check=False).returncode:
        pytest.skip(f"needs the base image {BASE}: it is not here, and no registry gives it")
    docker("build", "--network=host", "-f", "deploy/Dockerfile", "-t", NAME, str(ROOT), seconds=280)
    return NAME


@pytest.fixture
def start(image: str) -> Iterator[Callable[..., str]]:
    """Starts locked-in containers on this machine's network: `start("consume", ORGSTATS_TOPIC="t")` gives the id."""
    started: list[str] = []

    def run(*command: str, **environment: str) -> str:
        variables = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        fences = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--stop-timeout=30"]
        started.append(docker("run", "-d", "--network=host", *fences, *variables, image, *command))
        return started[-1]

    yield run
    for container in started:
        docker("rm", "-f", container, check=False)


def stop(container: str) -> None:
    """SIGTERM ends it with 0, after Docker's own check has found it healthy."""
    healthy = ["inspect", "-f", "{{.State.Health.Status}}", container]
    wait_for(lambda: docker(*healthy) == "healthy", 60, poll_seconds=0.5)
    docker("stop", container)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", container) == "0", docker("logs", container)


@pytest.mark.timeout(600)  # building takes minutes
@pytest.mark.usefixtures("image")  # before the servers are started: without it they are not needed
def test_the_image_counts_and_answers_with_the_rights_of_each_role(
    start: Callable[..., str], kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    """Made-up events are counted as the consumer's user and shown as the API's, on a read-only root."""
    traffic = list(records(7, [Slot(time.time_ns() // 1_000_000, 1000, 500)]))
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for key, value, timestamp in traffic:
        producer.produce(topic, value, key, timestamp=timestamp)
    assert producer.flush(30) == 0
    consumer_port, api_port, metrics_port = free_ports(3)
    source = {"ORGSTATS_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "ORGSTATS_TOPIC": topic, "ORGSTATS_GROUP": topic}
    source |= {"ORGSTATS_TOPIC_ID": "" if kafka.real else "1"}

    directory = tmp_path / "clickhouse"
    roles.make_tables(directory)
    with roles.running_as(directory, "consumer") as url:
        listening = {"ORGSTATS_METRICS_LISTEN": f"127.0.0.1:{consumer_port}"}
        consumer = start("consume", ORGSTATS_CLICKHOUSE_URL=url, **listening, **source)
        with connect(url, client_name="tests") as client:
            counted = "SELECT (SELECT sum(events) FROM counts FINAL) + (SELECT count() FROM dead_letters FINAL)"
            wait_for(lambda: client.execute(counted) == [(500,)], 60, poll_seconds=0.5)
        stop(consumer)

    with (
        roles.unrestricted(directory) as url,
        Database(url, size=1) as database,
        connect(url, client_name="t") as client,
    ):
        [(organization, events)] = client.execute(
            "SELECT org_id, sum(accepted + filtered + rate_limited) AS events FROM totals FINAL WHERE width = 10"
            " GROUP BY org_id ORDER BY events DESC, org_id LIMIT 1"
        )
        Directory(database).add_organization(Wanted("largest", key=organization), 1.0)
        token = make_token(database, None)
    with roles.running_as(directory, "api") as url:
        listening = {"ORGSTATS_LISTEN": f"127.0.0.1:{api_port}", "ORGSTATS_METRICS_LISTEN": f"127.0.0.1:{metrics_port}"}
        api = start("serve", ORGSTATS_CLICKHOUSE_URL=url, **listening)
        address = f"http://127.0.0.1:{api_port}"
        wait_for(lambda: is_ready(address), 60, poll_seconds=0.5)
        shown = httpx.get(
            f"{address}/api/0/organizations/largest/stats/",
            params={
                "stat": "received",
                "resolution": "1h",
                "since": str(time.time() - 7200),
                "until": str(time.time()),
            },
            headers={"Authorization": f"Bearer {token}"},
        )
        assert sum(number for _, number in shown.json()) == events > 0
        stop(api)


def is_ready(address: str) -> bool:
    """Whether the API says that it can answer."""
    try:
        return httpx.get(f"{address}/healthz/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.timeout(600)
def test_image_holds_only_production_packages(image: str) -> None:
    """The extra for traces is in it; the embedded engine, the tests and what they need are not."""
    program = "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"
    installed = set(docker("run", "--rm", "--entrypoint=python", image, "-c", program).split())
    assert {"orgstats", "opentelemetry-sdk"} <= installed
    assert not {"chdb-core", "pytest", "mypy", "testcontainers", "setuptools"} & installed
    embedded = "import importlib.util as u, sys; sys.exit(u.find_spec('orgstats.deploy.local') is not None)"
    docker("run", "--rm", "--entrypoint=python", image, "-c", embedded)
    assert docker("run", "--rm", "--entrypoint=id", image, "-u") == "10001"
