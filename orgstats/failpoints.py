"""Named places at which a test can end, stop or fail the worker; they cost one look into an empty dict.

Armed by the environment: `ORGSTATS_FAILPOINTS="before_insert=kill@3;before_commit=raise@2"` kills the process
(SIGKILL) the third time it comes to `before_insert`. Actions: kill, stop (SIGSTOP), raise (Unavailable).
"""

import os
import signal
from collections.abc import Mapping
from typing import Final

from orgstats.errors import ConfigurationError, Unavailable

NAMES: Final = frozenset(
    {
        "after_decode",
        "before_insert",
        "answer_lost",
        "after_insert",
        "before_commit",
        "after_commit",
        "at_chunk_boundary",
        "in_revoke",
        "replay_replaced",
        "replay_begun",
        "replay_recorded",
        "replay_torn",
        "replay_written",
        "redrive_sent",
        "redrive_marked",
        "redrive_committed",
        "erase_begun",
        "erase_torn",
        "erase_moved",
        "erase_deleting",
    }
)
_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_armed: dict[str, tuple[str, int]] = {}
_reached: dict[str, int] = {}


def arm(env: Mapping[str, str]) -> None:
    """Read ORGSTATS_FAILPOINTS; a name or action that does not exist is a ConfigurationError."""
    for entry in filter(None, env.get("ORGSTATS_FAILPOINTS", "").split(";")):
        name, _, rest = entry.partition("=")
        action, _, nth = rest.partition("@")
        if name not in NAMES or action not in {"kill", "stop", "raise"} or not (nth or "1").isdecimal():
            raise ConfigurationError(f"ORGSTATS_FAILPOINTS: {entry!r} is not NAME=kill|stop|raise[@NTH]")
        _armed[name] = (action, int(nth or "1"))


def failpoint(name: str) -> None:
    """Do what was armed for this place, if anything."""
    if name not in _armed:
        return
    action, nth = _armed[name]
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] != nth:
        return
    if action == "raise":
        raise Unavailable(f"failpoint {name}")
    os.kill(os.getpid(), _SIGNALS[action])
