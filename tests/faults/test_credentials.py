"""A broker that wants SASL and gets a wrong password: every command ends with 78 and says which setting is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orgstats.deploy.local import apache_kafka

ORGSTATS = str(Path(sys.executable).with_name("orgstats"))
RIGHT, WRONG = "S3cret-right", "S3cret-wrong"


@pytest.fixture
def refused(own_kafka: Callable[..., apache_kafka.Running], clickhouse_url: str) -> dict[str, str]:
    """The environment of a process that has the wrong password."""
    broker = own_kafka(sasl=("orgstats", RIGHT))
    return {
        **os.environ,
        "ORGSTATS_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "ORGSTATS_TOPIC": "outcomes",
        "ORGSTATS_CLICKHOUSE_URL": clickhouse_url,
        "ORGSTATS_KAFKA__SECURITY_PROTOCOL": "sasl_plaintext",
        "ORGSTATS_KAFKA__SASL_MECHANISM": "PLAIN",
        "ORGSTATS_KAFKA__SASL_USERNAME": "orgstats",
        "ORGSTATS_KAFKA__SASL_PASSWORD": WRONG,
    }


def test_a_wrong_password_ends_every_command_with_78(refused: dict[str, str]) -> None:
    """They warned for ever or called it a time-out."""
    for command in (["consume"], ["lag"], ["doctor"], ["generate", "--count", "1"]):
        done = subprocess.run(
            [ORGSTATS, *command], env=refused, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 78, (command, done.stderr)
        last = done.stderr.rstrip("\n").split("\n")[-1]
        assert "refuses the credentials in ORGSTATS_KAFKA__SASL_*" in last, (command, done.stderr)
        assert "Traceback" not in done.stderr
        assert WRONG not in done.stdout + done.stderr
        if command != ["consume"]:  # whose log lines come before
            assert done.stderr.count("\n") == 1, (command, done.stderr)
