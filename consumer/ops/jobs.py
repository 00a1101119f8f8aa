"""Replays as the store remembers them, so that a killed one goes on and the last repair can be undone."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from orgstats.consumer.ops.compare import ChunkDifference
from orgstats.consumer.ops.connections import now
from orgstats.consumer.ops.stored import ask, insert_rows
from orgstats.consumer.store.store import Store


class Step(IntEnum):
    """How far a replay is."""

    running = 0
    done = 1
    undone = 2


class ChunkStep(IntEnum):
    """How far a replay is with a chunk."""

    begun = 1
    done = 2


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay; `ranges` are (source_id, first offset, offset after the last)."""

    replay_id: str
    action: str
    request: str
    fingerprint: str
    ranges: list[tuple[int, int, int]]
    by: str
    step: Step
    at: datetime

    @property
    def name(self) -> str:
        """What `repairs` says of it."""
        return f"replay {self.replay_id}"


@dataclass(frozen=True, slots=True)
class ReplayChunk:
    """A chunk of a replay."""

    source_id: int
    chunk: int
    revision: int
    changes: int
    step: ChunkStep


def begin(
    store: Store, action: str, request: Mapping[str, Any], fingerprint: str, ranges: list[tuple[int, int, int]], by: str
) -> Replay:
    """Record a new replay."""
    replay_id = secrets.token_hex(4)
    replay = Replay(replay_id, action, _text(request), fingerprint, ranges, by, Step.running, now())
    _write(store, replay, Step.running)
    return replay


def unfinished(store: Store, action: str, request: Mapping[str, Any], fingerprint: str) -> Replay | None:
    """The latest replay of the same options and fingerprint, if it was not finished."""
    same = [r for r in ls(store) if (r.action, r.request, r.fingerprint) == (action, _text(request), fingerprint)]
    return same[0] if same and same[0].step is Step.running else None


def ls(store: Store) -> list[Replay]:
    """Every replay, the latest first."""
    found = ask(
        store,
        "SELECT replay_id, toString(action), request, fingerprint, ranges, by, step, at FROM replays FINAL"
        " ORDER BY at DESC, replay_id",
        {},
    )
    return [
        Replay(replay_id, action, request, fingerprint, [tuple(one) for one in ranges], by, Step(step), at)
        for replay_id, action, request, fingerprint, ranges, by, step, at in found
    ]


def finish(store: Store, replay: Replay, step: Step) -> None:
    """Record how it ended."""
    _write(store, replay, step)


def chunks(store: Store, replay: Replay) -> list[ReplayChunk]:
    """What is begun or done of a replay."""
    found = ask(
        store,
        "SELECT source_id, chunk, revision, changes, step FROM replay_chunks FINAL WHERE replay_id = %(id)s"
        " ORDER BY source_id, chunk",
        {"id": replay.replay_id},
    )
    return [ReplayChunk(*row, ChunkStep(step)) for *row, step in found]  # type: ignore[call-arg]


def record(store: Store, replay: Replay, changes: Sequence[ChunkDifference], step: ChunkStep) -> None:
    """Record chunks as begun or done."""
    at = now()
    insert_rows(
        store,
        "replay_chunks",
        [
            (replay.replay_id, c.counted.source.source_id, c.counted.chunk, c.revision, c.count, int(step), at)
            for c in changes
        ],
    )


def _write(store: Store, r: Replay, step: Step) -> None:
    insert_rows(store, "replays", [(r.replay_id, r.action, r.request, r.fingerprint, r.ranges, r.by, int(step), now())])


def _text(request: Mapping[str, Any]) -> str:
    return json.dumps(request, sort_keys=True, separators=(",", ":"))
