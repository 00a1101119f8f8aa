"""The wire type of one event: what a record on the topic may say."""

from typing import Annotated, Final

import msgspec

U63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An id or a quantity: a JSON integer from 0 to 2^63-1, so that it fits signed and unsigned columns alike."""

OutcomeId = Annotated[int, msgspec.Meta(ge=0, le=255)]
"""Those of `orgstats.schemas.outcomes.Outcome`, and any that Sentry may add: counted by their number."""
CategoryId = Annotated[int, msgspec.Meta(ge=0, le=255)]


class Event(msgspec.Struct, gc=False):
    """One decoded record; fields stand in the order producers write them, which msgspec finds fastest.

    `None` means absent or null. Whether a timestamp string is valid shows when its second is taken
    (`orgstats.consumer.counting.decode.event_second`): most records never need more than a look into a memo.
    """

    timestamp: str | int | float
    org_id: U63 | None = None
    project_id: U63 | None = None
    key_id: U63 | None = None
    outcome: OutcomeId | None = None
    reason: str | None = None
    remote_addr: str | None = None
    category: CategoryId | None = None
    quantity: U63 | None = None
    user_agent: str | None = None
    release: str | None = None
    environment: str | None = None
    error_message: str | None = None
    url: str | None = None


REASON_CHARACTERS: Final = 64
"""A longer `reason` is cut to this many characters (code points) before it becomes part of a cell's key."""
