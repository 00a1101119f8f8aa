"""An operator of a simulated world: the real commands on its Kafka and its ClickHouse."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from orgstats.consumer.kafka import reader
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.ops import audit, chunk_length, dead_letters, jobs, recount, redrive, replay, sending, settling
from orgstats.consumer.ops.chunk_length import LengthChange
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.store import rows
from orgstats.consumer.store.chunk_lengths import State
from tests.sim.kafka import SimReader, SimTopics, no_effect
from tests.sim.producer import SimProducer
from tests.sim.store import SimStore
from tests.sim.world import Killed, SimWorld, settings_of

PAGE = 4
"""Dead letters that are held at once."""


def connections(world: SimWorld, effect: Callable[[], None] = no_effect, **settings: object) -> Connections:
    """What a command works with; `effect` is called around what it does to others."""
    return Connections(
        settings_of(json.dumps({"topic": world.topics, **settings})),
        cast("Any", SimTopics(world.kafka, effect)),
        cast("Any", _Broker(world)),
        SimStore(world.store, effect),
        lambda _what: None,
    )


class _Broker:
    """As much of `kafka.broker.Broker`."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    def topic_settings(self, _topic: str) -> dict[str, str]:
        """Of every topic the same."""
        return {"cleanup.policy": self._world.kafka.policy, **self._world.kafka.topic_settings}

    def offsets_at(self, tps: Iterable[TopicPartition], ms: int) -> dict[TopicPartition, int | None]:
        """Of each the first record of this time or later."""
        logs = {tp: self._world.kafka.log(tp) for tp in tps}
        return {
            tp: next((one.at for one in log.records if one.at >= log.low and one.when_ms >= ms), None)
            for tp, log in logs.items()
        }

    def group_members(self, _group: str) -> int:
        """Those of the one group."""
        return len(self._world.group.members)


@contextmanager
def operator(world: SimWorld, effect: Callable[[], None], killed_at: str = "") -> Iterator[None]:
    """Commands read the simulated logs, by the simulated clock, of which no two looks are alike.

    They see few dead letters at once, and are killed at a failpoint, where one is named.
    """

    def now() -> datetime:
        return rows.instant(world.clock.epoch_ms() + next(world.looks))

    def failpoint(name: str) -> None:
        if name == killed_at:
            raise Killed

    with ExitStack() as patches:
        patches.enter_context(patch.object(sending, "failpoint", failpoint))
        patches.enter_context(patch.object(dead_letters, "PAGE", PAGE))
        for module in (jobs, replay):
            patches.enter_context(patch.object(module, "now", now))
        for module in (reader, redrive, settling):
            patches.enter_context(
                patch.object(module, "LogReader", lambda _, isolation: SimReader(world.kafka, isolation, effect))
            )
        waits = SimpleNamespace(
            sleep=world.clock.sleep, monotonic=world.clock.monotonic, time_ns=lambda: world.clock.epoch_ms() * 1_000_000
        )
        for module in (audit, chunk_length, recount, redrive, replay, settling):
            patches.enter_context(patch.object(module, "time", waits))
        patches.enter_context(
            patch.object(sending, "Producer", lambda config: SimProducer(world.kafka, config, effect))
        )
        yield


def plan(world: SimWorld, length: int) -> list[LengthChange]:
    """The changes that `orgstats chunk-length set` would make."""
    found = chunk_length.plan(connections(world), None, length)
    return [one for one in found if isinstance(one, LengthChange)]


def make_change(world: SimWorld, change: LengthChange, effect: Callable[[], None] = no_effect) -> str:
    """One of `orgstats chunk-length set --execute`; returns its id."""
    with operator(world, effect):
        return chunk_length.execute(connections(world, effect), change, "operator")


def change_length(world: SimWorld, length: int) -> list[LengthChange]:
    """All of them."""
    changes = plan(world, length)
    for change in changes:
        make_change(world, change)
    return changes


def left_proposed(world: SimWorld) -> list[str]:
    """Ids of changes of topics that there are which are neither decided nor taken back."""
    uuids = {uuid for uuid, _ in world.kafka.topics.values()}
    known = {row.source_id for row in world.store.final("sources") if row.topic_id in uuids}
    rows = [row for row in world.store.final("chunk_lengths") if row.source_id in known]
    return [row.entry_id for row in rows if row.state == State.PROPOSED]


def take_back(world: SimWorld) -> None:
    """`orgstats chunk-length void --execute`, of all that nobody decides any more."""
    for entry_id in left_proposed(world):
        chunk_length.void(connections(world), entry_id, execute=True)
