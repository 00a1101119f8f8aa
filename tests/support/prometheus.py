"""A Prometheus as Debian packages it, as a child process that looks as quickly as tests want."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from orgstats.deploy.local import processes


@dataclass(frozen=True)
class Prometheus:
    """Where it is, and what may be asked of it."""

    url: str
    child: processes.Child

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire."""
        return [alert for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"]


@contextmanager
def running_prometheus(program: Path, directory: Path, config: dict[str, Any]) -> Iterator[Prometheus]:
    """It runs with the configuration until the block ends."""
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump({**config, "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"}}))
    address = f"127.0.0.1:{free_port()}"
    places = [f"--storage.tsdb.path={directory / 'prometheus'}", f"--web.listen-address={address}"]
    child = processes.start(
        "prometheus", [str(program), f"--config.file={file}", *places], log=directory / "prometheus.log"
    )
    try:
        processes.wait_ready(child, lambda: _answers(f"http://{address}/-/ready"), seconds=30)
        yield Prometheus(f"http://{address}", child)
    finally:
        child.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    """One that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])
