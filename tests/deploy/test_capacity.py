"""The capacity model: its formulas against the real counting code, its figures, its command, its table in the docs."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from orgstats.deploy.capacity.__main__ import main
from orgstats.deploy.capacity.figures import Figures, load, sources
from orgstats.deploy.capacity.model import Load, hours_per_flush, kept_per_second, need, rows_per_flush
from orgstats.deploy.capacity.shape import Shape
from orgstats.deploy.capacity.simulation import Counted, Traffic, simulate

TOLERANCE = 0.25
"""The formulas know shares only; the traffic draws its kinds of events from a pool, which lacks the rarest."""
PAGE = Path(__file__).parents[2] / "docs/scaling.md"


@pytest.fixture(scope="module", params=[True, False], ids=["keyed", "unkeyed"])
def simulated(request: pytest.FixtureRequest) -> tuple[Traffic, Counted]:
    """Two buckets of traffic, counted by the real code."""
    traffic = Traffic(1_000, 20, organizations=300, partitions=4, keyed=request.param, flush_seconds=5)
    return traffic, simulate(traffic)


def load_of(traffic: Traffic) -> tuple[Load, Shape]:
    """The same as the model is asked."""
    return (
        Load(traffic.events_per_second, traffic.organizations, traffic.partitions, keyed=traffic.keyed),
        Shape(traffic.organizations),
    )


def test_rows_of_a_flush_are_those_of_the_counting_code(simulated: tuple[Traffic, Counted]) -> None:
    """The formula for rows per flush meets what the real partitions hand out, with keys and without."""
    traffic, counted = simulated
    rows, project_rows = rows_per_flush(*load_of(traffic), traffic.partitions, traffic.flush_seconds)
    flushed = traffic.seconds / traffic.flush_seconds
    assert rows == pytest.approx(counted.rows / flushed, rel=TOLERANCE)
    assert project_rows == pytest.approx(counted.project_rows / flushed, rel=TOLERANCE)
    hours = hours_per_flush(*load_of(traffic), traffic.partitions, traffic.flush_seconds)
    assert hours == pytest.approx(counted.hour_rows / flushed, rel=TOLERANCE)


def test_rows_kept_are_the_cells_of_the_counting_code(simulated: tuple[Traffic, Counted]) -> None:
    """The formula for rows that stay after merging meets the cells of the real chunks."""
    traffic, counted = simulated
    counts, project_counts = kept_per_second(*load_of(traffic), traffic.partitions)
    assert counts == pytest.approx(len(counted.cells) / traffic.seconds, rel=TOLERANCE)
    assert project_counts == pytest.approx(len(counted.project_cells) / traffic.seconds, rel=TOLERANCE)


def test_records_are_as_large_as_the_figure_says(simulated: tuple[Traffic, Counted]) -> None:
    """Bytes of a record, which decide what Kafka has to carry."""
    _, counted = simulated
    assert counted.record_bytes / counted.records == pytest.approx(load().record_bytes, rel=0.05)


def test_more_events_need_more_and_never_less() -> None:
    """Ten times the events never need fewer partitions, consumers, rows, disk, servers or time of a query."""
    figures = load()
    for keyed in (True, False):
        needs = [need(Load(10.0**power, 1_000, keyed=keyed), figures) for power in range(2, 8)]
        for name in ("partitions", "consumers", "rows_per_second", "disk_gb", "servers", "largest_rows"):
            values = [getattr(one, name) for one in needs]
            assert values == sorted(values), name


def test_without_keys_each_partition_has_every_organization() -> None:
    """Un-keyed, rows grow with the partitions; keyed they do not, but the largest organization fills one of them."""
    figures = load()
    keyed, unkeyed = (
        [need(Load(100_000, 1_000, partitions, keyed=keyed, flush_seconds=1), figures) for partitions in (8, 64)]
        for keyed in (True, False)
    )
    assert keyed[0].rows_per_second == keyed[1].rows_per_second
    assert unkeyed[1].rows_per_second > 1.3 * unkeyed[0].rows_per_second > keyed[0].rows_per_second
    assert unkeyed[1].hottest_partition == 1 / 64
    assert keyed[1].hottest_partition == Shape(1_000).largest > 0.1


def test_longer_chunks_keep_fewer_rows() -> None:
    """Where a partition fills a chunk in less than a bucket, cells are kept for each of them."""
    asked = Load(1_000_000, 10_000, 32)
    short, long = (need(replace(asked, chunk_length=1 << bits), load()) for bits in (17, 21))
    assert long.counts_kept < 0.7 * short.counts_kept


def test_every_figure_says_where_it_comes_from() -> None:
    """Each figure of the model stands in the file, with a source."""
    assert set(sources()) == {field.name for field in fields(Figures)}
    assert all(len(source) > 20 for source in sources().values())


def test_the_command_answers_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each thing needed, or all of it as JSON."""
    words = ["--events-per-second", "10_000_000", "--orgs", "100000", "--keyed"]
    assert main(words) == 0
    assert "MORE THAN ONE PROCESS CAN COUNT" in capsys.readouterr().out
    assert main([*words, "--partitions", "512", "--replicas", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["partitions"], found["replicas"]) == (512, 2)


def test_other_figures_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with figures of another machine replaces those it has; a wrong one is named and ends with 78."""
    other = tmp_path / "figures.toml"
    other.write_text("[record_bytes]\nvalue = 1000\n")
    words = ["--events-per-second", "1000", "--figures", str(other), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["kafka_mb_per_second"] == 1.0
    for text in ("[speed]\nvalue = 1\n", "[record_bytes]\nvalue = 0\n", "record_bytes = 1\n", "["):
        other.write_text(text)
        assert main(words) == 78
        assert str(other) in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--unkeyed", "--keyed"])
def test_the_page_has_the_tables_that_the_command_prints(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The tables of docs/scaling.md are made by the command beside them, with the figures as they are now."""
    assert main(["--table", flag]) == 0
    table = capsys.readouterr().out
    assert f"python -m orgstats.deploy.capacity --table {flag}\n```\n\n{table}" in PAGE.read_text(encoding="utf-8")
