"""The units in deploy/systemd say nothing that the program or systemd does not know."""

import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from orgstats.consumer.daemon import LEAVE_SECONDS
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import ConfigurationError, OrgstatsError, Refused, Unavailable
from orgstats.query.settings import QuerySettings
from tests.deploy.commands import SETTINGS, understood, unknown_variables

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
DAEMONS = [name for name in UNITS if "migrate" not in name]
EXAMPLE = FOLDER / "orgstats.env.example"


def unit(name: str) -> dict[str, list[str]]:
    """Every key of a unit with its values, in order."""
    found = defaultdict(list)
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def environment(name: str) -> dict[str, str]:
    """A unit's variables for its first instance, the example file's over its own."""
    lines = EXAMPLE.read_text(encoding="utf-8").replace("\n#ORGSTATS", "\nORGSTATS").splitlines()
    own = [value.replace("%H", "host").replace("%i", "1") for value in unit(name)["Environment"]]
    return dict(line.split("=", 1) for line in (*own, *lines) if line.startswith("ORGSTATS_"))


@pytest.mark.parametrize("name", UNITS)
def test_each_command_and_variable_is_one_of_ours(name: str) -> None:
    """What a unit starts exists, and its variables with the example's are enough for it."""
    (line,) = unit(name)["ExecStart"]
    program, *words = shlex.split(line)
    assert program == "/opt/orgstats/bin/orgstats"
    understood(words)
    assert not unknown_variables(set(environment(name)))
    SETTINGS[words[0]].from_env(environment(name))


@pytest.mark.parametrize("name", DAEMONS)
def test_restart_only_for_retryable_exit_codes(name: str) -> None:
    """A wrong setting and a refusal stay down for a person to read; an outage and a bug are tried again, for ever."""
    stay_down = {int(code) for code in unit(name)["RestartPreventExitStatus"][0].split()}
    assert stay_down == {2, ConfigurationError.exit_code, Refused.exit_code}
    assert not stay_down & {Unavailable.exit_code, OrgstatsError.exit_code}
    assert unit(name)["Restart"] == ["on-failure"]
    assert unit(name)["StartLimitIntervalSec"] == ["0"]


def test_stop_timeout_covers_shutdown() -> None:
    """systemd kills only after the time that a graceful end may take."""
    leave = ConsumerSettings.model_fields["revoke_seconds"].default + LEAVE_SECONDS
    assert int(unit("orgstats-consume@.service")["TimeoutStopSec"][0]) > leave
    query = {name: field.default for name, field in QuerySettings.model_fields.items()}
    answering = query["drain_seconds"] + query["query_timeout_seconds"] + 1
    assert int(unit("orgstats-serve.service")["TimeoutStopSec"][0]) > answering


def test_no_password_stands_in_a_unit() -> None:
    """Units can be read by everybody: what is secret comes from the environment's file."""
    for name in UNITS:
        assert unit(name)["EnvironmentFile"][0] == "/etc/orgstats/orgstats.env"
        assert not re.search("PASSWORD|CLICKHOUSE_URL", (FOLDER / name).read_text(encoding="utf-8"))


def test_all_units_have_the_same_sandbox() -> None:
    """No unit has fewer fences than the others."""
    fences = [(FOLDER / name).read_text(encoding="utf-8").partition("\nDynamicUser")[2] for name in UNITS]
    assert all(fences)
    assert len({fence.partition("\n[Install]")[0].strip() for fence in fences}) == 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian's systemd)")
def test_systemd_analyze_accepts_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, and `security` finds little that a unit may do."""
    program = tmp_path / "orgstats"
    program.symlink_to(shutil.which("true") or "/bin/true")
    paths = []
    for name in UNITS:
        text = (FOLDER / name).read_text(encoding="utf-8").replace("/opt/orgstats/bin/orgstats", str(program))
        (tmp_path / name).write_text(text)
        paths.append(str(tmp_path / name))
    verified = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    looked = ["systemd-analyze", "security", "--offline=true", "--threshold=15", *paths]
    fenced = subprocess.run(looked, capture_output=True, text=True, check=False)
    assert fenced.returncode == 0, fenced.stdout[-500:]
