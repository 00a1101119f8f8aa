"""Ties counts to the very log that they were made of: a 64 bit value over its records.

A log that was cut back and has grown again has other records under the same offsets. Who reads it again from the place
where a chain begins arrives at another value.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import xxhash

from orgstats.consumer.counting.packing import packed

if TYPE_CHECKING:
    from orgstats.consumer.counting.batch import Record


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

    def add(self, row: bytes | memoryview) -> None:
        """Records in offset order, as `consumer.batch.packed` gives them."""
        if row:
            self._hash.update(row)
            self._empty = False

    @property
    def value(self) -> int:
        """UInt64; 0 as long as there is no record."""
        return 0 if self._empty else self._hash.intdigest()


class SameLog:
    """Whether records that are read again are those that a mark was made of, from its `chain_from` up to `until`."""

    def __init__(self, mark: Mark, until: int) -> None:
        self.mark = mark
        self.until = until
        self._chain = Chain(mark.chain_from)

    def take(self, run: "Sequence[Record]") -> None:
        """Records in offset order; those that the mark does not tell of are passed over."""
        first, end = (bisect_left(run, offset, key=_offset) for offset in (self.mark.chain_from, self.until))
        if first < end:
            self._chain.add(packed(run[first:end]))

    @property
    def found(self) -> int:
        """The chain of what was taken."""
        return self._chain.value

    @property
    def differs(self) -> bool:
        """Once all records were taken: whether they are others. Where no chain is known nothing is."""
        return self.mark.chain not in (0, self.found)


def _offset(record: "Record") -> int:
    return record.offset()
