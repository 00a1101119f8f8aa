"""What producers write: events of a few organizations, usual and odd, and records that are none."""

import json
from random import Random
from typing import Final

DAY_SECONDS: Final = 86_400
BROKEN: Final = (
    b"",
    b"{",
    b"[]",
    b'{"timestamp": "x"}',
    None,
    *(b'{"timestamp": "x", "org_id": %d}' % n for n in (1, 2)),
)


_USUAL: Final = {
    "org_id": 1,
    "project_id": 1,
    "key_id": 7,
    "category": 0,
    "outcome": 0,
    "reason": None,
    "quantity": None,
}
"""So that there are cells with more than one event."""
_UNCLASSIFIED: Final = {name: value for name, value in _USUAL.items() if name != "outcome"} | {"release": "bad"}
"""What rules are about."""


def body(choice: Random, now_seconds: int) -> bytes | None:
    """The value of a record that is sent now."""
    if choice.random() < 0.1:
        return choice.choice(BROKEN)
    if choice.random() < 0.4:
        return json.dumps(_USUAL | {"timestamp": now_seconds}).encode()
    if choice.random() < 0.15:
        return json.dumps(_UNCLASSIFIED | {"timestamp": now_seconds}).encode()
    event = {
        "timestamp": now_seconds - choice.choice((0, 0, 0, 30, 3600, 70 * DAY_SECONDS, 100 * DAY_SECONDS, -300, -900)),
        "org_id": choice.randint(1, 2),
        "project_id": choice.randint(1, 2),
        "key_id": (None, 0, 7)[now_seconds % 3],
        "category": choice.choice((None, 0, 2)),
        "outcome": choice.choice((0, 0, 1, 2, 5, 9, None)),
        "reason": choice.choice((None, "a", "b")),
        "quantity": choice.choice((None, 0, 1, 5)),
        "release": choice.choice((None, "bad")),
    }
    if event["outcome"] is None:
        del event["outcome"]
    return json.dumps(event).encode()
