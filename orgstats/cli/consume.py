"""`orgstats consume`: the daemon that counts."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from orgstats.cli.options import flat


@dataclass(frozen=True)
class ConsumeOptions:
    """Settings that can be given on the command line; None leaves them to the environment."""

    bootstrap_servers: Annotated[str | None, typer.Option(help="Kafka's addresses.", show_default=False)] = None
    topic: Annotated[list[str] | None, typer.Option(help="Topic to count; may be repeated.", show_default=False)] = None
    group: Annotated[str | None, typer.Option(help="Consumer group [default: orgstats].", show_default=False)] = None
    instance_id: Annotated[
        str | None, typer.Option(help="Static member name; each process needs its own.", show_default=False)
    ] = None
    rules: Annotated[Path | None, typer.Option(help="Rules file to publish at start.", show_default=False)] = None
    flush_seconds: Annotated[
        float | None, typer.Option(help="Seconds between inserts [default: 1].", show_default=False)
    ] = None
    metrics_listen: Annotated[
        str | None, typer.Option(help="host:port for Prometheus metrics.", show_default=False)
    ] = None
    accept_skip: Annotated[
        bool | None, typer.Option("--accept-skip", help="Go on at a commit ahead of the store; lists the gap.")
    ] = None
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error [default: info].", show_default=False)
    ] = None


@flat
def consume(options: ConsumeOptions) -> None:
    """Count the topics' events into ClickHouse until stopped.

    Every option has an environment variable, ORGSTATS_ and its name; ClickHouse's address, which holds a
    password, has only that: ORGSTATS_CLICKHOUSE_URL. SIGTERM: flush, commit, leave, exit 0.

    Example: orgstats consume --bootstrap-servers kafka:9092 --topic outcomes --topic outcomes-billing
    """
    from orgstats.consumer.daemon import run
    from orgstats.consumer.ops.continuous_audit import ContinuousAudit
    from orgstats.consumer.settings import ConsumerSettings

    given = asdict(options) | {"topic": tuple(options.topic) if options.topic else None}
    settings = ConsumerSettings.from_env(os.environ, **given)
    run(
        settings,
        [lambda settings, worker: ContinuousAudit(settings, worker.assigned_tps)] if settings.audit_seconds else [],
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(consume)
