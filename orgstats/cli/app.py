"""The `orgstats` command: which group of commands lives where, and how errors become exit codes."""

import sys
import traceback
from importlib import import_module
from typing import Annotated

import typer

import orgstats
from orgstats.errors import OrgstatsError

app = typer.Typer(
    name="orgstats",
    no_args_is_help=True,
    suggest_commands=False,  # click does so itself
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # panels cost 0.3 s with each --help
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orgstats {orgstats.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Exact event counts per organization: Kafka in, ClickHouse counts, one endpoint."""


for _module in (
    "consume",
    "serve",
    "query",
    "orgs",
    "tokens",
    "topics",
    "migrate",
    "rules",
    "config",
    "generate",
    "up",
    "replay",
    "audit",
    "explain",
    "dead_letters",
    "lag",
    "chunk_length",
    "doctor",
    "acls",
    "grants",
    "backup",
):
    import_module(f"orgstats.cli.{_module}").register(app)


def run() -> None:
    """Run the command line; an OrgstatsError prints its text on stderr and exits with its code.

    Any other exception is a bug: its trace, and 70. Python's own 1 would say that a check found a difference.
    """
    try:
        app()
    except OrgstatsError as error:
        print(f"orgstats: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError:
        raise  # `orgstats.cli.main` knows whether an extra brings it
    except Exception:  # noqa: BLE001 - the last one to hear of it
        traceback.print_exc()
        sys.exit(OrgstatsError.exit_code)
