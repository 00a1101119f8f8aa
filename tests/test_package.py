"""What the package is from outside: one name, little of it needed, and one line where something is missing."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import orgstats
from orgstats import cli
from orgstats.deploy.local import mock_kafka
from tests.fuzz.records import NOW, plain, records
from tests.support import oracle

ROOT = Path(__file__).parents[1]
ALLOWED = re.compile(r"orgstats/.*\.(py|pyi|pyx|so|sql|html|css|js|svg)|orgstats/py\.typed|.*\.dist-info/.*")
DATA = {
    "orgstats/deploy/capacity.toml",
    "orgstats/deploy/local/apache_kafka/pom.xml",
    "orgstats/deploy/local/rules.toml",
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheel` makes of this tree; made before where ORGSTATS_TEST_DIST says so."""
    if made := os.environ.get("ORGSTATS_TEST_DIST"):
        return Path(made)
    if shutil.which("cc") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs a C compiler")
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(["make", "-s", "wheel", f"DIST={directory}"], cwd=ROOT, check=True, timeout=280)
    return directory


@pytest.mark.campaign  # compiles all that is compiled
def test_the_wheel_holds_orgstats_and_nothing_else(dist: Path) -> None:
    """No other name at the top, no library, no fixture, no chart; the data files that the code reads are there."""
    [wheel] = dist.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    assert {name for name in names if not ALLOWED.fullmatch(name)} == DATA
    for folder, pattern in (("schemas", "*.sql"), ("query/dashboard", "*.*")):
        data = {path for path in (ROOT / folder).rglob(pattern) if path.suffix != ".pyc"}
        assert {f"orgstats/{path.relative_to(ROOT)}" for path in data} <= names


@pytest.mark.campaign  # installs, twice
@pytest.mark.parametrize("source", [False, True], ids=["wheel", "source"])
def test_where_there_is_no_compiler_the_wheel_is_compiled_and_the_source_counts_the_same(
    dist: Path, tmp_path: Path, *, source: bool
) -> None:
    """In an environment of its own, the one and the other read a topic and count it to the last cell."""
    [package] = dist.glob("*.tar.gz" if source else "*.whl")
    if sys.platform == "linux" and not source:
        assert re.search(r"-(many|musl)linux_\d+_\d+_\w+\.whl$", package.name)
    python, lock = tmp_path / "bin" / "python", str(ROOT / "requirements.lock")
    env = {name: os.environ[name] for name in os.environ.keys() - {"CC", "PYTHONPATH", "VIRTUAL_ENV"}}
    env["PATH"] = str(python.parent)
    assert not any(shutil.which(name, path=env["PATH"]) for name in ("cc", "gcc", "clang"))
    for command in (
        ["venv", "--python", sys.executable, str(tmp_path)],
        ["pip", "install", "--python", str(python), "-c", lock, "--build-constraints", lock, f"{package}[consumer]"],
    ):
        subprocess.run([sys.executable, "-m", "uv", "--quiet", *command], check=True, timeout=240, env=env)
    topic = [plain(random.Random(7), NOW) for _ in range(900)] + list(records(7, 100))
    told, truth = _counted(python, [one.value for one in topic], tmp_path / "kafka.log", env)
    assert Path(told["file"]).is_relative_to(tmp_path)
    assert told["compiled"] == [not source] * 3
    assert told["why_not_batches"] == ("there was no C compiler at installation" if source else "")
    assert {tuple(cell): count for cell, count in told["cells"]} == truth


def _counted(
    python: Path, values: list[bytes | None], log: Path, env: dict[str, str]
) -> tuple[dict[str, Any], dict[tuple[object, ...], int]]:
    """What a Python told of a topic with these values, and what its cells must be."""
    kafka = mock_kafka.start(log)
    try:
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        for number, value in enumerate(values):
            producer.produce("installed", value, partition=number % mock_kafka.PARTITIONS, timestamp=1_000 * NOW)
        assert not producer.flush(30)
        command = [str(python), "-P", f"{ROOT}/tests/support/installed.py", kafka.bootstrap_servers, "installed"]
        command.append(str(mock_kafka.PARTITIONS))
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", env=env, timeout=120)
    finally:
        kafka.stop()
    parts = mock_kafka.PARTITIONS
    read = [oracle.Record(at % parts, at // parts, 1_000 * NOW, value) for at, value in enumerate(values)]
    truth: dict[tuple[object, ...], int] = {}
    for cell, (quantity, events) in oracle.count(read).counts().items():
        truth |= {(*cell, "quantity"): quantity, (*cell, "events"): events}
    return json.loads(done.stdout.splitlines()[-1]), truth


def test_the_client_needs_httpx_alone() -> None:
    """Importing it brings in none of the packages of the extras."""
    heavy = sorted(set(cli.EXTRAS) - {"rich", "typer"})
    program = f"import orgstats.query.client, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd="/")
    assert done.stdout == "[]\n"


def test_the_version_is_printed() -> None:
    """`orgstats --version`, as scripts ask; also where no extra is installed (-S leaves all packages out)."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['orgstats', '--version']\n"
    program += "from orgstats.cli import main; main()"
    done = subprocess.run([sys.executable, "-S", "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == f"orgstats {orgstats.__version__}\n"


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("typer", ["--help"], "cli"),
        ("confluent_kafka", ["lag"], "consumer"),
        ("starlette", ["serve"], "api"),
        ("chdb", ["up"], "local"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_remedy(package: str, arguments: list[str], extra: str) -> None:
    """No trace, exit code 78, and the command that installs it."""
    program = (
        "import importlib.abc, sys\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.partition('.')[0] == {package!r}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"sys.argv = ['orgstats', *{arguments!r}]\n"
        "from orgstats.cli import main; main()\n"
    )
    servers = {"ORGSTATS_BOOTSTRAP_SERVERS": "127.0.0.1:1", "ORGSTATS_TOPIC": "x"}
    servers["ORGSTATS_CLICKHOUSE_URL"] = "clickhouse://127.0.0.1:1/x"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=servers, timeout=60, check=False
    )
    assert done.stderr == f"orgstats: this needs {package}: pip install 'orgstats[{extra}]'\n"
    assert done.returncode == 78
