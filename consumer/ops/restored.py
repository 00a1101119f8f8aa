"""What a store that was restored holds: whether it can be counted on from, what is counted again, and what is lost.

It only reads. Consumers heal what is behind by themselves; what operators did after the backup nobody can know.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from orgstats.consumer.ops.audit import auditor_of
from orgstats.consumer.ops.connections import Connections, SourceStatus, locate
from orgstats.consumer.ops.findings import Finding
from orgstats.consumer.ops.jobs import Step, ls
from orgstats.consumer.ops.stored import ask

_COPIED: Final = "restore every table of one backup, made in the order of orgstats backup-plan"


def restore_check(connections: Connections) -> Iterator[Finding]:
    """Source by source what consumers will do, then what else has to be done; consumers should not run yet.

    Raises what `locate` does, and Unavailable.
    """
    auditor = auditor_of(connections)
    located = locate(connections)
    sources = [one.source for one in located]
    begun, highest = connections.store.begun(sources), connections.store.highest_chunks(sources)
    for one in located:
        yield from _source(one, begun.get(one.source.source_id, (0, 0))[1], highest.get(one.source.source_id))
        for chunk in list(auditor.chunks(one))[-2:]:  # the open one, and the one that was closed last
            if wrong := auditor.check(one, chunk, recount=False).differences:
                yield Finding(
                    "act",
                    f"{one.name} chunk {chunk}: {len(wrong)} differences, as {wrong[0].key}: counts are missing that "
                    "its progress tells of",
                    f"{_COPIED}; or start the consumers, then orgstats replay plan and apply",
                )
    yield from _operators(connections)


def _source(one: SourceStatus, begun: int, highest: int | None) -> Iterator[Finding]:
    if one.progress is None:
        known = one.registration is not None or highest is not None
        remedy = _COPIED if known else "a partition that is newer than the backup needs nothing"
        yield Finding("act" if known else "note", f"{one.name} has no progress: it is counted from the start", remedy)
        return
    counted = one.progress.next_offset
    if one.registration is None:
        yield Finding("act", f"{one.name} has progress, and is not in sources", _COPIED)
    if one.low > counted:
        yield Finding(
            "act",
            f"{one.name}: offsets {counted:,} to {one.low:,} are deleted from the log and not in the store: consumers "
            "list them in gaps",
            "a newer backup may have them; raise the topic's retention above the time between two backups",
        )
    again = max(0, one.end - max(counted, one.low))
    yield Finding(
        "ok",
        f"{one.name} is restored up to {counted:,}: consumers count {again:,} records again, and read their open chunk "
        f"from {one.grid.chunk_of(counted):,}",
    )
    if begun > counted:
        yield Finding("ok", f"{one.name}: counts are stored beyond that, up to {begun:,}; they are counted again")
    elif highest is not None and highest > one.grid.chunk_of(counted):
        yield Finding(
            "act", f"{one.name}: counts are stored beyond its progress that flushes does not tell of", _COPIED
        )


def _operators(connections: Connections) -> Iterator[Finding]:
    rows: Any = ask(connections.store, "SELECT count(), max(written_at) FROM progress FINAL", {})
    many, until = rows[0]
    if not many:
        return
    for replay in ls(connections.store):
        if replay.step is Step.running:
            yield Finding("act", f"replay {replay.replay_id} was under way", "give its command again: it goes on")
    since = f"{until:%Y-%m-%d %H:%M:%S} UTC" if isinstance(until, datetime) else str(until)
    for what, remedy in (
        ("tokens that were revoked are valid again", "orgstats tokens ls, then revoke them again"),
        ("rules that were published or voided are not", "orgstats rules ls, then publish them before consumers start"),
        ("repairs of closed chunks are undone", "once consumers run: orgstats replay plan --repair"),
        ("dead letters that were sent again look as if they were not", "before a redrive look at the target topic"),
        ("organizations and projects are as they were", "orgstats orgs ls"),
    ):
        yield Finding("note", f"since the backup, {since}: {what}", remedy)
    yield Finding("note", "every cell can be compared once consumers have caught up", "orgstats audit --recount")
