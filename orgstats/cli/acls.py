"""`orgstats acls`: what Kafka must allow the consumers."""

import os
from dataclasses import dataclass
from typing import Annotated

import typer

from orgstats.cli import operating as ops
from orgstats.cli.options import flat


@dataclass(frozen=True)
class AclOptions:
    """Whom to allow what."""

    principal: Annotated[str, ops.option(help="Who is allowed, as Kafka knows them: User:orgstats.")]
    topic: ops.Topics = None
    group: ops.Group = None
    redrive: Annotated[
        bool, ops.option("--redrive", help="Also what sending dead letters again needs, into the topics themselves.")
    ] = False
    redrive_to: Annotated[
        list[str] | None, ops.option("--redrive-to", help="The same into this topic; may be repeated.")
    ] = None
    as_json: ops.AsJson = False


@flat
def acls(options: AclOptions) -> None:
    """Print the calls of kafka-acls.sh that allow consumers and operators' commands what they use, and nothing more.

    Nothing is asked of Kafka, and nothing is changed there. The lines expect $BOOTSTRAP, the brokers' addresses, and
    $ADMIN, a file with the client properties of somebody who may set ACLs.

    Example: orgstats acls --principal User:orgstats --topic outcomes --redrive
    """
    from orgstats.consumer.kafka.acls import commands, needed
    from orgstats.consumer.settings import ConsumerSettings
    from orgstats.settings import listed

    topics = options.topic or listed(os.environ.get("ORGSTATS_TOPIC", ""))
    if not topics:
        raise typer.BadParameter("name the topics that are counted, or set ORGSTATS_TOPIC", param_hint="--topic")
    group = options.group or os.environ.get("ORGSTATS_GROUP") or ConsumerSettings.model_fields["group"].default
    targets = [*(topics if options.redrive else ()), *(options.redrive_to or ())] or None
    found = list(needed(topics, group, redrive_to=targets))
    if options.as_json:
        ops.print_json([one._asdict() for one in found])
        return
    for line in commands(found, options.principal):
        typer.echo(line)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"auto_envvar_prefix": "ORGSTATS_ACLS"})(acls)
