"""One partition's log as Kafka keeps it: offsets, leader epochs, transactions, retention, compaction, a cut tail."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.record import FakeRecord


@dataclass(slots=True)
class SimLog:
    """Offsets [low, end). `records` also has what retention deleted; what was cut off is in `vanished`.

    `epoch` is the leader's, None on a broker without epochs. `open` are offsets by transaction.
    """

    records: list[FakeRecord] = field(default_factory=list)
    low: int = 0
    end: int = 0
    epoch: int | None = 0
    open: dict[int, list[int]] = field(default_factory=dict)
    aborted: set[int] = field(default_factory=set)
    compacted: set[int] = field(default_factory=set)
    maybe: set[int] = field(default_factory=set)
    """Offsets of records that were compacted, perhaps before anybody had counted them."""
    vanished: list[FakeRecord] = field(default_factory=list)
    unresolved: bool = False
    """Whether it was cut back, and nobody need have found that yet."""
    acknowledged_ms: dict[int, int] = field(default_factory=dict)
    cut_at_ms: int = 0
    """When it was last cut back."""
    cut_to: int = 0
    """Where the lowest cut ended it that nobody need have found yet."""
    cuts: int = 0
    untold: bool = False
    """Whether consumers have counted on past a chunk's end since it was cut back, so that nobody can tell."""
    epoch_starts: list[tuple[int, int]] = field(default_factory=list)
    """(epoch, first offset) of epochs after the first."""

    def append(
        self,
        body: bytes | None,
        when_ms: int,
        acknowledged_ms: int,
        apart: int = 1,
        *,
        pairs: tuple[tuple[str, bytes], ...] = (),
    ) -> int:
        """A record so many offsets behind the one before; returns its offset."""
        at = self.end + apart - 1
        self.records.append(FakeRecord(at, body, when_ms, self.epoch, pairs=pairs))
        self.acknowledged_ms[at] = acknowledged_ms
        self.end += apart
        return at

    def finish(self, transaction: int, *, commit: bool) -> None:
        """The end of a transaction is a control record, which takes an offset."""
        offsets = self.open.pop(transaction)
        if not commit:
            self.aborted.update(offsets)
        self.end += 1

    @property
    def stable_end(self) -> int:
        """The last stable offset: behind it, transactions are open."""
        return min((offsets[0] for offsets in self.open.values()), default=self.end)

    def visible_end(self, isolation: str) -> int:
        """Where the log ends for a reader."""
        return self.end if isolation == "read_uncommitted" else self.stable_end

    def within(self, first: int, end: int, isolation: str = "read_committed") -> list[FakeRecord]:
        """Records at [first, end) that a reader gets."""
        first, end = max(first, self.low), min(end, self.visible_end(isolation))
        at, found = bisect_left(self.records, first, key=FakeRecord.offset), []
        hidden = self.compacted if isolation == "read_uncommitted" else self.aborted | self.compacted
        while at < len(self.records) and self.records[at].at < end:
            if self.records[at].at not in hidden:
                found.append(self.records[at])
            at += 1
        return found

    def ever(self, isolation: str) -> Iterator[FakeRecord]:
        """Records that a reader could get once, but for those that were cut off."""
        hidden = set() if isolation == "read_uncommitted" else self.aborted
        until = self.visible_end(isolation)
        return (record for record in self.records if record.at < until and record.at not in hidden)

    def elect(self) -> None:
        """Another leader, in an epoch of its own."""
        if self.epoch is not None:
            self.epoch += 1
            self.epoch_starts.append((self.epoch, self.end))

    def cut(self, end: int) -> None:
        """The new leader never had what is from `end` on."""
        self.cut_to = min(end, self.cut_to) if self.unresolved else end
        self.unresolved = True
        self.cuts += 1
        self.vanished += [record for record in self.records if record.at >= end]
        self.records = [record for record in self.records if record.at < end]
        self.open = {one: kept for one, at in self.open.items() if (kept := [offset for offset in at if offset < end])}
        self.aborted = {offset for offset in self.aborted if offset < end}
        self.compacted = {offset for offset in self.compacted if offset < end}
        self.maybe = {offset for offset in self.maybe if offset < end}
        self.epoch_starts = [one for one in self.epoch_starts if one[1] < end]
        self.end = end
        self.elect()

    def epoch_end(self, epoch: int) -> int:
        """Where an epoch, and those before it, end (OffsetForLeaderEpoch)."""
        return next((start for later, start in self.epoch_starts if later > epoch), self.end)
