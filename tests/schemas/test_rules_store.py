"""The history of the rules: append-only, by the server's clock, amended only by a new edition."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_driver import Client

from orgstats.clickhouse.connect import connect
from orgstats.consumer.store import rules as rules_store
from orgstats.consumer.store.rules import Period, history, load_history, period, publish, publish_file, server_now, void
from orgstats.errors import ConfigurationError, Refused
from orgstats.schemas.event import Event


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
    assert (loaded.edition, loaded.entries) == (0, ())


def test_an_entry_is_in_force_half_a_minute_after_it_was_published(client: Client) -> None:
    """What is published classifies records from 30 s after the server stored it, and none before."""
    entry = publish(client, toml(7), published_by="me@here", note="a try")
    assert entry is not None
    assert entry.effective_from - entry.published_at == timedelta(seconds=30)
    assert (entry.edition, entry.version, entry.published_by, entry.note) == (0, 1, "me@here", "a try")
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
    """An effective_from 30 s away or later is taken as it is; an earlier one stores nothing."""
    later = server_now(client).replace(microsecond=5000) + timedelta(hours=1)
    entry = publish(client, toml(1), published_by="me", effective_from=later)
    assert entry is not None
    assert entry.effective_from == later
    with pytest.raises(Refused, match="too soon"):
        publish(client, toml(2), published_by="me", effective_from=server_now(client) + timedelta(seconds=29))
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
    versions = [publish(client, toml(n), published_by="me") for n in (1, 2, 3)]
    starts = [round(row.effective_from.timestamp() * 1000) for row in versions if row]
    assert void(client, 2, note="wrong") == 1
    loaded = load_history(client)
    assert loaded.edition == 1
    assert loaded.classify(Event(0, org_id=1), starts[1]) == (1, "org 1")
    assert loaded.classify(Event(0, org_id=2), starts[1]) == (0, "")
    assert loaded.classify(Event(0, org_id=3), starts[2]) == (1, "org 3")
    assert [(row.version, row.voided, row.note) for row in history(client)] == [
        (1, False, ""),
        (2, True, "wrong"),
        (3, False, ""),
    ]
    assert [row.voided for row in history(client, edition=0)] == [False, False, False]


def test_the_only_entry_can_be_voided(client: Client) -> None:
    """A history whose every entry is voided classifies nothing, in its new edition."""
    publish(client, toml(1), published_by="me")
    assert void(client, 1) == 1
    assert (load_history(client).edition, load_history(client).entries) == (1, ())


def test_voiding_twice_makes_one_edition(client: Client) -> None:
    """void may be repeated after a lost answer."""
    publish(client, toml(1), published_by="me")
    assert (void(client, 1), void(client, 1)) == (1, 1)


def test_what_was_voided_is_not_published_again_unasked(client: Client) -> None:
    """A daemon that still has the wrong file does not bring it back at its next start; an operator can."""
    publish(client, toml(1), published_by="me")
    publish(client, toml(2), published_by="me")
    void(client, 2)
    assert publish(client, toml(2), published_by="daemon") is None
    assert publish(client, toml(1), published_by="me", again=True) is None
    entry = publish(client, toml(2), published_by="me", again=True)
    assert entry is not None
    assert (entry.edition, entry.version) == (1, 3)


def test_two_editions_at_once_are_noticed(
    client: Client, connected: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever voids on an edition that is no longer the highest is told so, and nothing is mixed."""
    publish(client, toml(1), published_by="me")
    publish(client, toml(2), published_by="me")
    other = connected()
    stale = history(other)
    void(client, 1)
    reads = iter([stale])
    monkeypatch.setattr(rules_store, "history", lambda _client: next(reads, None) or history(_client))
    with pytest.raises(Refused, match="void again"):
        void(other, 2)
    monkeypatch.undo()
    assert [row.voided for row in history(client)] == [True, False]
    assert void(other, 2) == 2


def test_an_edition_made_while_publishing_gets_the_entry_too(
    client: Client, connected: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that landed in an edition just replaced is published into the new one."""
    publish(client, toml(1), published_by="me")
    append, other = rules_store._append, connected()

    def append_late(*args: object) -> None:
        monkeypatch.undo()
        append(*args)  # type: ignore[arg-type]
        copy = "SELECT * REPLACE (toUInt32(1) AS edition) FROM rules WHERE version = 1"
        other.execute(f"INSERT INTO rules {copy}")

    monkeypatch.setattr(rules_store, "_append", append_late)
    entry = publish(client, toml(2), published_by="me")
    assert entry is not None
    assert (entry.edition, entry.version) == (1, 2)


def test_the_period_of_an_entry_is_what_has_to_be_repaired(client: Client) -> None:
    """A version was in force from its start to that of the next entry that is not voided."""
    rows = [publish(client, toml(n), published_by="me") for n in (1, 2, 3)]
    starts = [row.effective_from for row in rows if row]
    assert period(history(client), 1) == Period(starts[0], starts[1])
    assert period(history(client), 3) == Period(starts[2], None)
    void(client, 2)
    assert period(history(client), 1) == Period(starts[0], starts[2])
    with pytest.raises(ConfigurationError, match="no version 9"):
        period(history(client), 9)


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
