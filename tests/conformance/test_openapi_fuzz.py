"""Whatever the OpenAPI document lets a client send, and what it does not: never a fault of the server's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.conftest import Target

CASES = os.environ.get("ORGSTATS_FUZZ_REQUESTS", "50")


@pytest.mark.timeout(300)
def test_requests_made_from_openapi_never_return_5xx(own: Target, tmp_path: Path) -> None:
    """Schemathesis reads the document, makes valid and invalid requests of it, and sees no 5xx."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        f'headers = {{ Authorization = "Bearer {own.token}" }}\n'
        f'parameters = {{ "path.organization_slug" = "{own.slug}", "path.project_slug" = "pump-station" }}\n'
    )
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)]
    options = ["run", f"{own.url}/openapi.json", "--checks=not_a_server_error", f"--max-examples={CASES}", "--seed=7"]
    run = subprocess.run([*command, *options], check=False, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Missing test data" not in run.stdout
