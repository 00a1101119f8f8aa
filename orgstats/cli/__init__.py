"""The `orgstats` command: one file a command. This is its door, which says what is not installed."""

import sys
from typing import Final

import orgstats

EXTRAS: Final = {
    "typer": "cli",
    "rich": "cli",
    "confluent_kafka": "consumer",
    "msgspec": "consumer",
    "aws_msk_iam_sasl_signer": "msk",
    "xxhash": "consumer",
    "jwt": "api",
    "plotly": "api",
    "starlette": "api",
    "uvicorn": "api",
    "clickhouse_driver": "all",
    "prometheus_client": "all",
    "pydantic": "all",
    "structlog": "all",
    "chdb": "local",
}
"""The extra of this project that brings a package, by the name it is imported with."""


def main() -> None:
    """Run the command line; a package that is not installed is one line with the remedy, and exit code 78."""
    if sys.argv[1:] == ["--version"]:  # needs no extra
        print(f"orgstats {orgstats.__version__}")
        return
    try:
        from orgstats.cli.app import run

        run()
    except ModuleNotFoundError as missing:
        name = (missing.name or "").partition(".")[0]
        if name not in EXTRAS:
            raise
        print(f"orgstats: this needs {name}: pip install 'orgstats[{EXTRAS[name]}]'", file=sys.stderr)
        sys.exit(78)
