"""`orgstats rules` and `orgstats config`, as an operator types them."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from orgstats.cli import main
from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.grid import CHUNK_LENGTH

RULES = '[[rule]]\noutcome = "filtered"\nreason = "bots"\nuser_agent = ["*bot*"]\norg_id = [5]\n'


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Orgstats = Callable[..., Done]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Orgstats:
    """Runs `orgstats` with arguments, without any server."""
    for name in ("ORGSTATS_CLICKHOUSE_URL", "ORGSTATS_TOPIC", "ORGSTATS_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["orgstats", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def orgstats(offline: Orgstats, clickhouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Orgstats:
    """Runs `orgstats` with arguments against a fresh database."""
    monkeypatch.setenv("ORGSTATS_CLICKHOUSE_URL", clickhouse_url)
    return offline


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    """A valid rules file."""
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def test_check_tells_faults_with_file_and_line(offline: Orgstats, rules_file: Path) -> None:
    """A good file is counted; a bad one ends with 78 and one line for each fault."""
    assert offline("rules", "check", rules_file) == (0, f"{rules_file}: 1 rules, no faults\n", "")
    rules_file.write_text("[[rule]]\noutcome = 'filtered'\nreason = ''\nurls = ['x']\n")
    done = offline("rules", "check", rules_file)
    assert done.code == 78
    assert re.findall(rf"{re.escape(str(rules_file))}:(\d+): rule 1: ", done.err) == ["1", "3", "4"]


def test_publish_show_ls_and_diff_agree(orgstats: Orgstats, rules_file: Path) -> None:
    """What was published is listed, shown byte for byte, and differs from nothing until the file does."""
    assert orgstats("rules", "publish", rules_file, "--dry-run").out == "new\n"
    published = orgstats("rules", "publish", rules_file, "--note", "crawlers")
    assert re.fullmatch(r"published version 1, in force from 2\d{3}-[\d-]+T[\d:]+\.\d{3}Z\n", published.out)
    assert orgstats("rules", "publish", rules_file).out.startswith("nothing new")
    assert orgstats("rules", "show").out == RULES
    names, row = [line.split("\t") for line in orgstats("rules", "ls").out.splitlines()]
    assert names == ["version", "id", "state", "effective from", "published", "by", "note"]
    assert (row[0], row[2], row[6]) == ("1", "later", "crawlers")
    told = json.loads(orgstats("rules", "ls", "--json").out)
    assert (told["toml"], told["state"], told["voided"]) == (RULES, "later", False)
    assert orgstats("rules", "diff", rules_file) == (0, "", "")
    rules_file.write_text(RULES.replace("[5]", "[6]"))
    changed = orgstats("rules", "diff", rules_file)
    assert changed.code == 1
    assert "-org_id = [5]\n+org_id = [6]\n" in changed.out
    assert orgstats("rules", "publish", rules_file).code == 0
    assert "+org_id = [6]" in orgstats("rules", "diff", "1", "2").out
    assert orgstats("rules", "show", "1").out == RULES


def test_a_start_in_the_past_is_refused(orgstats: Orgstats, rules_file: Path) -> None:
    """An effective-from of less than 30 s ahead ends with 78 and stores nothing; a later one is kept."""
    refused = orgstats("rules", "publish", rules_file, "--effective-from", "+20s")
    assert (refused.code, "too soon" in refused.err) == (78, True)
    assert len(orgstats("rules", "ls").out.splitlines()) == 1  # the names of the columns
    done = orgstats("rules", "publish", rules_file, "--effective-from", "2100-01-01")
    assert done.out.endswith("in force from 2100-01-01T00:00:00.000Z\n")
    assert orgstats("rules", "publish", rules_file, "--effective-from", "soon").code == 78


@pytest.mark.parametrize(
    ("record", "last"),
    [
        ('{"timestamp":1,"user_agent":"Googlebot","org_id":5}', "classification: filtered, 'bots'"),
        ('{"timestamp":1,"user_agent":"Firefox","org_id":5}', "classification: accepted, no rule matches"),
        ('{"timestamp":1,"outcome":2}', "the record has outcome 2 already: rules are not asked"),
    ],
)
def test_rules_test_names_rule_and_condition(
    offline: Orgstats, rules_file: Path, tmp_path: Path, record: str, last: str
) -> None:
    """A sample record is classified by a file without any server, each condition explained."""
    sample = tmp_path / "record.json"
    sample.write_text(record)
    done = offline("rules", "test", sample, "--file", rules_file)
    assert done.out.splitlines()[-1] == last
    if "Googlebot" in record:
        assert done.out.splitlines()[:3] == [
            "rule 1 (line 1): filtered, 'bots'",
            "  org_id 5 matches 5",
            "  user_agent 'Googlebot' matches '*bot*'",
        ]


def test_rules_test_uses_rules_in_force_at_a_time(orgstats: Orgstats, rules_file: Path, tmp_path: Path) -> None:
    """Without a file the history decides, at the record's Kafka timestamp."""
    sample = tmp_path / "record.json"
    sample.write_text('{"timestamp":1,"user_agent":"Googlebot","org_id":5}')
    assert orgstats("rules", "publish", rules_file).code == 0
    assert orgstats("rules", "test", sample).err == "no rules are in force at that time\n"
    later = orgstats("rules", "test", sample, "--at", "+1h")
    assert (later.err, later.out.splitlines()[-1]) == ("classified by version 1\n", "classification: filtered, 'bots'")


def test_rules_test_names_a_dead_letter(offline: Orgstats, rules_file: Path, tmp_path: Path) -> None:
    """A sample that cannot be decoded ends with 1 and its reason code."""
    sample = tmp_path / "record.json"
    sample.write_text("{")
    done = offline("rules", "test", sample, "--file", rules_file)
    assert (done.code, "not_json" in done.err) == (1, True)


def test_void_plans_then_acts_and_names_the_replay(orgstats: Orgstats, clickhouse_url: str) -> None:
    """void changes nothing until told to; then the history has a new edition, and the repair can be copied."""
    with connect(clickhouse_url, client_name="tests") as client:
        for version, hours in ((1, 5), (2, 3), (3, 1)):
            client.execute(
                "INSERT INTO rules SELECT %(id)s, %(v)s, "
                "toDateTime64('2024-01-02 12:00:00', 3, 'UTC') - toIntervalHour(%(h)s), '', 'me', now64(3), '', 0",
                {"id": f"id{version}", "v": version, "h": hours},
            )
        client.execute(
            f"INSERT INTO sources SELECT 1, 'outcomes', 'x', 0, {CHUNK_LENGTH}, 'read_committed', 0, now64(3)"
        )
    command = (
        "orgstats replay apply --repair --topic outcomes --since 2024-01-02T09:00:00.000Z"
        " --until 2024-01-02T11:00:00.000Z\n"
    )
    assert orgstats("rules", "void", 2).out == command
    states = [line.split("\t")[2] for line in orgstats("rules", "ls").out.splitlines()]
    assert states == ["state", "past", "past", "in force"]
    done = orgstats("rules", "void", 2, "--execute", "--note", "blocked everyone")
    assert (done.out, "edition 1-" in done.err) == (command, True)
    _, *rows = [line.split("\t") for line in orgstats("rules", "ls").out.splitlines()]
    assert [(row[2], row[-1]) for row in rows] == [("past", ""), ("voided", "blocked everyone"), ("in force", "")]
    assert orgstats("rules", "void", 9).code == 78


def test_an_entry_that_never_was_in_force_needs_no_repair(orgstats: Orgstats, rules_file: Path) -> None:
    """Voided before it came into force, an entry did nothing."""
    orgstats("rules", "publish", rules_file)
    done = orgstats("rules", "void", 1, "--execute")
    assert (done.out, "nothing to repair" in done.err) == ("", True)


def test_config_check_tells_every_fault_at_once(offline: Orgstats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of all commands and misspelt variables come together, without any value."""
    monkeypatch.setenv("ORGSTATS_CLICKHOUSE_URL", "clickhouse://me:s3cret@host/db")
    monkeypatch.setenv("ORGSTATS_RETENTION_DAYS", "s3cret")
    monkeypatch.setenv("ORGSTATS_FLUSH_SECOND", "2")
    done = offline("config", "check", "consume", "migrate")
    assert done.code == 78
    assert "ORGSTATS_FLUSH_SECOND: no such setting; did you mean ORGSTATS_FLUSH_SECONDS?" in done.err
    assert "consume: ORGSTATS_BOOTSTRAP_SERVERS: Field required" in done.err
    assert "consume: ORGSTATS_TOPIC: Field required" in done.err
    assert "migrate: ORGSTATS_RETENTION_DAYS: " in done.err
    assert "s3cret" not in done.err


def test_config_show_masks_and_names_origins(offline: Orgstats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is shown with where it comes from, a password never."""
    monkeypatch.setenv("ORGSTATS_CLICKHOUSE_URL", "clickhouse://me:s3cret@host/db")
    assert offline("config", "show", "migrate", "--origin").out == (
        "[migrate]\n"
        "ORGSTATS_CLICKHOUSE_URL=clickhouse://me:****@host/db  # environment\n"
        "ORGSTATS_RETENTION_DAYS=  # default\n"
        "ORGSTATS_CLUSTER=  # default\n"
    )
    assert offline("config", "check", "migrate").out == "no faults\n"
