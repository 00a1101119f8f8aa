"""The history of the rules: append-only, by the server's clock, amended only by voiding."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgstats.clickhouse.connect import INSERT_SETTINGS, TIMEOUT_SECONDS, connect
from orgstats.consumer.rules_copy import RULES_SECONDS
from orgstats.consumer.store import rules as rules_store
from orgstats.consumer.store.rules import (
    CLOCK_SECONDS,
    KNOWN_SECONDS,
    LEAD_SECONDS,
    STALE_SECONDS,
    Period,
    editions,
    find,
    history,
    load_history,
    period,
    publish,
    publish_file,
    server_now,
    void,
)
from orgstats.errors import ConfigurationError, Refused, Unavailable
from orgstats.schemas.event import Event
from orgstats.schemas.tables import RulesRow, insert
from tests.support.replicas import Statements


def toml(org_id: int) -> str:
    """A file whose one rule filters an organization."""
    return f'[[rule]]\noutcome = "filtered"\nreason = "org {org_id}"\norg_id = [{org_id}]\n'


@pytest.fixture
def connected(clickhouse_url: str) -> Iterator[Callable[[], Client]]:
    """Makes connections to a fresh database."""
    clients: list[Client] = []

    def new() -> Client:
        clients.append(connect(clickhouse_url, client_name="tests"))
        return clients[-1]

    yield new
    for client in clients:
        client.disconnect()


@pytest.fixture
def client(connected: Callable[[], Client]) -> Client:
    """A connection to a fresh database."""
    return connected()


def test_a_fresh_history_is_empty(client: Client) -> None:
    """Before anything is published the edition is 0 and no rule is in force."""
    loaded = load_history(client)
    assert (loaded.edition, loaded.entries) == ("0", ())


def test_an_entry_is_in_force_a_while_after_it_was_published(client: Client) -> None:
    """What is published classifies records from the lead after the server stored it, and none before."""
    entry = publish(client, toml(7), published_by="me@here", note="a try")
    assert entry is not None
    assert entry.effective_from - entry.published_at == timedelta(seconds=LEAD_SECONDS)
    assert (entry.version, entry.published_by, entry.note) == (1, "me@here", "a try")
    start = round(entry.effective_from.timestamp() * 1000)
    loaded = load_history(client)
    assert loaded.classify(Event(0, org_id=7), start - 1) == (0, "")
    assert loaded.classify(Event(0, org_id=7), start) == (1, "org 7")


def test_only_what_is_new_is_published(client: Client) -> None:
    """The same text again makes no entry; another one, or the first after another, does."""
    assert publish(client, toml(1), published_by="me")
    assert publish(client, toml(1), published_by="you") is None
    assert publish(client, toml(2), published_by="me")
    third = publish(client, toml(1), published_by="me")
    assert third is not None
    assert third.version == 3


def test_a_start_can_be_chosen_but_not_too_soon(client: Client) -> None:
    """An effective_from as far away as the lead or later is taken as it is; an earlier one stores nothing."""
    later = server_now(client).replace(microsecond=5000) + timedelta(hours=1)
    entry = publish(client, toml(1), published_by="me", effective_from=later)
    assert entry is not None
    assert entry.effective_from == later
    with pytest.raises(Refused, match="too soon"):
        publish(
            client, toml(2), published_by="me", effective_from=server_now(client) + timedelta(seconds=LEAD_SECONDS - 1)
        )
    assert len(history(client)) == 1


def test_publishers_at_once_lose_nothing(connected: Callable[[], Client]) -> None:
    """Of several who publish at the same time every entry stays and is classified by in its turn."""
    clients = [connected() for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        tasks = [threads.submit(publish, c, toml(n), published_by=f"p{n}") for n, c in enumerate(clients)]
        assert all(task.result() is not None for task in tasks)
    assert {row.toml for row in history(clients[0])} == {toml(n) for n in range(6)}
    assert len(load_history(clients[0]).entries) == 6


def test_a_voided_entry_never_was_in_force(client: Client) -> None:
    """After void the entry before it classifies its records; the next one is as it was, and the edition is new."""
    versions = [publish(client, toml(n), published_by="me", note=f"org {n}") for n in (1, 2, 3)]
    starts = [round(row.effective_from.timestamp() * 1000) for row in versions if row]
    edition = void(client, "2", note="wrong")
    loaded = load_history(client)
    assert loaded.editions == ("0", edition)
    assert loaded.classify(Event(0, org_id=1), starts[1]) == (1, "org 1")
    assert loaded.classify(Event(0, org_id=2), starts[1]) == (0, "")
    assert loaded.classify(Event(0, org_id=3), starts[2]) == (1, "org 3")
    assert [(row.version, row.voided, row.note) for row in history(client)] == [
        (1, False, "org 1"),
        (2, True, "org 2; voided: wrong"),
        (3, False, "org 3"),
    ]


def test_the_only_entry_can_be_voided(client: Client) -> None:
    """A history whose every entry is voided classifies nothing, in its new edition."""
    publish(client, toml(1), published_by="me")
    edition = void(client, "1")
    assert (load_history(client).edition, load_history(client).entries) == (edition, ())
    assert edition != "0"


def test_voiding_twice_makes_one_edition(client: Client) -> None:
    """void may be repeated after a lost answer."""
    publish(client, toml(1), published_by="me")
    assert void(client, "1") == void(client, "1") == load_history(client).edition


def test_what_was_voided_is_not_published_again_unasked(client: Client) -> None:
    """A daemon that still has the wrong file does not bring it back at its next start; an operator can."""
    publish(client, toml(1), published_by="me")
    publish(client, toml(2), published_by="me")
    void(client, "2")
    assert publish(client, toml(2), published_by="daemon") is None
    assert publish(client, toml(1), published_by="me", again=True) is None
    entry = publish(client, toml(2), published_by="me", again=True)
    assert entry is not None
    assert entry.version == 3


def test_a_void_tells_the_edition_that_is_in_force(client: Client) -> None:
    """That of the erased organizations too."""
    publish(client, toml(1), published_by="me")
    client.execute(insert("erasures"), [(7, "me", datetime(2026, 1, 1, tzinfo=UTC), True)])
    assert void(client, "1") == load_history(client).edition


def test_an_entry_is_seen_in_time_by_every_worker_or_taken_back() -> None:
    """The lead covers storing and reading back, each with all the client's time, and the age of a worker's copy."""
    assert LEAD_SECONDS >= 2 * TIMEOUT_SECONDS + STALE_SECONDS + CLOCK_SECONDS
    assert INSERT_SETTINGS["insert_quorum_timeout"] / 1000 < TIMEOUT_SECONDS
    assert STALE_SECONDS > RULES_SECONDS


def test_rules_that_could_be_seen_late_are_taken_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """When reading back shows too little time left, the entry is voided; published again, it is new."""
    now = rules_store.server_now
    late = timedelta(seconds=LEAD_SECONDS - KNOWN_SECONDS + 1)
    monkeypatch.setattr(rules_store, "server_now", lambda client: now(client) + late)
    with pytest.raises(Unavailable, match=r"taken back: .* publish again"):
        publish(client, toml(1), published_by="me")
    assert [row.voided for row in history(client)] == [True]
    assert load_history(client).entries == ()
    monkeypatch.undo()
    assert publish(client, toml(1), published_by="me")
    assert len(load_history(client).entries) == 1


def test_the_history_is_written_by_what_every_replica_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbering an entry and voiding it catch up first; taking back, for which time is short, reads nothing."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    entry = RulesRow(
        "aaaa", 3, now + timedelta(seconds=LEAD_SECONDS), toml(1), "me", now, "", datetime(1970, 1, 1, tzinfo=UTC)
    )
    clock, there = [now], list[RulesRow]()

    def answer(query: str) -> list[Any]:
        if query.startswith("INSERT"):
            there[:] = [entry]
            return []
        if "FROM erasures" in query:
            return []
        return there if "FROM rules" in query else [(round(clock[0].timestamp() * 1000),)]

    monkeypatch.setattr(rules_store, "token_hex", lambda _: entry.entry_id)
    statements = Statements(monkeypatch, answer)
    replica = connect("clickhouse://127.0.0.1:1/none", client_name="tests")
    assert publish(replica, toml(1), published_by="me") == entry
    void(replica, "3")
    assert (statements.inserts, statements.too_early) == (2, [])
    clock[0], there[:] = now + timedelta(hours=1), []
    with pytest.raises(Unavailable, match="taken back"):
        publish(replica, toml(1), published_by="me")
    assert (statements.inserts, statements.too_early) == (4, [])
    assert statements.sent[-1].startswith("INSERT")
    assert not statements.sent[-2].startswith("SYSTEM")


def test_rules_whose_insert_has_no_answer_are_taken_back_before_they_arrive(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An insert that timed out and is stored all the same, later, is never in force."""
    append, sent = rules_store._append, []

    def no_answer(*args: Any) -> None:
        sent.append(args)
        raise driver_errors.ServerException("quorum", 319)

    monkeypatch.setattr(rules_store, "_append", no_answer)
    with pytest.raises(Unavailable, match="taken back"):
        publish(client, toml(1), published_by="me")
    append(*sent[0])
    assert [(row.toml, row.voided) for row in history(client)] == [(toml(1), True)]
    assert load_history(client).entries == ()


def test_a_publisher_without_any_answer_names_the_entry(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even taking back is answered, the text has the id that void takes."""
    monkeypatch.setattr(client, "execute", lambda *_args, **_more: (_ for _ in ()).throw(OSError("gone")))
    monkeypatch.setattr(rules_store, "history", lambda _client: [])
    with pytest.raises(Unavailable, match=r"orgstats rules void [0-9a-f]{16} --execute"):
        publish(client, toml(1), published_by="me")


def test_refused_rules_are_not_taken_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ClickHouse refused for good was not stored: the error is told as it is."""

    def refuse(*_args: Any) -> None:
        raise driver_errors.ServerException("rights", 497)

    monkeypatch.setattr(rules_store, "_append", refuse)
    with pytest.raises(driver_errors.ServerException):
        publish(client, toml(1), published_by="me")
    assert history(client) == []


def test_one_of_two_entries_with_a_version_is_voided_by_its_id(client: Client) -> None:
    """The version alone is not enough then, and the other entry stays."""
    add(client, "aaaa", 1)
    add(client, "bbbb", 1)
    with pytest.raises(ConfigurationError, match="aaaa, bbbb"):
        void(client, "1")
    void(client, "aaaa")
    assert [(row.entry_id, row.voided) for row in history(client)] == [("aaaa", True), ("bbbb", False)]


def add(client: Client, entry_id: str, version: int, *, voided: bool = False) -> None:
    """The row of a publisher, or of somebody who voids; also of one who did not see the others."""
    client.execute(
        "INSERT INTO rules SELECT %(id)s, %(version)s, now64(3) + 60, %(toml)s, 'me', now64(3), '', "
        + ("now64(3)" if voided else "0"),
        {"id": entry_id, "version": version, "toml": toml(int(entry_id, 16))},
    )


Write = tuple[str, int, bool]
"""(entry id, version, whether it voids)."""


@given(writes=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 2), st.booleans()), max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_entry_is_lost_in_any_order_of_publishing_and_voiding(client: Client, writes: list[Write]) -> None:
    """Whatever comes first, twice or under one version: each entry is there once, out only if somebody voided it."""
    client.execute("TRUNCATE TABLE rules")
    for entry_id, version, voids in writes:
        add(client, entry_id, version, voided=voids)
    wanted = {entry_id: any(one == entry_id and voids for one, _, voids in writes) for entry_id, *_ in writes}
    rows = history(client)
    assert len(rows) == len(wanted)
    assert {row.entry_id: row.voided for row in rows} == wanted
    loaded = load_history(client)
    assert len(loaded.entries) == sum(not voided for voided in wanted.values())
    assert len(set(loaded.editions)) == 1 + sum(wanted.values())


def test_two_who_void_at_once_make_different_editions(client: Client) -> None:
    """What is voided makes the edition, so that of two workers who each saw one void none takes it for the other's."""
    rows = [row for n in (1, 2) if (row := publish(client, toml(n), published_by="me"))]
    one, other = ([row._replace(voided_at=row.published_at) if row is gone else row for row in rows] for gone in rows)
    assert editions(one)[-1] != editions(other)[-1]


def test_the_period_of_an_entry_is_what_has_to_be_repaired(client: Client) -> None:
    """A version was in force from its start to that of the next entry that is not voided."""
    rows = [publish(client, toml(n), published_by="me", note=f"org {n}") for n in (1, 2, 3)]
    starts = [row.effective_from for row in rows if row]

    def of(version: int) -> Period:
        entries = history(client)
        return period(entries, find(entries, str(version)))

    assert of(1) == Period(starts[0], starts[1])
    assert of(3) == Period(starts[2], None)
    void(client, "2")
    assert of(1) == Period(starts[0], starts[2])
    with pytest.raises(ConfigurationError, match="no version 9"):
        of(9)


def test_a_file_is_checked_before_it_is_published(client: Client, tmp_path: Path) -> None:
    """A bad file stores nothing, and each fault names file and line; a good one is published."""
    path = tmp_path / "rules.toml"
    path.write_text("[[rule]]\nreason = 5\n")
    with pytest.raises(ConfigurationError) as error:
        publish_file(client, path)
    assert [line.split(":")[:2] for line in str(error.value).splitlines()] == [
        [str(path), "1"],
        [str(path), "1"],
        [str(path), "2"],
    ]
    with pytest.raises(ConfigurationError, match="No such file"):
        publish_file(client, tmp_path / "none.toml")
    assert history(client) == []
    path.write_text(toml(5))
    entry = publish_file(client, path)
    assert entry is not None
    assert "@" in entry.published_by


def test_text_is_stored_as_it_is(client: Client) -> None:
    """Quotes, backslashes, percent signs and any letter survive the way to the server and back."""
    text = f"# %s %(x)s ' \" \\ \\n \t ü \U0001f600 {{}} ; --\n{toml(1)}"
    entry = publish(client, text, published_by="o'neil@host", note="100 % sure\\")
    assert entry is not None
    assert (entry.toml, entry.published_by, entry.note) == (text, "o'neil@host", "100 % sure\\")


def test_rules_of_a_newer_program_are_refused(client: Client) -> None:
    """An entry that cannot be read must not be skipped: the worker is told to be upgraded."""
    publish(client, '[[rule]]\noutcome = "filtered"\nreason = "r"\nphase_of_moon = ["full"]\n', published_by="me")
    with pytest.raises(Refused, match="need a newer orgstats: line 1"):
        load_history(client)


def test_the_servers_clock_is_in_utc(client: Client) -> None:
    """The time that periods are compared with is the server's, and near ours here."""
    assert abs(server_now(client) - datetime.now(UTC)) < timedelta(minutes=1)
