"""What a count belongs to: sources and versions, the arithmetic of the counting rule."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_REVISION_SHIFT: Final = 48

BEYOND_ALL: Final = 1 << _REVISION_SHIFT
"""An offset that no log reaches: a version has no room for it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One partition of one topic.

    `topic_id` is the topic's UUID, or what the operator named for a broker without UUIDs: a topic that is
    deleted and made again is another source, although its name is the same.
    """

    topic: str
    topic_id: str
    partition: int

    @property
    def source_id(self) -> int:
        """UInt64, the first eight bytes of a SHA-256; stable for ever, since it is part of stored keys."""
        return _source_id(self.topic, self.topic_id, self.partition)


@lru_cache(maxsize=4096)
def _source_id(topic: str, topic_id: str, partition: int) -> int:
    """Asked again and again of the few that are counted."""
    name = f"{topic}\0{topic_id}\0{partition}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big")


def version_of(revision: int, next_offset: int) -> int:
    """The version of a cell that holds every event of its chunk below `next_offset`."""
    return revision << _REVISION_SHIFT | next_offset


def revision_of(version: int) -> int:
    """The revision that wrote a version."""
    return version >> _REVISION_SHIFT


def next_offset_of(version: int) -> int:
    """The position up to which a version counts."""
    return version & (BEYOND_ALL - 1)
