"""The capacity script: its figures against the real counting code, and its tables in the docs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orgstats.deploy.capacity import load, main, need
from tests.support.flushes import Traffic, simulate

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/scaling.md"


@pytest.mark.campaign
@pytest.mark.timeout(900)  # nine minutes of traffic, twice as many cells as records
@pytest.mark.parametrize("keyed", [True, False])
def test_rows_for_each_event_are_those_of_the_counting_code(keyed: bool) -> None:
    """The measured rows of the lowest rate come out of the counting code again, chunks as long as in production."""
    program = f"from tests.support.flushes import main; main([{keyed}], [1_000])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    (again,) = tomllib.loads(done.stdout)["rows"]
    measured = next(row for row in load()["rows"] if row["keyed"] is keyed and row["events_per_second"] == 1_000)
    assert measured["written"] == pytest.approx(again["written"], rel=0.1)
    assert measured["kept"] == pytest.approx(again["kept"], rel=0.1)
    flushed = simulate(Traffic(1_000, 20, 1_000, 4, keyed=keyed))
    assert load()["record_bytes"]["value"] == pytest.approx(flushed.record_bytes / flushed.records, rel=0.05)


def test_more_events_never_need_less() -> None:
    """Ten times the events need no fewer consumers, rows, cores or disk."""
    for keyed in (True, False):
        needs = [need(10**power, load(), keyed=keyed) for power in range(2, 8)]
        for name in ("consumers", "kafka_mb_per_second", "rows_per_second", "server_cores", "disk_gb"):
            values = [getattr(one, name) for one in needs]
            assert values == sorted(values), name


def test_every_figure_says_where_it_comes_from() -> None:
    """Each figure of the file has a source."""
    assert all(len(entry["source"]) > 20 for name, entry in load().items() if name != "rows")


@pytest.mark.parametrize("flags", [[], ["--unkeyed"]], ids=["keyed", "unkeyed"])
def test_the_page_has_the_tables_that_the_command_prints(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The tables of docs/scaling.md are made by the command beside them, with the figures as they are now."""
    main(flags)
    command = " ".join(["python -m orgstats.deploy.capacity", *flags])
    assert f"{command}\n```\n\n{capsys.readouterr().out}" in PAGE.read_text(encoding="utf-8")
