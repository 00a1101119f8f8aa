"""Ties counts to the very log that they were made of: a 64 bit value over its records.

A log that was cut back and has grown again has other records under the same offsets. Who reads it again from the place
where a chain begins arrives at another value.
"""

from typing import Final, NamedTuple

import xxhash


class Mark(NamedTuple):
    """What a position says about the log that was counted up to it.

    `leader_epoch` is that of the last record below the position, -1 when it is not known. `chain` is over the records
    between `chain_from` and the position, 0 when there are none or nobody knows.
    """

    leader_epoch: int = -1
    chain: int = 0
    chain_from: int = 0


NO_MARK: Final = Mark()


class Chain:
    """The value over the records that were added, the same however batches fall."""

    def __init__(self, chain_from: int) -> None:
        self.chain_from = chain_from
        self._empty = True
        self._hash = xxhash.xxh3_64()

    def add(self, row: bytes) -> None:
        """Records in offset order, as `consumer.batch.packed` gives them."""
        if row:
            self._hash.update(row)
            self._empty = False

    @property
    def value(self) -> int:
        """UInt64; 0 as long as there is no record."""
        return 0 if self._empty else self._hash.intdigest()
