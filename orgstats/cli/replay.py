"""`orgstats replay`: see what the log gives against what is stored, and make the store hold it."""

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.consumer.ops.compare import ChunkDifference
    from orgstats.consumer.ops.recount import HeadPolicy, Pace
    from orgstats.consumer.ops.replay import PreparedReplay
    from orgstats.consumer.ops.summary import Summary

replay = typer.Typer(
    no_args_is_help=True,
    help="Count topics again: see what would change, then change it. Every option has an environment variable: "
    "ORGSTATS_REPLAY_, the command and the option, as ORGSTATS_REPLAY_PLAN_SINCE.",
    context_settings={"auto_envvar_prefix": "ORGSTATS_REPLAY"},
)

FromOffset = Annotated[int | None, ops.option(min=0, help="First offset wanted.", show_default=False)]
ToOffset = Annotated[int | None, ops.option(min=0, help="Offset before which it ends.", show_default=False)]
Repair = Annotated[bool, ops.option("--repair", help="Also take back what the log does not give.")]
Rewind = Annotated[bool, ops.option("--rewind", help="The log was cut back: count all that it still holds.")]
HeadOption = Annotated[
    str, ops.option("--head", help="Chunks whose first records are deleted: refuse, skip, keep or drop.")
]
Rate = Annotated[float, ops.option(min=0, help="Most records a second; 0: as fast as it goes.")]
AtOnce = Annotated[
    int, ops.option(min=0, help="Chunks held in memory and stored together; 0: as many as have 524,288 offsets.")
]


@dataclass(frozen=True)
class Scope(ops.OnTopics):
    """What is counted again; the options that `plan` and `apply` share."""

    partitions: ops.Partitions = None
    from_offset: FromOffset = None
    to_offset: ToOffset = None
    since: ops.Since = None
    until: ops.Until = None
    repair: Repair = False
    head: HeadOption = "refuse"
    rewind: Rewind = False
    rate: Rate = 0.0
    chunks_at_once: AtOnce = 0
    as_json: ops.AsJson = False

    def pace(self, on_records: "Callable[[int], None]") -> "Pace":
        """How fast to read."""
        from orgstats.consumer.ops.recount import Pace

        return Pace(self.rate, self.chunks_at_once, on_records)

    def prepare(self, *, wait: bool) -> "PreparedReplay":
        """Find what was asked for; raises BadParameter for options that do not go together."""
        gc.set_threshold(100_000, 20, 50)  # millions of tuples and no cycles: looking for some doubles the time
        from orgstats.consumer.ops.replay import ReplayRequest, TimeRange, prepare

        if (self.from_offset is not None and self.since) or (self.to_offset is not None and self.until):
            raise typer.BadParameter("give offsets or times, not both")
        if self.rewind and not self.repair:
            raise typer.BadParameter("--rewind goes only with --repair")
        head = self._head_policy()
        when = TimeRange(ops.epoch_ms(self.since, "--since"), ops.epoch_ms(self.until, "--until"))
        connections = self.connections()
        offsets = (self.from_offset, self.to_offset, self.since, self.until)
        partitions = ops.partitions_of(self.partitions)
        request = ReplayRequest(connections.settings.topic, partitions, *offsets, self.repair, head, self.rewind)
        return prepare(connections, request, when, wait=wait)

    def _head_policy(self) -> "HeadPolicy":
        from orgstats.consumer.ops.recount import HeadPolicy

        if self.head not in list(HeadPolicy):
            raise typer.BadParameter(f"{self.head!r} is none of {', '.join(HeadPolicy)}", param_hint="--head")
        if (self.head == HeadPolicy.drop and not self.repair) or (self.head == HeadPolicy.keep and self.repair):
            raise typer.BadParameter(
                f"--head {self.head} goes {'only' if self.head == HeadPolicy.drop else 'not'} with --repair"
            )
        return HeadPolicy(self.head)


@dataclass(frozen=True)
class PlanOptions(Scope):
    """`plan` can show more than `apply` does."""

    diff_only: Annotated[bool, ops.option("--diff-only", help="Only the counts that would change.")] = False
    cells: Annotated[bool, ops.option("--cells", help="With --json: each cell before and after.")] = False


def plan(options: PlanOptions) -> None:
    """Show what `apply` with the same options would change; write nothing. Exit 1 when something would change.

    Without a range it looks at everything retained. Counts are shown by organization, stat and hour, now and
    after, as the endpoint answers them. Times are Kafka's timestamps of the records.

    Examples:

    orgstats replay plan --topic outcomes --since 2020-03-21T20:00:00Z --until 2020-03-21T21:00:00Z --repair

    orgstats replay plan --topic outcomes --partitions 0,4-7 --from-offset 0 --json --diff-only
    """
    from orgstats.consumer.ops.replay import plan as look

    prepared = options.prepare(wait=False)
    found: list[dict[str, Any]] | None = [] if options.cells else None
    with ops.progress_bar(prepared.offsets, "reading") as read:
        summary = look(
            prepared,
            (lambda _changes: None) if found is None else (lambda changes: found.extend(_cells(changes))),
            options.pace(read),
        )
    _print(prepared, summary, options, diff_only=options.diff_only, cells=found)
    _difference(summary, would=True)


def apply(options: Scope) -> None:
    """Write what the log gives and the store lacks; with --repair also take back what the log does not give.

    Runs beside live consumers: it has no group, commits nothing, and leaves the open chunks to them. Stopped
    or killed, the same command goes on where it was, or begins anew with --rewind. Exit 1 when something is left that
    needs --repair.

    Examples:

    orgstats replay apply --topic outcomes

    orgstats replay apply --topic outcomes --since -3h --repair --rate 50000

    orgstats replay apply --repair --rewind --topic outcomes --partitions 3
    """
    from orgstats import failpoints
    from orgstats.consumer.ops.replay import apply as act
    from orgstats.consumer.store.rules import publisher

    prepared = options.prepare(wait=True)
    failpoints.arm(os.environ)
    with ops.stopping() as stopped, ops.progress_bar(prepared.offsets, "replaying") as read:
        summary = act(prepared, publisher(), stopped, options.pace(read))
        interrupted = stopped()
    _print(prepared, summary, options, diff_only=True, cells=None)
    if interrupted:
        ops.say("stopped; the same command goes on")
        raise typer.Exit(130)
    ops.say(f"replay {summary.replay_id}: {summary.changes:,} cells and dead letters written")
    if options.repair and summary.changes and not options.rewind:
        ops.say(f"to take it back: orgstats replay undo --replay {summary.replay_id} --execute")
    _difference(summary, would=False)


for _name, _command in (("plan", plan), ("apply", apply)):  # redrive --in-place calls them with their options
    replay.command(_name)(flat(_command))


@dataclass(frozen=True)
class UndoOptions(ops.OnTopics):
    """Which repair to take back."""

    replay_id: Annotated[
        str | None, ops.option("--replay", help="Which one; default: the last repair.", show_default=False)
    ] = None
    execute: Annotated[bool, ops.option("--execute", help="Do it, instead of saying what it would do.")] = False


@replay.command("undo")
@flat
def undo(options: UndoOptions) -> None:
    """Take back the last repair: the counts that it replaced are written again.

    Example: orgstats replay undo --execute
    """
    from orgstats.consumer.ops.undo import undo as take_back
    from orgstats.times import format_time

    found, chunks = take_back(options.connections(), options.replay_id, execute=options.execute)
    what = f"replay {found.replay_id} of {format_time(found.at.timestamp())} by {found.by}: {chunks} chunks"
    ops.say(f"undone: {what}" if options.execute else f"would take back {what}; add --execute to do it")


@dataclass(frozen=True)
class ListOptions(ops.OnTopics):
    """How to list replays."""

    as_json: ops.AsJson = False


@replay.command("ls")
@flat
def ls(options: ListOptions) -> None:
    """List replays, the latest first.

    Example: orgstats replay ls --json
    """
    from orgstats.consumer.ops import jobs
    from orgstats.times import format_time

    found = jobs.ls(options.connections().store)
    rows = [(r.replay_id, format_time(r.at.timestamp()), r.action, r.step.name, r.by, r.request) for r in found]
    names = ("replay", "at", "action", "state", "by", "request")
    if options.as_json:
        ops.print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        typer.echo(ops.table((*names[:-1], "options"), [(*row[:-1], _as_typed(row[-1])) for row in rows]))


def _as_typed(request: str) -> str:
    """What a replay was asked for, as it is given on the command line."""
    from orgstats.schemas.replay_options import replay_options

    return " ".join(f"{option} {value}".rstrip() for option, value in replay_options(request))


def _cells(changes: "ChunkDifference") -> list[dict[str, Any]]:
    source = changes.counted.source
    place = {"topic": source.topic, "partition": source.partition, "chunk": changes.counted.chunk}
    found: list[dict[str, Any]] = [
        {**place, "table": family.table, **key._asdict(), "before": list(before), "after": list(after)}
        for family, cells in changes.cells.items()
        for key, (before, after) in cells.items()
    ]
    found += [{**place, "dead_letter": offset, "after": dead.code} for offset, (_, dead) in changes.dead.items()]
    found += [{**place, "dead_letter": offset, "after": None} for offset in changes.withdrawn]
    return found


def _print(
    prepared: "PreparedReplay",
    summary: "Summary",
    options: Scope,
    *,
    diff_only: bool,
    cells: list[dict[str, Any]] | None,
) -> None:
    from orgstats.consumer.ops.summary import counts_now
    from orgstats.times import format_time

    applied = bool(summary.replay_id)
    now = counts_now(prepared.connections.store, summary.touched.union(summary.by_hour))
    rows = [
        (org_id, stat, format_time(hour), count - more if applied else count, count if applied else count + more, more)
        for (org_id, stat, hour), count in sorted(now.items())
        if (more := summary.by_hour[org_id, stat, hour]) or not diff_only
    ]
    tally = summary.tally
    expected = max(tally.seconds, tally.records / options.rate if options.rate else 0.0)
    for note in summary.notes:
        ops.say(note)
    if options.as_json:
        shown = _as_json(prepared, summary, rows, expected)
        ops.print_json(shown if cells is None else shown | {"cells": cells})
        return
    if rows:
        typer.echo(ops.table(("org", "stat", "hour", "before" if applied else "now", "after", "change"), rows))
    for one in summary.chunks:
        why = ", ".join(f"{count:,} {what}" for what, count in one["why"].items())
        place = f"{one['topic']}/{one['partition']} chunk {one['chunk']}"
        ops.say(f"{place}: {one['changes']:,} differ{', among them ' + why if why else ''}")
    ops.say(
        f"{tally.chunks} chunks, {prepared.offsets:,} offsets: {tally.records:,} records, "
        f"{tally.bytes / 1e6:,.1f} MB; {'took' if applied else 'apply takes about'} {expected:,.0f} s"
    )


def _as_json(
    prepared: "PreparedReplay", summary: "Summary", rows: Sequence[tuple[Any, ...]], expected: float
) -> dict[str, Any]:
    tally = summary.tally
    return {
        "chunks": tally.chunks,
        "offsets": prepared.offsets,
        "records": tally.records,
        "bytes": tally.bytes,
        "expected_seconds": round(expected, 1),
        "changes": summary.changes,
        "needs_repair": dict(summary.conflicts),
        "notes": summary.notes,
        "changed_chunks": summary.chunks,
        "counts": [dict(zip(("org_id", "stat", "hour", "now", "after"), row[:5], strict=True)) for row in rows],
    }


def _difference(summary: "Summary", *, would: bool) -> None:
    """Raise DifferenceFound when something would change, or is left that needs a repair."""
    from orgstats.errors import DifferenceFound

    why = ", ".join(f"{count:,} {what}" for what, count in summary.conflicts.items())
    if summary.left:
        raise DifferenceFound(
            f"{summary.left:,} changes in chunks with {why}: the rules, the settings, the program or the log have "
            "changed since they were counted. Look at it with: orgstats replay plan --repair"
        )
    if would and summary.changes:
        raise DifferenceFound(f"{summary.changes:,} cells and dead letters would change")


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(replay, name="replay")
