"""What the doctor says of one thing that it looked at."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "act"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at; `act` needs a person, who is told what to do."""

    level: Level
    what: str
    remedy: str = ""
