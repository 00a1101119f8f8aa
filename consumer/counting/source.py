"""What a count belongs to: sources, segments and versions, the arithmetic of the counting rule."""

import hashlib
from dataclasses import dataclass
from typing import Final

SEGMENT_LENGTH: Final = 1 << 17
"""Offsets in a segment. Part of every stored cell's key: changing it needs an empty store."""

_GENERATION_SHIFT: Final = 48


@dataclass(frozen=True, slots=True)
class Source:
    """One partition of one incarnation of a topic.

    `incarnation` is the topic's UUID, or what the operator named for a broker without UUIDs: a topic that is
    deleted and made again is another source, although its name is the same.
    """

    topic: str
    incarnation: str
    partition: int

    @property
    def source_id(self) -> int:
        """UInt64, the first eight bytes of a SHA-256; stable for ever, since it is part of stored keys."""
        name = f"{self.topic}\0{self.incarnation}\0{self.partition}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big")


def segment_of(offset: int) -> int:
    """First offset of the segment that holds `offset`."""
    return offset - offset % SEGMENT_LENGTH


def segment_end(offset: int) -> int:
    """First offset after the segment that holds `offset`."""
    return segment_of(offset) + SEGMENT_LENGTH


def version_of(generation: int, next_offset: int) -> int:
    """The version of a cell that holds every event of its segment below `next_offset`."""
    return generation << _GENERATION_SHIFT | next_offset


def generation_of(version: int) -> int:
    """The generation that wrote a version."""
    return version >> _GENERATION_SHIFT


def next_offset_of(version: int) -> int:
    """The position up to which a version counts."""
    return version & ((1 << _GENERATION_SHIFT) - 1)
