"""Which fingerprint counted: what a commit and a progress row carry, so that a change of it is noticed."""

from hashlib import sha256
from typing import Final

from orgstats.consumer.counting.decode import AgeLimits

COUNTING_VERSION: Final = 3
"""Raised by hand whenever decoding, classifying or counting could answer differently for some record."""


def fingerprint_of(limits: AgeLimits, rules_edition: str, *, projects: bool) -> str:
    """16 hexadecimal digits that differ when the same log would give other counts."""
    parts = (COUNTING_VERSION, *limits, rules_edition, int(projects))
    return sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]
