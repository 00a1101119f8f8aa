"""What the package is from outside: one name, little of it needed, and one line where something is missing."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import orgstats
from orgstats import cli

ROOT = Path(__file__).parents[1]
ALLOWED = re.compile(r"orgstats/.*\.(py|pyi|pyx|so|sql|html|css|js|svg)|orgstats/py\.typed|.*\.dist-info/.*")
DATA = {
    "orgstats/deploy/capacity.toml",
    "orgstats/deploy/local/apache_kafka/pom.xml",
    "orgstats/deploy/local/rules.toml",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that is built of this tree."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(directory), str(ROOT)]
    subprocess.run(command, check=True, timeout=240)
    return zipfile.ZipFile(next(directory.glob("*.whl")))


@pytest.mark.campaign  # compiles all that is compiled
def test_the_wheel_carries_the_compiled_code(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Taken out of the wheel it counts and reads; without a compiler the wheel is built, too, and would not."""
    if shutil.which("cc") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs a C compiler")
    wheel.extractall(tmp_path)
    program = (
        "from orgstats.consumer.counting import batch; from orgstats.consumer.kafka import reading\n"
        "print(batch.__file__, batch.COMPILED, reading.COMPILED, repr(reading.why_not_batches()))"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd="/", env=env)
    assert done.stdout == f"{tmp_path}/orgstats/consumer/counting/batch.py True True ''\n"


@pytest.mark.campaign
def test_the_wheel_holds_orgstats_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """No other name at the top, no fixture, no chart; the data files that the code reads are there."""
    names = set(wheel.namelist())
    assert {name for name in names if not ALLOWED.fullmatch(name)} == DATA
    for folder, pattern in (("schemas", "*.sql"), ("query/dashboard", "*.*")):
        data = {path for path in (ROOT / folder).rglob(pattern) if path.suffix != ".pyc"}
        assert {f"orgstats/{path.relative_to(ROOT)}" for path in data} <= names


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
