"""deploy/compose.yaml says nothing that the program, the images or the files beside it do not know."""

import re
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from orgstats.clickhouse.connect import connect
from orgstats.clickhouse.url import parse
from orgstats.consumer.daemon import LEAVE_SECONDS
from orgstats.consumer.ops.clickhouse_versions import OLDEST_TESTED, faults, numbers
from orgstats.consumer.settings import ConsumerSettings
from orgstats.deploy.local import apache_kafka
from orgstats.query.settings import QuerySettings
from tests.deploy.commands import SETTINGS, understood, unknown_variables

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("orgstats:") and "entrypoint" not in s}


def seconds(text: str) -> float:
    """A duration as compose writes it."""
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("name", OURS)
def test_each_command_and_variable_is_one_of_ours(name: str) -> None:
    """What a service of ours is told exists, and is enough to start it."""
    service = OURS[name]
    understood(list(service["command"]))
    environment = dict(service["environment"])
    assert not unknown_variables({key for key in environment if key.startswith("ORGSTATS_")})
    environment["ORGSTATS_CLICKHOUSE_URL"] = "clickhouse://u:p@h/d"
    environment.pop("ORGSTATS_CLICKHOUSE_URL_FILE")
    SETTINGS[service["command"][0]].from_env(environment)


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_is_pinned(name: str) -> None:
    """An image's tag names a version, not whatever is newest."""
    assert re.search(r":v?\d+\.\d+(\.\d+)?$", SERVICES[name]["image"])


def test_servers_are_those_that_the_tests_run_against() -> None:
    """Kafka has the version that the tests use; ClickHouse one between the oldest and the engine of the tests."""
    assert SERVICES["kafka"]["image"] == SERVICES["topic"]["image"] == f"apache/kafka:{apache_kafka.VERSION}"
    release = numbers(SERVICES["clickhouse"]["image"].partition(":")[2])[:2]
    assert OLDEST_TESTED <= release <= numbers(version("chdb-core"))[:2]
    assert faults(f"{release[0]}.{release[1]}.99.99", replicated=True) == []


@pytest.mark.parametrize(
    "name", [name for name, service in SERVICES.items() if service["image"].startswith("orgstats:")]
)
def test_our_containers_are_read_only_without_capabilities(name: str) -> None:
    """Our containers write nowhere, have no capability, and get none."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_no_password_is_written_down() -> None:
    """Passwords come from files that are made when first needed; none stands in an environment or on a command line."""
    for service in SERVICES.values():
        for key, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|_URL", key):
                assert str(value).startswith("/run/"), key
    text = FILE.read_text(encoding="utf-8")
    assert re.findall(r"://[^/@\s{]+:[^/@\s{]+@", text) == []


def test_the_api_has_a_user_of_its_own_and_no_other_password(tmp_path: Path, clickhouse_server: str) -> None:
    """What makes the passwords writes the SQL for that user, which the engine reads, and keeps both when run again."""
    assert [volume.partition(":")[0] for volume in SERVICES["api"]["volumes"]] == ["api-secrets"]
    script = SERVICES["passwords"]["command"][0].replace("/run/", f"{tmp_path}/")
    (tmp_path / "orgstats").mkdir()
    (tmp_path / "api").mkdir()
    for _ in range(2):
        exec(script, {})
        url = (tmp_path / "api" / "clickhouse-url").read_text()
        made = (tmp_path / "orgstats" / "users.sql").read_text()
    address = parse(url)
    assert (address.user, sha256(address.password.encode()).hexdigest() in made) == ("api", True)
    assert address.password not in made
    with connect(clickhouse_server, client_name="tests") as client:
        for statement in made.split(";\n"):
            assert client.execute(f"EXPLAIN AST {statement}")
    assert "INSERT" not in made


def test_run_once_services_are_dependencies_until_completed() -> None:
    """`up --wait` takes the end of a one-shot service for success only if another service waits for it."""
    once = {name for name, service in SERVICES.items() if service["restart"] == "no"}
    waited_for = {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert once == waited_for


def test_long_running_services_have_health_checks() -> None:
    """Servers have a health check of their own, or that of the image; only made-up traffic has none."""
    running = {name: service for name, service in SERVICES.items() if service["restart"] != "no"}
    for name, service in running.items():
        own = service.get("healthcheck")
        assert own is not None or service["image"].startswith("orgstats:"), name
        assert name == "traffic" or not (own or {}).get("disable"), name


def test_stop_grace_period_covers_shutdown() -> None:
    """Containers are killed only after the time that a graceful end may take."""
    leave = ConsumerSettings.model_fields["revoke_seconds"].default + LEAVE_SECONDS
    for name in ("consumer-1", "consumer-2"):
        assert seconds(SERVICES[name]["stop_grace_period"]) > leave
    query = {name: field.default for name, field in QuerySettings.model_fields.items()}
    assert seconds(SERVICES["api"]["stop_grace_period"]) > query["drain_seconds"] + query["query_timeout_seconds"] + 1


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_has_a_limit(name: str) -> None:
    """One that leaks is ended instead of the machine; servers that hold many files open may."""
    assert re.fullmatch(r"\d+g", SERVICES[name]["mem_limit"])
    if name in ("clickhouse", "kafka"):
        assert SERVICES[name]["ulimits"]["nofile"]["hard"] >= 100_000


def test_ports_are_open_to_this_machine_only() -> None:
    """Nothing is published beyond loopback."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_files_and_volumes_exist() -> None:
    """What is mounted from here is here, and each named volume is declared and used."""
    sources = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert all((FILE.parent / source).exists() for source in sources if source.startswith("."))
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])


def test_prometheus_targets_are_services() -> None:
    """Each target is a service, on the port on which it serves its metrics."""
    config = yaml.safe_load((FILE.parent / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = {t for job in config["scrape_configs"] for static in job["static_configs"] for t in static["targets"]}
    image = (FILE.parent / "Dockerfile").read_text(encoding="utf-8")
    default = re.findall(r"ORGSTATS_METRICS_LISTEN=(\S+)", image)[0]
    daemons = {name: s for name, s in OURS.items() if s["command"][0] in ("consume", "serve")}
    assert targets == {
        f"{name}:{service['environment'].get('ORGSTATS_METRICS_LISTEN', default).rpartition(':')[2]}"
        for name, service in daemons.items()
    }
