"""`orgstats dead-letters redrive`: transform dead letters and send them again, or count them where they are."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.replay import PlanOptions, Scope
from orgstats.cli.replay import apply as apply_replay
from orgstats.cli.replay import plan as plan_replay
from orgstats.cli.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orgstats.consumer.ops.connections import Connections
    from orgstats.consumer.ops.dead_letters import Filter
    from orgstats.consumer.ops.redrive import RedriveOptions, RedriveResult
    from orgstats.consumer.ops.transforms import Transform

Texts = list[str] | None


@dataclass(frozen=True)
class RedriveCommand(Selection, ops.OnTopics):
    """Which dead letters to send again, how to transform them before, and where to."""

    place: ops.AtPlace = None
    sets: Annotated[Texts, ops.option("--set", help="FIELD=JSON: give a field this value.")] = None
    defaults: Annotated[Texts, ops.option("--default", help="FIELD=JSON: where it is absent or null.")] = None
    renames: Annotated[Texts, ops.option("--rename", help="OLD=NEW: give a field its right name.")] = None
    numbers: Annotated[Texts, ops.option("--number", help="FIELD: a number that was sent as text.")] = None
    removes: Annotated[Texts, ops.option("--remove", help="FIELD: leave it out.")] = None
    timestamp_from_kafka: Annotated[
        bool, ops.option("--timestamp-from-kafka", help="Take Kafka's timestamp for the event's.")
    ] = False
    to_topic: Annotated[str | None, ops.option(help="Send them there instead.", show_default=False)] = None
    rate: Annotated[float, ops.option(min=0, help="Most records a second; 0: no limit.")] = 0.0
    limit: Annotated[int, ops.option(min=1, help="Most records.")] = 1_000_000
    max_hops: Annotated[int, ops.option(min=1, help="Leave records alone that were redriven this often.")] = 3
    timestamp_now: Annotated[
        bool, ops.option("--timestamp-now", help="Give the records the present time as Kafka timestamp.")
    ] = False
    send_unknown: Annotated[
        bool,
        ops.option(
            "--send-unknown",
            help="Also those of which the log no longer tells whether they were sent; they may be counted twice.",
        ),
    ] = False
    in_place: Annotated[
        bool, ops.option("--in-place", help="Send nothing: count their chunks again, after the decoder was corrected.")
    ] = False
    execute: ops.Execute = False

    def transforms(self) -> "Sequence[Transform]":
        """What to change in them; raises ConfigurationError naming what is no transform."""
        from orgstats.consumer.ops.transforms import transforms_of

        return transforms_of(
            sets=self.sets or (),
            defaults=self.defaults or (),
            renames=self.renames or (),
            numbers=self.numbers or (),
            removes=self.removes or (),
            timestamp_from_kafka=self.timestamp_from_kafka,
        )

    def request(self, stopping: "Callable[[], bool]") -> "RedriveOptions":
        """As the redrive takes it."""
        from orgstats.consumer.ops.redrive import RedriveOptions
        from orgstats.consumer.store.rules import publisher

        return RedriveOptions(
            self.transforms(),
            target=self.to_topic,
            max_hops=self.max_hops,
            rate=self.rate,
            limit=self.limit,
            execute=self.execute,
            by=publisher(),
            stopping=stopping,
            timestamp_now=self.timestamp_now,
            send_unknown=self.send_unknown,
        )


def redrive(options: RedriveCommand) -> None:
    """Transform dead letters and send them to their topic again, each once, however often this is run.

    Only what can be decoded after the transforms is sent; the rest stays and is told. Kafka's timestamp, the key and
    the partition stay as they were, so that each record counts where it would have counted. What the target's
    retention would delete before it is counted is not sent. A dead letter is sent first, and redriven when its record
    was counted; ls shows which.

    Examples:

    orgstats dead-letters redrive --reason field_invalid --number org_id --number quantity

    orgstats dead-letters redrive --reason timestamp_missing --rename time=timestamp --since -2h --execute

    orgstats dead-letters redrive --reason not_json --in-place --execute
    """
    from orgstats import failpoints
    from orgstats.consumer.ops.redrive import redrive as send

    which = options.filter(options.place)
    if options.in_place and options.transforms():
        raise typer.BadParameter("--in-place counts records as they are in the log; transforms need sending")
    connections = options.connections()
    if options.in_place:
        _count_in_place(options, which, connections)
        return
    failpoints.arm(os.environ)
    with ops.stopping() as stopped:
        done = send(connections, which, options.request(stopped))
    _print(done, executed=options.execute)


def _print(done: "RedriveResult", *, executed: bool) -> None:
    """Say what came of it; raises Refused when some need a decision."""
    from orgstats.errors import Refused

    for why, count in sorted(done.left.items()):
        ops.say(f"left alone: {count:,} ({why}), as {done.examples[why]}")
    if done.found:
        ops.say(f"{done.found:,} were sent by a redrive that was interrupted")
    if done.uncertain:
        ops.say(f"{done.uncertain:,} were being sent when a redrive was interrupted: --execute looks for them first")
    typer.echo(f"{done.sent:,} {'sent' if executed else 'would be sent; add --execute to do it'}")
    if done.refused:
        raise Refused(f"{done.refused:,} dead letters were left alone and need a decision: see why above")


def _count_in_place(options: RedriveCommand, which: "Filter", connections: "Connections") -> None:
    """Plan or apply a repair of each chunk that holds some of these dead letters."""
    from orgstats.consumer.ops.dead_letters import pages
    from orgstats.errors import DifferenceFound

    letters = {
        (one.topic, one.partition, one.source_id, one.offset)
        for page in pages(connections.store, which, options.limit)
        for one in page
    }
    grids = connections.store.grids({source_id for _, _, source_id, _ in letters})
    chunks = {
        (topic, partition, grids[source_id].chunk_of(offset), grids[source_id].chunk_end(offset))
        for topic, partition, source_id, offset in letters
    }
    for topic, partition, chunk, end in sorted(chunks):
        scope = Scope(
            bootstrap_servers=options.bootstrap_servers,
            topic=[topic],
            partitions=str(partition),
            from_offset=chunk,
            to_offset=end,
            repair=True,
            rate=options.rate,
        )
        ops.say(f"chunk {chunk} of {topic}/{partition}:")
        try:
            if options.execute:
                apply_replay(scope)
            else:
                plan_replay(PlanOptions(**vars(scope), diff_only=True))
        except DifferenceFound as found:
            ops.say(str(found))
