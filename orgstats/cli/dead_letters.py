"""`orgstats dead-letters`: look at records that could not be decoded, send them again, or let them be."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops

if TYPE_CHECKING:
    from orgstats.consumer.ops.connections import Connections
    from orgstats.consumer.ops.dead_letters import DeadLetter, Filter
    from orgstats.consumer.store.store import Store

dead_letters = typer.Typer(
    no_args_is_help=True,
    help="Records that could not be decoded. Every option has an environment variable: ORGSTATS_DEAD_LETTERS_, the "
    "command and the option.",
    context_settings={"auto_envvar_prefix": "ORGSTATS_DEAD_LETTERS"},
)

Reason = Annotated[list[str] | None, ops.option("--reason", help="Reason code, as not_json; may be repeated.")]
Org = Annotated[int | None, ops.option(help="Organization id that the payload tells.", show_default=False)]
Everything = Annotated[bool, ops.option("--all", help="Also those that were redriven or dropped.")]
Execute = Annotated[bool, ops.option("--execute/--dry-run", help="Do it, instead of saying what it would do.")]
Texts = list[str] | None


@dead_letters.command("ls")
def ls(
    topic: ops.Topics = None,
    reason: Reason = None,
    since: ops.Since = None,
    until: ops.Until = None,
    org: Org = None,
    everything: Everything = False,
    by: Annotated[str, ops.option(help="hour, topic and reason, or some of them.")] = "topic,reason",
    as_json: ops.AsJson = False,
) -> None:
    """Count dead letters by topic and reason, or as --by says, with the place of the first; shows no payload.

    Examples:

    orgstats dead-letters ls --since -6h

    orgstats dead-letters ls --reason field_invalid --by hour
    """
    from orgstats.consumer.ops.dead_letters import BY, groups
    from orgstats.times import format_time

    columns = [name.strip() for name in by.split(",")]
    if not set(columns) <= set(BY):
        raise typer.BadParameter(f"{by!r} is not made of {', '.join(BY)}", param_hint="--by")
    rows = [
        {
            **({"hour": format_time(g.hour.timestamp())} if g.hour else {}),
            **{name: value for name, value in (("topic", g.topic), ("reason", g.reason)) if name in columns},
            "action": g.action or "-",
            "records": g.records,
            "first": "/".join(map(str, g.first)),
        }
        for g in groups(_store(), _filter(topic, reason, since, until, org, None, everything), columns)
    ]
    if as_json:
        ops.print_json(rows)
    elif rows:
        typer.echo(ops.table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
        total = sum(g["records"] for g in rows if isinstance(g["records"], int))
        ops.say(f"{total:,} dead letters; look at one: orgstats dead-letters show {rows[0]['first']}")
        waiting = sum(g["records"] for g in rows if g["action"] == "sent" and isinstance(g["records"], int))
        if waiting:
            ops.say(f"{waiting:,} of them were sent and are not yet counted")
    else:
        ops.say("no dead letters")


@dead_letters.command("show")
def show(
    place: Annotated[str | None, typer.Argument(help="topic/partition/offset.", show_default=False)] = None,
    topic: ops.Topics = None,
    reason: Reason = None,
    since: ops.Since = None,
    until: ops.Until = None,
    org: Org = None,
    everything: Everything = False,
    limit: Annotated[int, ops.option(min=1, help="Most records shown.")] = 10,
    as_json: ops.AsJson = False,
) -> None:
    """Show dead letters in full: place, error, key, headers, payload.

    Examples:

    orgstats dead-letters show outcomes/3/18236

    orgstats dead-letters show --reason not_json --since -1h --limit 3
    """
    from orgstats.consumer.ops.dead_letters import find

    found = find(_store(), _filter(topic, reason, since, until, org, place, everything or bool(place)), limit)
    if as_json:
        ops.print_json([one.shown() for one in found])
        return
    for one in found:
        _print_one(one)
    if not found:
        ops.say("no such dead letter")
        raise typer.Exit(1)


def _print_one(letter: "DeadLetter") -> None:
    for name, value in letter.shown().items():
        if value not in ("", []):
            typer.echo(f"{name:<16} {value}")
    typer.echo("")


@dead_letters.command("redrive")
def redrive(
    bootstrap_servers: ops.BootstrapServers = None,
    topic: ops.Topics = None,
    reason: Reason = None,
    since: ops.Since = None,
    until: ops.Until = None,
    org: Org = None,
    place: Annotated[str | None, ops.option(help="Only topic/partition/offset.", show_default=False)] = None,
    sets: Annotated[Texts, ops.option("--set", help="FIELD=JSON: give a field this value.")] = None,
    defaults: Annotated[Texts, ops.option("--default", help="FIELD=JSON: where it is absent or null.")] = None,
    renames: Annotated[Texts, ops.option("--rename", help="OLD=NEW: give a field its right name.")] = None,
    numbers: Annotated[Texts, ops.option("--number", help="FIELD: a number that was sent as text.")] = None,
    removes: Annotated[Texts, ops.option("--remove", help="FIELD: leave it out.")] = None,
    timestamp_from_kafka: Annotated[
        bool, ops.option("--timestamp-from-kafka", help="Take Kafka's timestamp for the event's.")
    ] = False,
    to_topic: Annotated[str | None, ops.option(help="Send them there instead.", show_default=False)] = None,
    rate: Annotated[float, ops.option(min=0, help="Most records a second; 0: no limit.")] = 0.0,
    limit: Annotated[int, ops.option(min=1, help="Most records.")] = 1_000_000,
    max_hops: Annotated[int, ops.option(min=1, help="Leave records alone that were redriven this often.")] = 3,
    timestamp_now: Annotated[
        bool, ops.option("--timestamp-now", help="Give the records the present time as Kafka timestamp.")
    ] = False,
    send_unknown: Annotated[
        bool,
        ops.option(
            "--send-unknown",
            help="Also those of which the log no longer tells whether they were sent; they may be counted twice.",
        ),
    ] = False,
    in_place: Annotated[
        bool, ops.option("--in-place", help="Send nothing: count their chunks again with a mended decoder.")
    ] = False,
    execute: Annotated[
        bool, ops.option("--execute/--dry-run", help="Do it, instead of saying what it would do.")
    ] = False,
) -> None:
    """Mend dead letters and send them to their topic again, each once, however often this is run.

    Only what can be decoded after the mending is sent; the rest stays and is told. Kafka's timestamp, the key and
    the partition stay as they were, so that each record counts where it would have counted. What the target's
    retention would delete before it is counted is not sent. A dead letter is sent first, and redriven when its record
    was counted; ls shows which.

    Examples:

    orgstats dead-letters redrive --reason field_invalid --number org_id --number quantity

    orgstats dead-letters redrive --reason timestamp_missing --rename time=timestamp --since -2h --execute

    orgstats dead-letters redrive --reason not_json --in-place --execute
    """
    from orgstats import failpoints
    from orgstats.consumer.ops.mending import mends
    from orgstats.consumer.ops.redrive import RedriveOptions
    from orgstats.consumer.ops.redrive import redrive as send
    from orgstats.consumer.store.rules import publisher
    from orgstats.errors import Refused

    which = _filter(topic, reason, since, until, org, place, everything=False)
    how = mends(
        sets=sets or (),
        defaults=defaults or (),
        renames=renames or (),
        numbers=numbers or (),
        removes=removes or (),
        timestamp_from_kafka=timestamp_from_kafka,
    )
    site = ops.site_of(bootstrap_servers, topic)
    if in_place:
        if how:
            raise typer.BadParameter("--in-place counts records as they are in the log; mending needs sending")
        _in_place(site, which, limit, execute=execute, rate=rate)
        return
    failpoints.arm(os.environ)
    with ops.stopping() as stopped:
        options = RedriveOptions(
            how, to_topic, max_hops, rate, limit, execute, publisher(), stopped, timestamp_now, send_unknown
        )
        done = send(site, which, options)
    for why, count in sorted(done.left.items()):
        ops.say(f"left alone: {count:,} ({why}), as {done.examples[why]}")
    if done.found:
        ops.say(f"{done.found:,} were sent by a redrive that was interrupted")
    if done.uncertain:
        ops.say(f"{done.uncertain:,} were being sent when a redrive was interrupted: --execute looks for them first")
    typer.echo(f"{done.sent:,} {'sent' if execute else 'would be sent; add --execute to do it'}")
    if done.refused:
        raise Refused(f"{done.refused:,} dead letters were left alone and need a decision: see why above")


def _in_place(site: "Connections", which: "Filter", limit: int, *, execute: bool, rate: float) -> None:
    """Count the chunks again that hold these dead letters."""
    from orgstats.consumer.counting.source import chunk_end, chunk_of
    from orgstats.consumer.ops.dead_letters import pages

    chunks = sorted(
        {(one.topic, one.partition, chunk_of(one.offset)) for page in pages(site.store, which, limit) for one in page}
    )
    for topic, partition, chunk in chunks:
        words = ["apply"] if execute else ["plan", "--diff-only"]
        words += ["--repair", "--topic", topic, "--partitions", str(partition)]
        words += ["--from-offset", str(chunk), "--to-offset", str(chunk_end(chunk))]
        words += ["--rate", f"{rate:g}"] if rate else []
        ops.say(f"orgstats replay {' '.join(words)}")
        _replay(words)


def _replay(words: list[str]) -> None:
    from orgstats.cli.replay import replay
    from orgstats.errors import DifferenceFound

    try:
        typer.main.get_command(replay)(words, standalone_mode=False)
    except DifferenceFound as found:
        ops.say(str(found))


@dead_letters.command("drop")
def drop(
    topic: ops.Topics = None,
    reason: Reason = None,
    since: ops.Since = None,
    until: ops.Until = None,
    org: Org = None,
    place: Annotated[str | None, ops.option(help="Only topic/partition/offset.", show_default=False)] = None,
    limit: Annotated[int, ops.option(min=1, help="Most records.")] = 1_000_000,
    execute: Annotated[
        bool, ops.option("--execute/--dry-run", help="Do it, instead of saying what it would do.")
    ] = False,
) -> None:
    """Mark dead letters as done with, so that ls leaves them out; nothing is deleted, ls --all shows them.

    Example: orgstats dead-letters drop --reason empty --until -7d --execute
    """
    from orgstats.consumer.ops.dead_letters import mark, pages
    from orgstats.consumer.store.rules import publisher

    store = _store()
    count = 0
    for page in pages(store, _filter(topic, reason, since, until, org, place, everything=False), limit):
        count += len(page)
        if execute:
            mark(store, page, "dropped", publisher())
    typer.echo(f"{count:,} {'dropped' if execute else 'would be dropped; add --execute to do it'}")


def _store() -> "Store":
    from orgstats.consumer.ops.connections import store_of
    from orgstats.settings import ClickHouseSettings

    return store_of(ClickHouseSettings.from_env(os.environ).clickhouse_url)


def _filter(
    topics: Texts,
    reasons: Texts,
    since: str | None,
    until: str | None,
    org: int | None,
    place: str | None,
    everything: bool,
) -> "Filter":
    from orgstats.consumer.ops.dead_letters import Filter
    from orgstats.schemas.event import ReasonCode

    for reason in reasons or ():
        if reason not in list(ReasonCode):
            raise typer.BadParameter(f"{reason!r} is none of {', '.join(ReasonCode)}", param_hint="--reason")
    where: tuple[int, int] | None = None
    if place is not None:
        topic, _, rest = place.rpartition("/")
        topic, _, partition = topic.rpartition("/")
        if not (topic and partition.isdecimal() and rest.isdecimal()):
            raise typer.BadParameter(f"{place!r} is not topic/partition/offset")
        where, topics = (int(partition), int(rest)), [topic]
    return Filter(
        tuple(topics or ()),
        tuple(reasons or ()),
        ops.epoch_ms(since, "--since"),
        ops.epoch_ms(until, "--until"),
        org,
        where,
        everything,
    )


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(dead_letters, name="dead-letters")
