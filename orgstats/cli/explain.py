"""`orgstats explain`: what one number is made of."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli import operating as ops

if TYPE_CHECKING:
    from orgstats.consumer.ops.explain import Classification, Part


def explain(
    organization: Annotated[str, typer.Argument(help="Slug or id.")],
    bucket: Annotated[str, ops.option(help="A time in the bucket: epoch seconds, RFC 3339 or -2h.")],
    stat: Annotated[str, ops.option(help="received, rejected or blacklisted.")] = "received",
    resolution: Annotated[str, ops.option(help="10s, 1h or 1d.")] = "10s",
    as_json: ops.AsJson = False,
) -> None:
    """Show which partitions, chunks, offsets, keys and reasons a number is made of; the parts add up to it.

    Every option has an environment variable, as ORGSTATS_EXPLAIN_STAT; ClickHouse's address is
    ORGSTATS_CLICKHOUSE_URL.

    Example: orgstats explain 2 --stat blacklisted --bucket 2020-03-21T20:00:00Z --resolution 1h
    """
    from orgstats.consumer.ops.connections import store_of
    from orgstats.consumer.ops.explain import classifications
    from orgstats.consumer.ops.explain import explain as take_apart
    from orgstats.consumer.store.rules import history
    from orgstats.query.clickhouse import Database
    from orgstats.query.directory import Directory
    from orgstats.query.params import parse_stat
    from orgstats.query.series import RESOLUTIONS
    from orgstats.settings import ClickHouseSettings
    from orgstats.times import format_time

    if resolution not in RESOLUTIONS:
        raise typer.BadParameter(f"{resolution!r} is none of {', '.join(RESOLUTIONS)}", param_hint="--resolution")
    url = ClickHouseSettings.from_env(os.environ).clickhouse_url
    org_id = (
        int(organization)
        if organization.isdecimal()
        else Directory(Database(url, size=1)).organization(organization).org_id
    )
    seconds = RESOLUTIONS[resolution]
    start = (ops.epoch_ms(bucket, "--bucket") or 0) // 1000 // seconds * seconds
    store = store_of(url)
    parts = take_apart(store, org_id, parse_stat(stat), start, seconds)
    total = sum(part.quantity for part in parts)
    if as_json:
        what = {"org_id": org_id, "stat": stat, "start": start, "seconds": seconds, "count": total}
        ops.print_json({**what, "parts": [asdict(part) for part in parts]})
        return
    _print_parts(parts)
    typer.echo(f"{stat} of organization {org_id} in {format_time(start)} and {seconds:,} s: {total:,}")
    _print_rules(classifications(store, parts, store.run(history)))


def _print_parts(parts: "Sequence[Part]") -> None:
    """The parts, and below them what each outcome, category and reason comes to, unless that is one line for one."""
    from orgstats.schemas.categories import CATEGORY_NAMES

    rows: list[tuple[object, ...]] = []
    subtotals: dict[tuple[str, str, str], list[int]] = {}
    for p in parts:
        category = CATEGORY_NAMES[p.category]
        repaired = f"revision {p.revision}: {p.why}" if p.revision else ""
        place = (f"{p.topic}/{p.partition}", f"{p.chunk}..{p.next_offset}")
        rows.append((*place, p.outcome, category, p.key_id, p.reason, p.events, p.quantity, repaired))
        subtotal = subtotals.setdefault((p.outcome, category, p.reason), [0, 0])
        subtotal[0] += p.events
        subtotal[1] += p.quantity
    if rows:
        names = ("partition", "offsets", "outcome", "category", "key", "reason", "events", "quantity", "repaired")
        typer.echo(ops.table(names, rows))
    if len(subtotals) < len(rows):
        largest = [(*kind, *sums) for kind, sums in sorted(subtotals.items(), key=lambda one: (-one[1][1], one[0]))]
        typer.echo("\n" + ops.table(("outcome", "category", "reason", "events", "quantity"), largest) + "\n")


def _print_rules(rules: "Sequence[Classification]") -> None:
    from orgstats.times import format_time

    for one in rules:
        until = format_time(one.until.timestamp()) if one.until else "now"
        ops.say(
            f"reason {one.reason!r} is given by version {one.version} of the rules, by {one.published_by}, in force "
            f"from {format_time(one.since.timestamp())} to {until}. A mistake? orgstats rules void {one.version}"
        )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_EXPLAIN"})(explain)
