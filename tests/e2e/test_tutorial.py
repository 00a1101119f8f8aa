"""Every command of docs/tutorial.md, in its order, against the demo, and what the page says of it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orgstats.deploy.local import apache_kafka
from orgstats.deploy.local.paths import cache_dir
from tests.support.wait import wait_for

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The demo runs, and this is the environment of the other terminal."""
    if why := apache_kafka.runnable():
        pytest.skip(why)
    directory = tmp_path_factory.mktemp("tutorial")
    (directory / "kafka").symlink_to(cache_dir() / "kafka")  # the jars are here already
    own = {name: value for name, value in os.environ.items() if not name.startswith("ORGSTATS_")}
    own |= {"ORGSTATS_CACHE": str(directory), "ORGSTATS_LISTEN": "127.0.0.1:0"}
    own["PATH"] = f"{Path(sys.executable).parent}:{own['PATH']}"
    out, err = directory / "out.txt", directory / "err.txt"
    with out.open("w") as to_out, err.open("w") as to_err:
        process = subprocess.Popen(["orgstats", "up"], env=own, stdout=to_out, stderr=to_err)
    try:
        wait_for(lambda: "curl" in out.read_text() or process.poll() is not None, 240)
        assert process.poll() is None, err.read_text()
        own["PRINTED"] = out.read_text()
        yield own
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def blacklisted(environment: dict[str, str]) -> dict[str, int]:
    """By hour, of the last day, as the page asks for them."""
    [query] = {line for line in COMMANDS if "--stat blacklisted" in line and line.startswith("orgstats query")}
    found = re.findall(r"(\S+:00:00Z) +([\d,]+)", run(query, environment))
    return {hour: int(number.replace(",", "")) for hour, number in found}


def hours_around_the_mistake(environment: dict[str, str]) -> list[str]:
    """The hour before it, its hour, and the one after; they stay the same when the test runs into another hour."""
    [text] = re.findall(r"^2\t\S+\t\S+\t(\S+)\t", run("orgstats rules ls", environment), re.MULTILINE)
    at = datetime.fromisoformat(text)
    return [f"{at + timedelta(hours=n):%Y-%m-%dT%H:00:00Z}" for n in (-1, 0, 1)]


def run(line: str, environment: dict[str, str]) -> str:
    """A command as it stands on the page; what it printed."""
    script = f'eval "$(orgstats up --env)"\n{line}'
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == int("replay plan" in line), f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_every_command_of_the_tutorial(environment: dict[str, str]) -> None:
    """None fails; the mistaken hour stands out until it is mended, and again once that is undone.

    Beside the mean of the hours around it: traffic may be a fifth more or less in each hour than in the one before.
    """
    earlier, mistaken, later = hours_around_the_mistake(environment)
    before = blacklisted(environment)
    assert len(before) == 24
    assert before[mistaken] > 1.5 * (before[earlier] + before[later]) / 2
    seen = {}
    for line in COMMANDS:
        seen[line] = run(line, environment)
        if line.startswith("orgstats replay apply"):
            mended = blacklisted(environment)
            assert mended[mistaken] < 1.25 * (mended[earlier] + mended[later]) / 2
    assert blacklisted(environment)[mistaken] == before[mistaken]
    assert "0 wrong" in seen["orgstats audit --recount --partitions 0"]
    assert "localhost" in next(text for line, text in seen.items() if "--by reason" in line)


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_the_printed_curl_answers_a_whole_day(environment: dict[str, str]) -> None:
    """24 points, of which none but the last is small."""
    [(token, url)] = re.findall(r"Bearer (\S+)' '(http[^']*)'", environment["PRINTED"])
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as response:
        counts = [count for _, count in json.load(response)]
    assert len(counts) == 24
    assert min(counts[:-1]) > max(counts) / 6
