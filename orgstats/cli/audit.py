"""`orgstats audit`: what is stored against the log."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat

if TYPE_CHECKING:
    from orgstats.consumer.ops.audit import AuditResult

_MOST_SHOWN = 100


@dataclass(frozen=True)
class AuditOptions(ops.OnTopics):
    """What to check, and how."""

    partitions: ops.Partitions = None
    recount: Annotated[bool, ops.option("--recount", help="Count every chunk again and compare each cell.")] = False
    as_json: ops.AsJson = False


@flat
def audit(options: AuditOptions) -> None:
    """Check every chunk as far as it is stored: events + dead letters + offsets without a record must be its length.

    With --recount the log is read again, record by record, by code that shares nothing with the daemon's counting,
    and every cell is compared. Exit 1 when anything differs. Run it with the settings of the consumer.

    Example: orgstats audit --topic outcomes --recount
    """
    from orgstats.consumer.ops.audit import audit as check
    from orgstats.consumer.ops.kept_audits import keep_result
    from orgstats.errors import DifferenceFound, OrgstatsError

    connections, partitions = options.connections(), ops.partitions_of(options.partitions)
    found: list[AuditResult] = []
    with ops.stopping() as stopped:
        for checked in check(connections, recount=options.recount, partitions=partitions):
            found.append(checked)
            if stopped():
                break
    if options.as_json:
        ops.print_json([checked.shown() for checked in found])
    else:
        _print(found)
    for checked in filter(lambda one: one.remedy, found):
        ops.say(f"{checked.topic}/{checked.partition} chunk {checked.chunk}: {checked.remedy}")
    wrong = sum(len(checked.differences) for checked in found)
    still_open, compared = sum(c.open for c in found), sum(c.cells for c in found)
    ops.say(f"{len(found)} chunks checked, {still_open} of them open, {compared} cell by cell: {wrong} wrong")
    if found and (wrong or not stopped()):  # one that was stopped has not seen that nothing differs
        try:
            keep_result(connections, found, recount=options.recount)
        except OrgstatsError as error:
            ops.say(f"the page at /ops does not show this audit: {error}")
    if wrong:
        raise DifferenceFound("what is stored differs from the log; orgstats replay plan shows what a replay changes")


def _print(found: "list[AuditResult]") -> None:
    names = ("topic", "partition", "chunk", "open", "accounted", "log", "cells", "differences", "note")
    rows = [
        (
            *(c.topic, c.partition, str(c.chunk), "open" if c.open else "", c.accounted, c.log),
            *("yes" if c.cells else "", len(c.differences), c.note),
        )
        for c in found
    ]
    typer.echo(ops.table(names, rows))
    wrong = [
        (c.topic, c.partition, str(c.chunk), d.table, d.key, d.stored, d.wanted) for c in found for d in c.differences
    ]
    if wrong:
        names_of_wrong = ("topic", "partition", "chunk", "table", "which", "stored", "wanted")
        typer.echo("\n" + ops.table(names_of_wrong, wrong[:_MOST_SHOWN]))
        if len(wrong) > _MOST_SHOWN:
            ops.say(f"and {len(wrong) - _MOST_SHOWN} more; --json has them all")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)
