"""The commands of the query side, as processes would call them."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orgstats.cli.app import app
from orgstats.errors import OrgstatsError
from orgstats.query import sql
from orgstats.query.clickhouse import Database
from tests.query.seeding import EXAMPLE, EXAMPLE_FIRST, Cell, insert_counts
from tests.query.serving import running_api

UNTIL = "2020-03-22T20:00:00Z"


class Command:
    """Runs `orgstats` over one database; gives what it prints on stdout."""

    def __init__(self, url: str) -> None:
        self._env = {"ORGSTATS_CLICKHOUSE_URL": url}
        self.stderr = ""

    def __call__(self, *words: str, exit_code: int = 0) -> str:
        result = CliRunner().invoke(app, words, env=self._env)
        self.stderr = result.stderr
        code = result.exit_code
        if isinstance(result.exception, OrgstatsError):
            code, self.stderr = result.exception.exit_code, str(result.exception)
        assert code == exit_code, result.output
        return result.stdout


@pytest.fixture
def orgstats(clickhouse_url: str) -> Command:
    return Command(clickhouse_url)


ORGS = "id\tslug\tname\n"


def test_orgs_add_and_ls(orgstats: Command) -> None:
    """Added with or without an id, and listed; what was done is on stderr."""
    assert orgstats("orgs", "add", "acme", "--id", "7", "--name", "Acme") == "7\n"
    assert orgstats.stderr == "Organization 7, acme (Acme): added.\n"
    assert orgstats("orgs", "add", "second") == "8\n"
    assert orgstats("orgs", "ls") == ORGS + "7\tacme\tAcme\n8\tsecond\tsecond\n"


def test_existing_organization_changes_only_with_rename(orgstats: Command) -> None:
    """Added again it stays as it is; another slug or name is refused without --rename, which resets nothing else."""
    orgstats("orgs", "add", "acme", "--id", "7", "--name", "Acme")
    for words in (("acme",), ("acme", "--id", "7"), ("acme", "--name", "Acme", "--rename")):
        assert orgstats("orgs", "add", *words) == "7\n"
        assert "unchanged" in orgstats.stderr
    for words in (("emca", "--id", "7"), ("acme", "--name", "Other")):
        orgstats("orgs", "add", *words, exit_code=2)
        assert "--rename" in orgstats.stderr
    assert orgstats("orgs", "ls") == ORGS + "7\tacme\tAcme\n"
    orgstats("orgs", "add", "emca", "--id", "7", "--rename")
    assert orgstats.stderr == "Organization 7, emca (Acme): renamed.\n"
    orgstats("orgs", "add", "emca", "--name", "Emca", "--rename")
    assert orgstats("orgs", "ls") == ORGS + "7\temca\tEmca\n"


def test_id_with_events_is_refused(orgstats: Command, database: Database) -> None:
    """Whoever sent them, a new organization or project must not show them."""
    insert_counts(database, [Cell(1, 0, 5), Cell(2, 0, 5)])
    assert orgstats("orgs", "add", "acme") == "3\n"
    insert_counts(database, [Cell(3, 0, 5, project_id=1), Cell(9, 0, 5, project_id=2)])
    assert orgstats("projects", "add", "acme", "pump") == "2\n"


def test_orgs_rm_revokes_tokens(orgstats: Command) -> None:
    """It is nobody's slug or id any more, its tokens are revoked and stay so; added again it has its projects."""
    orgstats("orgs", "add", "acme", "--id", "7")
    orgstats("projects", "add", "acme", "pump")
    orgstats("tokens", "create", "--org", "acme")
    orgstats("orgs", "rm", "acme")
    assert orgstats.stderr == "Organization 7, acme: removed, 1 tokens revoked.\n"
    assert orgstats("orgs", "ls") == ORGS
    for name in ("acme", "7"):
        orgstats("orgs", "rm", name, exit_code=2)
        orgstats("query", name, exit_code=2)
    assert orgstats("tokens", "ls").split("\n")[1].split("\t")[1:5] == ["7", "removed", "org:read", "revoked"]
    assert orgstats("orgs", "add", "other") == "8\n"
    assert orgstats("orgs", "add", "again", "--id", "7") == "7\n"
    assert "added" in orgstats.stderr
    assert "pump" in orgstats("projects", "ls", "again")
    assert "revoked" in orgstats("tokens", "ls")


@pytest.mark.parametrize("slug", ["Acme", "1", "a b", "", "é", "-x", "a" * 101, "a/b", "a\n"])
def test_invalid_slugs_are_refused(slug: str, orgstats: Command) -> None:
    """What could be an id, or not stand in a URL, is refused."""
    orgstats("orgs", "add", "--", slug, exit_code=2)
    assert "is not a slug" in orgstats.stderr


def test_taken_slug_is_refused(orgstats: Command) -> None:
    """Another organization's slug is refused, and so is an id that no event can carry."""
    orgstats("orgs", "add", "acme", "--id", "7")
    orgstats("orgs", "add", "acme", "--id", "8", exit_code=2)
    assert "belongs to id 7" in orgstats.stderr
    orgstats("orgs", "add", "huge", "--id", str(2**63), exit_code=2)


def test_projects_add_and_ls(orgstats: Command) -> None:
    """Projects live in an organization, which must be there."""
    orgstats("projects", "add", "acme", "pump", exit_code=2)
    orgstats("orgs", "add", "acme")
    assert orgstats("projects", "add", "acme", "pump", "--id", "11") == "11\n"
    assert orgstats("projects", "ls", "acme") == ORGS + "11\tpump\tpump\n"


def test_tokens_create_ls_and_revoke(orgstats: Command, database: Database) -> None:
    """The token is printed alone and once; ls and the tables hold only its hash; revoking shows."""
    orgstats("orgs", "add", "acme")
    token = orgstats("tokens", "create", "--org", "acme", "--name", "grafana", "--expires", "+90d").strip()
    assert re.fullmatch(r"ost_[A-Za-z0-9_-]{43}", token)
    names, row = orgstats("tokens", "ls").splitlines()
    assert names.split("\t") == ["id", "org", "slug", "scopes", "state", "expires", "name"]
    listed = row.split("\t")
    assert listed[1:5] == ["1", "acme", "org:read", "valid"]
    assert token not in "".join(listed) + orgstats.stderr
    assert token not in repr(database.read(sql.tokens()))
    orgstats("tokens", "revoke", listed[0])
    assert orgstats("tokens", "ls").splitlines()[1].split("\t")[4] == "revoked"


def test_contradictory_token_options_are_usage_errors(orgstats: Command) -> None:
    """For nobody, for one and all, for an organization that is not there, or over already: usage errors."""
    for words in (
        ("create",),
        ("create", "--all", "--org", "x"),
        ("create", "--org", "nope"),
        ("create", "--all", "--expires", "-1h"),
        ("create", "--all", "--expires", "tomorrow"),
        ("create", "--all", "--expires", "1784824400000"),
        ("revoke", "nope"),
    ):
        assert orgstats("tokens", *words, exit_code=2) == ""


def test_query_prints_table_json_csv_and_plot(orgstats: Command, database: Database) -> None:
    """The same numbers as a table, JSON, CSV and a picture."""
    orgstats("orgs", "add", "acme", "--id", "1")
    insert_counts(database, [Cell(1, EXAMPLE_FIRST + 3600 * hour, n) for hour, n in enumerate(EXAMPLE)])
    words = ("query", "acme", "--until", UNTIL)
    table = orgstats(*words)
    assert table.startswith("time                  received\n2020-03-21T21:00:00Z     6,090\n")
    assert table.endswith(f"total                  {sum(EXAMPLE):,}\n")
    assert json.loads(orgstats(*words, "--json"))[0] == [1584824400.0, 6090]
    assert orgstats(*words, "--csv").splitlines()[:2] == ["timestamp,count", "1584824400,6090"]
    assert "11,448" in orgstats(*words, "--plot")
    assert orgstats("query", "1", "--since", "-7d").count("Z         0\n") == 7 * 24 + 1  # hours that the week touches
    orgstats("query", "1", "--until", str(int(time.time() * 1000)), exit_code=2)
    assert "seconds, not milliseconds?" in orgstats.stderr
    assert orgstats("query", "1", "--stat", "rejected", "--since", "-2h", "--resolution", "1h").startswith("time  ")


def test_query_by_groups(orgstats: Command, database: Database, clickhouse_url: str, tmp_path: Path) -> None:
    """Totals, the highest first; as CSV and JSON each interval, by project totals alone; from a server the same."""
    orgstats("orgs", "add", "acme", "--id", "1")
    words = ("query", "acme", "--since", "65", "--until", "175")
    assert orgstats(*words, "--by", "project").split() == ["project", "count"]
    cells = [Cell(1, 100, 3, project_id=11), Cell(1, 150, 4000, 2, reason="a,\x1b", project_id=12)]
    insert_counts(database, [*cells, Cell(1, 100, 9, category=2), Cell(1, 100, 5, 5), Cell(1, 180, 7)])
    token = orgstats("tokens", "create", "--org", "acme").strip()
    with running_api(clickhouse_url, tmp_path) as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORGSTATS_TOKEN", token)
        for where in ((), ("--url", api.url)):
            by_project = (*words, "--by", "project", *where)
            assert orgstats(*by_project) == "project  count\n12       4,000\n11           3\n"
            assert orgstats(*by_project, "--csv") == "project,count\n11,3\n12,4000\n"
            answer = json.loads(orgstats(*by_project, "--json", "--stat", "rejected"))
            assert answer["groups"] == [{"by": {"project": 12}, "totals": {"sum(quantity)": 4000}}]
            assert "intervals" not in answer
            table = orgstats(*words, "--by", "category,outcome", *where).splitlines()
            assert [line.split() for line in table] == [
                ["outcome", "category", "count"],
                ["rate_limited", "error", "4,000"],
                ["accepted", "transaction", "9"],
                ["client_discard", "error", "5"],
                ["accepted", "error", "3"],
            ]
            by_reason = (*words, "--by", "reason", *where)
            assert "a,\\x1b  4,000\n" in orgstats(*by_reason)
            assert orgstats(*by_reason, "--csv").splitlines() == [
                "reason,timestamp,count",
                *('"a,\x1b",60,0', '"a,\x1b",120,4000', "none,60,3", "none,120,0"),
            ]
            answer = json.loads(orgstats(*by_reason, "--json"))
            assert answer["intervals"] == ["1970-01-01T00:01:00Z", "1970-01-01T00:02:00Z"]
            assert answer["groups"][1]["series"] == {"sum(quantity)": [3, 0]}
            for since, interval, length in (("-7d", "1h", 168), ("-90d", "1d", 90), ("-2h", "15m", 8)):
                given = () if since != "-2h" else ("--resolution", interval)
                read = orgstats("query", "acme", "--since", since, "--by", "outcome", *given, "--json", *where)
                assert len(json.loads(read)["intervals"]) in (length, length + 1)
    orgstats(*words, "--by", "outcome", "--plot", exit_code=2)
    orgstats(*words, "--by", "outcome,hour", exit_code=2)
    assert "'hour' is none of outcome, category, reason, project" in orgstats.stderr
    orgstats(*words, "--by", "outcome", "--resolution", "10s", exit_code=2)


def test_query_url_asks_a_server(
    orgstats: Command, clickhouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --url a server is asked, with the token of the environment, and its refusals are told."""
    orgstats("orgs", "add", "acme", "--id", "1")
    token = orgstats("tokens", "create", "--org", "acme").strip()
    words = ("query", "acme", "--since", "0", "--until", "5", "--json", "--url")
    with running_api(clickhouse_url, tmp_path) as api:
        orgstats(*words, api.url, exit_code=78)
        assert "ORGSTATS_TOKEN" in orgstats.stderr
        monkeypatch.setenv("ORGSTATS_TOKEN", token)
        assert orgstats(*words, api.url) == "[[0.0, 0]]\n"
        monkeypatch.setenv("ORGSTATS_TOKEN", "ost_wrong")
        orgstats(*words, api.url, exit_code=2)
        assert "Invalid token" in orgstats.stderr


def test_unknown_names_and_times_are_usage_errors(orgstats: Command) -> None:
    """Unknown organizations, stats, times and resolutions are usage errors with a text."""
    orgstats("orgs", "add", "acme")
    for words in (("nope",), ("acme", "--stat", "x"), ("acme", "--since", "x"), ("acme", "--resolution", "5m")):
        assert orgstats("query", *words, exit_code=2) == ""
    orgstats("query", "acme", "--stat", "x", exit_code=2)
    assert "received, rejected, blacklisted, generated" in orgstats.stderr
    orgstats("query", "acme", "--json", "--csv", exit_code=2)


def test_missing_clickhouse_url_exits_78() -> None:
    """The setting that is missing is named, with exit code 78."""
    command = Command("")
    os.environ.pop("ORGSTATS_CLICKHOUSE_URL", None)
    command("orgs", "ls", exit_code=78)
    assert "ORGSTATS_CLICKHOUSE_URL" in command.stderr


def test_unreachable_clickhouse_exits_69() -> None:
    """Nobody listens there: exit code 69."""
    Command("clickhouse://127.0.0.1:1/default")("orgs", "ls", exit_code=69)
