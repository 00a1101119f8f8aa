"""`orgstats orgs erase`: an organization goes out of every table, and stays out."""

import os
from dataclasses import dataclass
from typing import Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat


@dataclass(frozen=True, kw_only=True)
class EraseOptions(ops.OnTopics):
    """Which organization."""

    organization: Annotated[str, typer.Argument(help="Its slug or id.", show_default=False)]
    wait: Annotated[float, ops.option(help="Seconds to wait for consumers to count their open chunks again.")] = 120.0
    execute: ops.Execute = False


@flat
def erase(options: EraseOptions) -> None:
    """Erase an organization: its counts, names and tokens, and the dead letters that name it. There is no way back.

    Events of it that are still in Kafka, or come later, count for nobody, also when the log is counted or replayed
    again; how many there were each day stays, so that sums can be checked. Its id cannot be used again. Consumers may
    run meanwhile. Interrupted, it is asked for again and goes on. Kafka's own topics and backups are not touched.

    Example: orgstats orgs erase the-interstellar-jurisdiction --execute
    """
    from orgstats import failpoints
    from orgstats.consumer.ops.erase import erase, holding, is_erased
    from orgstats.consumer.store.rules import publisher

    failpoints.arm(os.environ)
    connections = options.connections()
    org_id = _id_of(options.organization)
    held = holding(connections, org_id)
    rows = [(table, number) for table, number in held.rows.items() if number]
    rows += [("dead_letters", held.dead_letters)] if held.dead_letters else []
    typer.echo(ops.table(("table", "rows"), rows) if rows else f"Nothing is stored of organization {org_id}.")
    known = " It is erased already: this run takes away what is left." if is_erased(connections, org_id) else ""
    ops.say(f"Organization {org_id}: {held.events:,} events.{known}")
    if not options.execute:
        ops.say("Nothing was erased. There is no way back; add --execute to do it.")
        return
    erase(connections, org_id, publisher(), ops.say, wait_seconds=options.wait)
    ops.say(f"Organization {org_id} is erased. Backups that were made before still hold it.")


def _id_of(name: str) -> int:
    """The id; one that no organization has may have events all the same."""
    from orgstats.cli.orgs import directory

    if name.isdecimal():
        return int(name)
    with directory() as where:
        return where.organization_to_change(name).org_id
