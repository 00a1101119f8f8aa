"""What an assigned partition and this member of the group can be, and what makes which of it: two tables. Pure.

An event that a table does not have in a state cannot happen in it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar


class PartitionState(StrEnum):
    """Of one partition, in this process."""

    CLOSED = "closed"
    """It is not assigned to this member."""
    OPENING = "opening"
    """Assigned; where to go on is to be found out."""
    NOT_OPENED = "not opened"
    """The same, but it failed for this one alone: it is tried again after a while, the others meanwhile are counted."""
    CATCHING_UP = "catching up"
    """Read; what is counted is stored already."""
    COUNTING = "counting"
    """Read, and stored."""
    DRAINING = "draining"
    """The log no longer has the next record, or the next chunk is not known. What is counted is stored first, then it
    is opened again."""
    HALTED = "halted"
    """A limit on dead letters was reached: what is counted is stored, and no more is read."""
    GONE = "gone"
    """Its topic was deleted, and perhaps made again: nothing more is stored until this process ends."""


class PartitionEvent(StrEnum):
    """What may happen to one."""

    ASSIGNED = "assigned"
    TAKEN = "taken"
    """Revoked, lost, or the membership ended."""
    OPENED = "opened"
    OPENING_FAILED = "opening failed"
    DUE = "due"
    """To be opened again: it has waited long enough."""
    CAUGHT_UP = "caught up"
    LIMIT_REACHED = "limit reached"
    POSITION_LOST = "position lost"
    CHUNK_NOT_KNOWN = "chunk not known"
    """It has come to the end of a chunk, and a change of the chunk length may be under way."""
    STORED = "stored"
    """All that is counted."""
    DISTRUSTED = "distrusted"
    """What was counted since the last checkpoint is not to be stored: the log, the store or the rules are others."""
    TOPIC_GONE = "topic gone"


_P, _E = PartitionState, PartitionEvent
_ALWAYS: Final = {_E.ASSIGNED: _P.OPENING, _E.TAKEN: _P.CLOSED, _E.DISTRUSTED: _P.OPENING, _E.TOPIC_GONE: _P.GONE}
"""Of what is assigned. Assigned anew without having been taken away, it is looked at anew."""
_ANEW: Final = (_E.POSITION_LOST, _E.CHUNK_NOT_KNOWN)

PARTITION: Final[Mapping[PartitionState, Mapping[PartitionEvent, PartitionState]]] = {
    _P.CLOSED: {_E.ASSIGNED: _P.OPENING},
    _P.OPENING: {**_ALWAYS, _E.OPENED: _P.CATCHING_UP, _E.OPENING_FAILED: _P.NOT_OPENED},
    _P.NOT_OPENED: {**_ALWAYS, _E.DUE: _P.OPENING, _E.DISTRUSTED: _P.NOT_OPENED},  # it has counted nothing
    _P.CATCHING_UP: {**_ALWAYS, _E.CAUGHT_UP: _P.COUNTING, **dict.fromkeys(_ANEW, _P.OPENING)},
    _P.COUNTING: {**_ALWAYS, _E.LIMIT_REACHED: _P.HALTED, **dict.fromkeys(_ANEW, _P.DRAINING)},
    _P.DRAINING: {**_ALWAYS, _E.STORED: _P.OPENING},
    _P.HALTED: _ALWAYS,
    _P.GONE: dict.fromkeys((_E.ASSIGNED, _E.TAKEN, _E.DISTRUSTED, _E.TOPIC_GONE), _P.GONE),
}

READ: Final = frozenset({_P.CATCHING_UP, _P.COUNTING})
"""What is read in these states."""
STORING: Final = frozenset({_P.COUNTING, _P.DRAINING, _P.HALTED})
"""What is counted in these is stored."""
OPEN: Final = READ | STORING
"""These have counts in memory."""


class MemberState(StrEnum):
    """Of this process as a member of the group."""

    JOINED = "joined"
    LEAVING = "leaving"
    """Partitions are being taken away: what was counted of them is stored and committed within a deadline."""
    FENCED = "fenced"
    """The broker knows another member by this name, or none: nothing more is stored or committed."""
    WAITING_FOR_RELEASE = "waiting for release"
    """The same, while the name may still be a killed member's."""
    BROKEN = "broken"
    """It cannot go on: nothing more is stored or committed, and the next owner counts it."""


class MemberEvent(StrEnum):
    """What may happen to it."""

    PARTITIONS_TAKEN = "partitions taken"
    GIVEN_UP = "given up"
    """What was to be stored and committed before is, or the time for it is over."""
    FENCED = "fenced"
    UNRELEASED = "unreleased"
    JOINED_AGAIN = "joined again"
    FAILED = "failed"


_M, _V = MemberState, MemberEvent
_AWAY: Final = {_V.FENCED: _M.FENCED, _V.UNRELEASED: _M.WAITING_FOR_RELEASE, _V.FAILED: _M.BROKEN}

MEMBER: Final[Mapping[MemberState, Mapping[MemberEvent, MemberState]]] = {
    _M.JOINED: {**_AWAY, _V.PARTITIONS_TAKEN: _M.LEAVING},
    _M.LEAVING: {**_AWAY, _V.GIVEN_UP: _M.JOINED},
    _M.FENCED: {**_AWAY, _V.JOINED_AGAIN: _M.JOINED},
    _M.WAITING_FOR_RELEASE: {**_AWAY, _V.JOINED_AGAIN: _M.JOINED},
    _M.BROKEN: {_V.FAILED: _M.BROKEN},
}

State = TypeVar("State", PartitionState, MemberState)
Event = TypeVar("Event", PartitionEvent, MemberEvent)


def after(table: Mapping[State, Mapping[Event, State]], state: State, event: Event) -> State:
    """The state that follows. Raises RuntimeError for what cannot happen, which is a fault of the program."""
    if event not in table[state]:
        raise RuntimeError(f"{event} cannot happen while {state}")
    return table[state][event]
