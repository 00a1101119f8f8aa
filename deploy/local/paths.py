"""Where the local tools keep downloads and data: `.local` in the checkout, or ORGSTATS_CACHE."""

import os
import socket
from pathlib import Path


def cache_dir() -> Path:
    """ORGSTATS_CACHE, else `.local` of the checkout, else the user's cache directory."""
    if named := os.environ.get("ORGSTATS_CACHE"):
        return Path(named).absolute()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").exists():
        return checkout / ".local"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orgstats"


def free_ports(count: int) -> list[int]:
    """Different loopback ports that nobody listens on now; somebody may be quicker than the caller."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
