"""The operators' page as data: what the tables hold, what of it needs somebody, and who may see it."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orgstats.query.access import OPS_SCOPE
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.query.ops import Operating
from orgstats.query.ops_rows import Audit, Counted, Replay, Rules
from orgstats.schemas.tables import WatchedRow
from tests.query.seeding import Counted as Stored
from tests.query.seeding import insert_sources, make_token, moment
from tests.query.serving import running_api

NOW = 1_800_000_000_000
FORBIDDEN = {"detail": "You do not have permission to perform this action."}


def counted(**other: Any) -> Counted:
    """A healthy partition at NOW."""
    healthy = Counted(
        topic="outcomes", partition=3, position=1_000, has_progress=True, complete_until=NOW - 2_000,
        written_at=NOW - 1_000, cut_at=0, cut_to=0, retired=False, consumer="c1", log_start=0, log_end=1_010,
        readable_end=1_010, retention_deadline=NOW + 10**9, pause_reasons=(), seen_at=NOW - 3_000,
    )  # fmt: skip
    return healthy._replace(**other)


def test_nothing_is_told_of_a_healthy_partition() -> None:
    """A few records behind is no news, nor that a topic keeps little."""
    assert Operating(NOW, [counted()]).findings() == []
    assert Operating(NOW, [counted(retention_deadline=NOW + 600_000)]).findings() == []
    assert counted().lag == 10


@pytest.mark.parametrize(
    ("other", "what", "command"),
    [
        ({"has_progress": False, "position": 0}, "is not counted yet", "orgstats doctor --topic outcomes --quiet"),
        ({"seen_at": NOW - 10**6, "written_at": NOW - 10**6}, "for 17 min", "orgstats doctor --topic outcomes --quiet"),
        ({"log_end": 9_000, "readable_end": 9_000, "complete_until": NOW - 10**6}, "is 8,000 records and 17 min behind",
         "orgstats lag --topic outcomes --watch"),
        ({"log_end": 9_000, "readable_end": 1_000, "complete_until": NOW - 10**6}, "behind a transaction",
         "--topic outcomes --partition 3"),
        ({"retention_deadline": NOW + 3 * 3_600_000, "complete_until": NOW - 10**6}, "retention comes to them in 3 h",
         "--entity-name outcomes"),
        ({"pause_reasons": ("not stored", "rules")}, "consumer on c1 reads nothing: not stored, rules", "doctor"),
        ({"retention_deadline": NOW + 1, "complete_until": 0, "topic": "a;b"}, "a;b/3", "--entity-name 'a;b'"),
    ],
)  # fmt: skip
def test_what_needs_somebody_is_told_with_the_command(other: dict[str, Any], what: str, command: str) -> None:
    """Each by itself, and the name of a topic is quoted."""
    (found,) = Operating(NOW, [counted(**other)]).findings()
    assert found.level == "act"
    assert what in found.what
    assert command in found.command
    assert Operating(NOW, [counted(**other, retired=True)]).findings() == []


def test_a_cut_log_is_a_note_and_stands_below() -> None:
    """Consumers mend it by themselves."""
    cut = counted(cut_at=500, cut_to=1_500)
    assert [one.level for one in Operating(NOW, [cut]).findings()] == ["note"]
    silent = counted(partition=4, seen_at=1, written_at=1)
    assert [one.level for one in Operating(NOW, [cut, silent]).findings()] == ["act", "note"]


def test_a_consumer_that_pauses_is_told_once() -> None:
    """However many partitions it counts."""
    many = [counted(partition=n, pause_reasons=("rules",)) for n in range(5)]
    assert len(Operating(NOW, many).findings()) == 1
    assert len(Operating(NOW, [*many, counted(consumer="c2", pause_reasons=("rules",))]).findings()) == 2


def test_differences_hold_until_somebody_looks_as_closely() -> None:
    """Neither a sample, nor an audit that counted nothing again, nor one of other partitions takes them back."""
    wrong = Audit("a", ["outcomes/0", "outcomes/1"], True, 4, 4, 2, "outcomes/0 chunk 0 …", "x@y", NOW - 5)
    right = wrong._replace(audit_id="b", differences=0, first="", at=NOW)

    def told(*later: Audit) -> int:
        return len(Operating(NOW, audits=[*later, wrong]).findings())

    assert told() == 1
    assert told(right) == 0
    assert told(right._replace(by="consumer")) == 1
    assert told(right._replace(recount=False)) == 1
    assert told(right._replace(places=["outcomes/0"])) == 1
    assert wrong.command == "orgstats replay plan --repair --topic outcomes --partitions 0,1"


def test_an_interrupted_replay_is_gone_on_with() -> None:
    """By the command that began it; one that is at work is a note."""
    asked = {"topics": ["outcomes"], "partitions": [0, 4], "since": "-3h", "repair": True, "head": "refuse"}
    replay = Replay("75dbf191", "repair", json.dumps(asked), "x@y", 0, NOW - 10**6, NOW - 10**6, 3)
    (found,) = Operating(NOW, replays=[replay]).findings()
    assert found.command == "orgstats replay apply --topic outcomes --partitions 0,4 --since=-3h --repair"
    assert found.level == "act"
    (found,) = Operating(NOW, replays=[replay._replace(active_at=NOW - 1_000)]).findings()
    assert found.level == "note"
    assert Operating(NOW, replays=[replay._replace(step=1)]).findings() == []
    assert replay._replace(step=1).command == "orgstats replay undo 75dbf191"


def test_the_rules_in_force_are_the_last_that_have_come_into_force() -> None:
    """Of those that are not void."""
    entries = [Rules(n, str(n), NOW + at, "", "x", 0, "") for n, at in ((3, 60_000), (2, -1), (1, -(10**6)))]
    shown = Operating(NOW, rules=entries).answer()["rules"]
    assert [one["state"] for one in shown] == ["to come", "in force", "before"]


@pytest.fixture
def ask(database: Database, clickhouse_url: str, tmp_path: Path) -> Iterator[Any]:
    """Asks a server for the page's data with a token by its name."""
    Directory(database).add_organization(Wanted("acme", key=7), 1.0)
    tokens = {"org": make_token(database, 7), "all": make_token(database, None)}
    tokens["ops"], _ = Directory(database).create_token(
        org_id=None, name="ops", expires_at=None, now=time.time(), scope=OPS_SCOPE
    )
    tokens["ops of one"], _ = Directory(database).create_token(
        org_id=7, name="ops", expires_at=None, now=time.time(), scope=OPS_SCOPE
    )
    with running_api(clickhouse_url, tmp_path) as api:

        def ask(token: str | None, path: str = "/api/0/ops/") -> httpx.Response:
            headers = {"Authorization": f"Bearer {tokens.get(token, token)}"} if token else {}
            return httpx.get(api.url + path, headers=headers, timeout=60)

        yield ask


def test_only_the_scope_ops_sees_it(ask: Any) -> None:
    """Dead letters are of all organizations: no token that reads counts sees them, nor the other way round."""
    for token in ("org", "all", "ops of one"):
        assert (ask(token).status_code, ask(token).json()) == (403, FORBIDDEN)
    assert ask(None).status_code == ask("ost_" + "x" * 43).status_code == 401
    assert ask("ops").status_code == 200
    for path in ("/api/0/organizations/", "/api/0/organizations/acme/stats/", "/api/0/organizations/acme/metrics"):
        assert (ask("ops", path).status_code, ask("ops", path).json()) == (403, FORBIDDEN)


def test_it_shows_what_the_tables_hold(ask: Any, database: Database) -> None:
    """Partition by partition with what was seen of their logs, gaps, dead letters in full, audits."""
    now = time.time()
    insert_sources(
        database,
        [
            Stored(1, 0, complete_until=now - 5, next_offset=700),
            Stored(2, 1, complete_until=None),
            Stored(3, 0, topic_id="before", registered=0.5),
        ],
    )
    at = moment(now)
    database.insert("watched", [WatchedRow("outcomes", 0, "c1", 100, 1_000, 900, moment(now + 60), ["rules"], at)])
    database.insert("gaps", [(1, 10, 30, "retention", at), (1, 30, 35, "skip accepted", at)])
    letters = [
        (1, 50, "outcomes", 0, moment(100.0), "k", [("h", "v")], "[]", 2, "not_an_object", "no object", False, 50),
        (1, 51, "outcomes", 0, moment(200.0), b"\xff", [], b"\xfe{", 2, "not_json", "bad", False, 51),
        (1, 52, "outcomes", 0, moment(150.0), "", [], "x", 1, "not_json", "bad", False, 52),
        (1, 53, "outcomes", 0, moment(150.0), "", [], "x", 1, "not_json", "bad", True, 53),
    ]
    database.insert("dead_letters", letters)
    database.insert("audits", [("a1", ["outcomes/0"], True, 3, 2, 1, "outcomes/0 chunk 0", "x@y", at)])
    database.insert("erasures", [(9, "x@y", at, False)])
    found = ask("ops").json()
    first, second = found["partitions"]
    shown = ("topic", "partition", "position", "lag", "hidden", "log_end", "consumer", "pause_reasons")
    assert [first[name] for name in shown] == ["outcomes", 0, 700, 300, 100, 1_000, "c1", ["rules"]]
    assert first["complete_until"] == pytest.approx(now - 5, abs=0.002)
    assert (second["has_progress"], second["lag"], second["seen_at"]) == (False, None, None)
    assert (found["gaps"]["count"], found["gaps"]["offsets"]) == (2, 25)
    assert {(one["first"], one["end"]) for one in found["gaps"]["last"]} == {(10, 30), (30, 35)}
    (most, other) = found["dead_letters"]
    assert (most["reason"], most["records"], most["one"]["place"]) == ("not_json", 2, "outcomes/0/51")
    assert (most["one"]["key"], most["one"]["payload"]) == ("\\xff", "\\xfe{")
    assert other["one"]["headers"] == [["h", "v"]]
    assert found["audits"][0]["differences"] == 1
    assert [one["command"] for one in found["findings"] if "erasure" in one["what"]] == [
        "orgstats orgs erase 9 --execute"
    ]
    assert datetime.fromtimestamp(found["now"], UTC).year >= 2026


def test_an_empty_store_has_nothing_to_show(ask: Any) -> None:
    """Nor anything to do."""
    found = ask("ops").json()
    assert (found["partitions"], found["findings"], found["dead_letters"]) == ([], [], [])
