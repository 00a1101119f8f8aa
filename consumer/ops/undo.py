"""Takes back a repair: what it replaced is written again, in yet another revision."""

from typing import Any, Final

from orgstats.consumer.counting.cells import FAMILIES, Family
from orgstats.consumer.ops import jobs
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.ops.stored import ask, run
from orgstats.consumer.store.chunks import chunk_end, entries
from orgstats.errors import ConfigurationError, Refused

_CHUNKS: Final = (
    "(SELECT source_id, chunk, max(revision) AS revision FROM repairs FINAL WHERE why = %(name)s"
    " GROUP BY source_id, chunk) AS s"
)
_ON_CHUNK: Final = "ON r.source_id = s.source_id AND r.chunk = s.chunk"
_ON: Final = f"{_ON_CHUNK} WHERE r.replay_id = %(id)s"
_NEXT: Final = "bitShiftLeft(toUInt64(s.revision + 1), 48)"
_END: Final = chunk_end("s.source_id", "s.chunk")
_VERSION: Final = f"bitOr({_NEXT}, {_END})"
_KEPT: Final = "topic, partition, kafka_timestamp, key, headers, payload, payload_bytes"

_UNDO_REPAIRS: Final = f"""
    INSERT INTO repairs (source_id, chunk, revision, fingerprint, why, at)
    SELECT s.source_id, s.chunk, s.revision + 1, %(undo)s, %(undo)s, now64(3, 'UTC') FROM {_CHUNKS}"""
_UNDO_DEAD_LETTERS: Final = f"""
    INSERT INTO dead_letters (source_id, offset, {_KEPT}, reason, error, withdrawn, version)
    SELECT d.source_id, d.offset, {_KEPT}, r.reason, r.error, r.withdrawn, bitOr({_NEXT}, d.offset)
    FROM dead_letters AS d FINAL
    INNER JOIN (SELECT * FROM replaced_dead_letters FINAL WHERE replay_id = %(id)s) AS r
    ON d.source_id = r.source_id AND d.offset = r.offset
    INNER JOIN {_CHUNKS} {_ON}"""


def _undo_cells(family: Family) -> str:
    key, values = family.key._fields, family.values
    names = ", ".join((*key, "source_id", "chunk", *values))
    kept = ", ".join(f"r.{name}" for name in (*key, "source_id", "chunk", *values))
    return f"""
    INSERT INTO {family.table} ({names}, version)
    SELECT {kept}, {_VERSION} FROM {family.replaced} AS r FINAL INNER JOIN {_CHUNKS} {_ON}"""


def undo(connections: Connections, replay_id: str | None, *, execute: bool) -> tuple[jobs.Replay, int]:
    """Take back the last repair, or the one named; which one it is, and how many chunks it changed.

    Failure semantics: each statement takes the kept rows back by itself and is the same when it is repeated, so
    a failed undo is asked again with the id, to the same end; without it, it would take back the repair before, if this
    one was undone after all. Raises Refused when a later repair counted one of the chunks
    again, since then nobody knows what to go back to.
    """
    replay = _to_undo(jobs.ls(connections.store), replay_id)
    values: dict[str, Any] = {"id": replay.replay_id, "name": replay.name, "undo": f"undo of {replay.name}"}
    later = ask(
        connections.store,
        f"SELECT r.why, r.chunk FROM repairs AS r FINAL INNER JOIN {_CHUNKS} {_ON_CHUNK}"
        " WHERE r.revision > s.revision AND r.why != %(undo)s LIMIT 1",
        values,
    )
    if later:
        raise Refused(
            f"chunk {later[0][1]} was counted again since replay {replay.replay_id} ({later[0][0]}): undo that "
            "first, or see what the log gives now with orgstats replay plan --repair"
        )
    erased = ask(connections.store, "SELECT org_id FROM erasures FINAL WHERE at > %(at)s LIMIT 1", {"at": replay.at})
    if erased:
        raise Refused(
            f"organization {erased[0][0]} was erased since replay {replay.replay_id}: what that replaced is no longer "
            "whole, so there is no way back. See what the log gives now with orgstats replay plan --repair"
        )
    if execute:
        changed = ask(connections.store, f"SELECT DISTINCT source_id FROM {_CHUNKS}", values)
        values |= entries(connections.store.grids([source_id for (source_id,) in changed]))
        for statement in () if not changed else (_UNDO_REPAIRS, _UNDO_DEAD_LETTERS, *map(_undo_cells, FAMILIES)):
            run(connections.store, statement, values)
        jobs.finish(connections.store, replay, jobs.Step.undone)
    return replay, int(ask(connections.store, f"SELECT count() FROM {_CHUNKS}", values)[0][0])


def _to_undo(replays: list[jobs.Replay], replay_id: str | None) -> jobs.Replay:
    if replay_id is None:
        wanted = [one for one in replays if one.action != "fill" and one.step is not jobs.Step.undone]
    else:
        wanted = [one for one in replays if one.replay_id == replay_id]
    if not wanted:
        raise ConfigurationError("there is no such repair to undo; see orgstats replay ls")
    found = wanted[0]
    if found.step is jobs.Step.undone:
        raise ConfigurationError(f"replay {found.replay_id} is undone already")
    if found.action == "fill":
        raise Refused(f"replay {found.replay_id} only added what was missing: there is nothing to go back to")
    if found.action == "rewind":
        raise Refused(f"replay {found.replay_id} was a rewind: what it replaced is no longer in the log")
    return found
