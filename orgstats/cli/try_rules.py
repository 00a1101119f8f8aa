"""`orgstats rules test`: which rule a sample record meets, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orgstats.cli.rules_history import clickhouse, moment

if TYPE_CHECKING:
    from orgstats.consumer.counting.rules import Rule
    from orgstats.schemas.event import Event


def try_record(
    record: Annotated[
        Path, typer.Argument(help="A file with one record's JSON; - is standard input.", allow_dash=True)
    ],
    file: Annotated[Path | None, typer.Option(help="Rules file to try [default: what is published].")] = None,
    at: Annotated[str, typer.Option(help="The record's Kafka timestamp: epoch seconds, RFC 3339 or -2h.")] = "now",
) -> None:
    """Say which rule a sample record meets, and why.

    Example: echo '{"timestamp": 0, "user_agent": "Googlebot"}' | orgstats rules test - --file rules.toml
    """
    from orgstats.consumer.counting.rules import explain

    event = _sample(record)
    if event.outcome is not None:
        typer.echo(f"the record has outcome {event.outcome} already: rules are not asked")
        return
    told = explain(_rules_to_try(file, at), event)
    for number, (rule, findings) in enumerate(told, 1):
        typer.echo(f"rule {number} (line {rule.line}): {rule.outcome.name}, {rule.reason!r}")
        for field, met in findings:
            found = getattr(event, field)
            classification = "does not match" if met is None else f"matches {met!r}"
            typer.echo(f"  {field} {'(absent)' if found is None else repr(found)} {classification}")
    last = told[-1][0] if told and told[-1][0].matches(event) else None
    typer.echo(
        f"classification: {last.outcome.name}, {last.reason!r}" if last else "classification: accepted, no rule matches"
    )


def _sample(record: Path) -> "Event":
    """The event in a file; raises DifferenceFound when it is a dead letter."""
    import sys

    from orgstats.consumer.counting.decode import Undecodable, decode, event_second
    from orgstats.errors import ConfigurationError, DifferenceFound

    try:
        event = decode(sys.stdin.buffer.read() if str(record) == "-" else record.read_bytes())
        event_second(event.timestamp)
    except OSError as error:
        raise ConfigurationError(f"{record}: {error}") from None
    except Undecodable as dead:
        raise DifferenceFound(f"the record is a dead letter: {dead}") from None
    return event


def _rules_to_try(file: Path | None, at: str) -> "tuple[Rule, ...]":
    """The rules of a file, or those that were in force at a time."""
    from orgstats.consumer.counting.rules import parse
    from orgstats.consumer.store.rules import load_history, read_file

    if file is not None:
        return parse(read_file(file))
    with clickhouse() as client:
        entry = load_history(client).in_force(round(moment(client, at).timestamp() * 1000))
    typer.echo(f"classified by version {entry.version}" if entry else "no rules are in force at that time", err=True)
    return entry.rules if entry else ()
