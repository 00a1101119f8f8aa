"""`orgstats dead-letters redrive --in-place`: which replays it asks for."""

from types import SimpleNamespace

import pytest

from orgstats.cli import redrive
from orgstats.cli.redrive import RedriveCommand
from orgstats.cli.replay import PlanOptions, Scope
from orgstats.consumer.counting.grid import CHUNK_LENGTH, Grid
from orgstats.consumer.ops import dead_letters
from orgstats.errors import DifferenceFound

LETTERS = [("a", 3, 5), ("a", 3, 6), ("a", 3, CHUNK_LENGTH + 1), ("b", 0, 7)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Scope]:
    """The scopes of the replays that were planned or applied; each of them finds a difference."""
    scopes: list[Scope] = []

    def replay(scope: Scope) -> None:
        scopes.append(scope)
        raise DifferenceFound("1 cell would change")

    letters = [
        SimpleNamespace(topic=topic, partition=partition, offset=offset, source_id=partition)
        for topic, partition, offset in LETTERS
    ]
    store = SimpleNamespace(grids=lambda ids: dict.fromkeys(ids, Grid()))
    monkeypatch.setattr(dead_letters, "pages", lambda *_: iter([letters]))
    monkeypatch.setattr(RedriveCommand, "connections", lambda *_: SimpleNamespace(store=store))
    monkeypatch.setattr(redrive, "plan_replay", replay)
    monkeypatch.setattr(redrive, "apply_replay", replay)
    return scopes


@pytest.mark.parametrize("execute", [False, True])
def test_in_place_repairs_each_chunk_with_dead_letters_once(asked: list[Scope], *, execute: bool) -> None:
    """One replay a chunk, on the servers and at the rate that were given, whether or not the one before differed."""
    redrive.redrive(RedriveCommand(bootstrap_servers="kafka:1", in_place=True, rate=5.0, execute=execute))
    chunks = [("a", "3", 0), ("a", "3", CHUNK_LENGTH), ("b", "0", 0)]
    assert [(scope.topic, scope.partitions, scope.from_offset) for scope in asked] == [
        ([topic], partition, chunk) for topic, partition, chunk in chunks
    ]
    assert {(scope.bootstrap_servers, scope.repair, scope.rate) for scope in asked} == {("kafka:1", True, 5.0)}
    assert all(scope.to_offset == (scope.from_offset or 0) + CHUNK_LENGTH for scope in asked)
    assert {isinstance(scope, PlanOptions) for scope in asked} == {not execute}
