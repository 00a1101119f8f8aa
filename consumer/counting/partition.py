"""One assigned partition: its open chunk, the closed ones not stored yet, and what to store next."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orgstats.consumer.counting.batch import BatchCounter, Pending, Record
from orgstats.consumer.counting.cells import COUNTS, FAMILIES, StoredChunk
from orgstats.consumer.counting.chain import Chain, Mark
from orgstats.consumer.counting.chunk import Chunk, ChunkChanges
from orgstats.consumer.counting.decode import named_organizations
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.counting.limits import DeadLetterLimits, DeadLetterWatch
from orgstats.consumer.counting.resume import MIXED, Attempt, Cut, Resume
from orgstats.consumer.counting.source import Source
from orgstats.errors import Refused
from orgstats.schemas.outcomes import NAMED_OUTCOMES


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that could not be decoded, as it goes to `dead_letters`."""

    record: Record
    code: str
    text: str
    revision: int
    erased: bool = False  # it names an erased organization: nothing of it is kept but that it was there


class ChunkNotKnown(Exception):
    """Which chunk comes next is not certain: a change of the chunk length may be under way.

    Of the partition that raises it nothing more can be counted; what is counted is right, and to be stored.
    """


class LogChanged(Exception):
    """The log has other records than those that were counted: it was cut back, and has grown again.

    Seen in the chunk that begins at `chunk`; later ones may agree all the same.
    """

    def __init__(self, chunk: int, text: str) -> None:
        super().__init__(text)
        self.chunk = chunk


@dataclass(frozen=True, slots=True)
class ClosedChunk:
    """A chunk that is counted to its end, and the log that it was counted of.

    `fingerprint` is what it was counted with, empty for the one of the flush.
    """

    first_offset: int
    revision: int
    mark: Mark
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class PartitionChanges:
    """What one partition has to store so that everything below `next_offset` is stored.

    `fingerprint_before` is set while not all that it stored has been counted again. Below `hourly_offset` everything is
    in the families that are written seldom, too.
    """

    source: Source
    next_offset: int
    hourly_offset: int
    kafka_timestamp_ms: int
    fingerprint_before: str
    mark: Mark
    cut: Cut
    chunks: list[ChunkChanges]
    notes: "Notes"


@dataclass(slots=True)
class Notes:
    """What is to be stored beside counts, since it was last stored.

    `begun` holds (chunk, revision, why) that must be recorded before their rows; `withdrawn` (offset, revision, chunk)
    of dead letters that this fingerprint can decode; `gap` (from, to, why); `closed` chunks come after their counts.
    """

    dead_letters: list[DeadRecord] = field(default_factory=list)
    withdrawn: list[tuple[int, int, int]] = field(default_factory=list)
    begun: list[tuple[int, int, str]] = field(default_factory=list)
    gap: tuple[int, int, str] | None = None
    closed: list[ClosedChunk] = field(default_factory=list)


class Partition:
    """Counts the records of one source, chunk by chunk.

    `attempt` says for a chunk's first offset in which revision it is counted. `next_offset` is the position:
    every record below it is counted or a dead letter. Pure, but for the records it is handed.
    """

    def __init__(
        self,
        source: Source,
        start: Resume,
        batch: BatchCounter,
        attempt: Callable[[int], Attempt],
        *,
        projects: bool = True,
        limits: DeadLetterLimits = DeadLetterLimits(),  # noqa: B008 - a constant: every limit off
    ) -> None:
        self.source = source
        self.catching_up_until = start.catching_up_until
        self.kafka_timestamp_ms = start.kafka_timestamp_ms
        self.last_timestamp_ms = 0
        self.out_of_bounds = 0
        self.unnamed_outcomes: Counter[int] = Counter()  # events by outcome, of those without a name
        self.stored_offset = -1
        self.hourly_offset = 0  # below it everything is stored in what is written seldom, too
        self.halted = ""  # why no more is counted: a limit on dead letters was reached
        self._start = start
        self._grid, self._known_to = start.grid, start.known_to
        self._erased = batch.rules.erased
        self._batch = batch
        self._attempt = attempt
        self._projects = projects
        self._watch = DeadLetterWatch(limits)
        self._pending = batch.pending()
        self._closed: list[Chunk] = []
        self._write_all = True  # the next flush also writes what is written seldom
        self._reconcile: dict[int, set[int]] = {}
        self._chain = Chain(start.start)
        self._leader_epoch = start.mark.leader_epoch
        self._verify_at = start.counted if start.start < start.counted else None
        self._notes = Notes(gap=(*start.gap, start.gap_why) if start.gap else None)
        head = self._certain(start.start)
        # Without its head the chunk goes on in the revision that is stored.
        self.chunk = self._new(head, 0) if start.load_stored else self._open(head)
        self.chunk.next_offset = start.start
        self._note_closed_before(head)

    def load(self, stored: StoredChunk, again: Attempt | None = None, *, mixed: bool = False) -> None:
        """Go on from what is stored of the open chunk, whose head the log no longer has.

        If the log was cut back within it, `again` is the revision in which counts go on: what was counted of
        vanished records stays, since it cannot be told from that of deleted ones, and what came instead is added.
        With `mixed` another fingerprint has counted what is stored, which is recorded if anything is.
        """
        stored = stored.without_moved(self._erased)
        if again is None:
            self.chunk.load(stored.cells)
        else:
            self.chunk.load(stored.cells, again.revision, self._start.cut.at)
        begins, first_offset = again is not None and again.begins, self.chunk.first_offset
        if mixed and (self.chunk.skip_until or stored.dead):
            self._notes.begun.append((first_offset, max(0, self.chunk.revision - begins), MIXED))
        if again is not None and begins:
            self._notes.begun.append((first_offset, again.revision, again.why))

    def add_up(self, first_offset: int, stored: StoredChunk) -> None:
        """Store with the next flush what a chunk before the open one lacks that is written seldom."""
        chunk = self._new(first_offset, 0)
        chunk.load(stored.without_moved(self._erased).cells)
        chunk.next_offset = min(max(self._start.counted, chunk.skip_until), chunk.end)
        self._closed.append(chunk)

    @property
    def next_offset(self) -> int:
        """Next offset to read."""
        return self.chunk.next_offset

    @property
    def wants_grid(self) -> bool:
        """Whether the chunks after the open one should be asked for: the next ones will not be certain for long."""
        return self._known_to < self.chunk.end + 2 * self._grid.length_at(self.chunk.end)

    @property
    def seen_end(self) -> int:
        """The log ends here or further on."""
        return max(self.next_offset, self._start.log_end)

    def learn(self, grid: Grid, end: int) -> None:
        """Go on by chunks that were read when the log ended at `end` or later.

        Raises Refused when the open chunk is none of them.
        """
        first, last = self.chunk.first_offset, self.chunk.end
        if (grid.chunk_of(first), grid.chunk_end(first)) != (first, last):
            raise Refused(
                f"{self.source.topic}/{self.source.partition}: the chunk of offsets {first} to {last} is being counted "
                "here, and now there is none such: a change of the chunk length was decided too late. Start it again"
            )
        self._grid, self._known_to = grid, max(self._known_to, grid.known_to(end))

    @property
    def catching_up(self) -> bool:
        """Whether a recount has not yet reached the position that it must not be stored below."""
        return self.next_offset < self.catching_up_until

    @property
    def live_cells(self) -> int:
        """Cells held in memory, of all families."""
        return sum(chunk.count(family) for chunk in (*self._closed, self.chunk) for family in FAMILIES)

    @property
    def unstored_cells(self) -> int:
        """Cells of `counts` kept only because their closed chunk is not stored yet."""
        return sum(chunk.count(COUNTS) for chunk in self._closed)

    @property
    def unstored_dead_letters(self) -> int:
        """Dead letters kept, with their payload, because they are not stored yet."""
        return len(self._notes.dead_letters)

    def count(self, run: Sequence[Record]) -> None:
        """Count records in offset order; those below the position have been counted and are passed over.

        When a limit on dead letters is reached `halted` says so, and nothing more is counted. What was counted by then
        is right and to be stored, so that the records which made it halt can be looked at. Raises ChunkNotKnown when
        all that come before the chunk are counted, and LogChanged.
        """
        if run and run[0].offset() < self.next_offset:
            run = run[bisect_left(run, self.next_offset, key=_offset) :]
        while run and not self.halted:
            if run[-1].offset() < self.chunk.end:
                self._count_within(run)
                return
            cut = bisect_left(run, self.chunk.end, key=_offset)
            if cut:
                self._count_within(run[:cut])
                if self.next_offset <= run[cut - 1].offset():
                    return  # it halted before the last of them
            run = run[cut:]
            self._close(run[0].offset())

    def advance(self, next_offset: int) -> None:
        """Move over offsets that hold no record: control records and aborted transactions at the log's end.

        Raises ChunkNotKnown and LogChanged, as `count`.
        """
        if self.halted:
            return
        if next_offset < self._start.read_before:  # nothing is stored, so no checkpoint would find that
            text = f"the log ends at offset {next_offset}, and was read up to {self._start.read_before}"
            raise LogChanged(self.chunk.first_offset, text)
        self._verify(next_offset)
        if next_offset >= self.chunk.end:
            self._close(next_offset)
        self.chunk.next_offset = max(self.chunk.next_offset, next_offset)

    def to_reconcile(self) -> list[Chunk]:
        """Chunks whose stored cells must be looked at before they are stored: another fingerprint counted them.

        Not before the recount is past all that may be stored of them: what it has not found yet is no stale cell.
        """
        self._fold()
        past = self.next_offset >= self._start.log_end
        candidates = (*self._closed, self.chunk) if past or self.next_offset == self.chunk.end else self._closed
        return [chunk for chunk in candidates if chunk.first_offset in self._reconcile]

    def reconcile(self, chunk: Chunk, stored: StoredChunk) -> None:
        """Zero the stored cells, and withdraw the stored dead letters, that this recount did not produce."""
        stored = stored.without_zeros_of(self._erased)
        chunk.overwrite(stored.cells)
        dead = self._reconcile.pop(chunk.first_offset)
        self._notes.withdrawn += [
            (offset, chunk.revision, chunk.first_offset)
            for offset, letter in stored.dead.items()
            # In revision 0 one beyond is of another owner, who has come further, and its version is the same.
            if offset not in dead and not letter.withdrawn and (chunk.revision or offset < chunk.next_offset)
        ]

    def take(self, *, seldom: bool = True) -> PartitionChanges:
        """What to store now. Afterwards call `stored` or `not_stored` with it, before the next `take`.

        Without `seldom` what is written seldom is left for later, unless a chunk has come to its end, or this is the
        first flush of any cells, or an earlier one failed.
        """
        self._fold()
        notes, self._notes = self._notes, Notes()
        seldom = seldom or self._write_all or bool(self._closed) or self.next_offset == self.chunk.end
        parts = [one.take(seldom=seldom) for one in (*self._closed, self.chunk) if one.changed and not self._held(one)]
        self._write_all = self._write_all and not parts
        return PartitionChanges(
            self.source,
            self.next_offset,
            self.hourly_offset if self.chunk.changed else self.next_offset,
            self.kafka_timestamp_ms,
            self._start.fingerprint_before if self.next_offset < self._start.fingerprint_before_until else "",
            self._mark(),
            self._start.cut,
            [part for part in parts if part.taken],
            notes,
        )

    def _held(self, chunk: Chunk) -> bool:
        """Whether a chunk is not to be stored yet: part of it in a later revision would win against all of it.

        It was counted up to `counted` before, and a revision may be recorded of which only some cells are stored.
        """
        return chunk.revision > 0 and chunk.next_offset < min(chunk.end, self._start.counted)

    def stored(self, changes: PartitionChanges) -> None:
        """The changes are in ClickHouse: closed chunks among them are done with."""
        self.stored_offset = changes.next_offset
        self.hourly_offset = changes.hourly_offset
        self._closed = [s for s in self._closed if s.end > changes.next_offset]

    def not_stored(self, changes: PartitionChanges) -> None:
        """Storing failed, perhaps halfway: all of it is stored again next time, with counts as they are then."""
        self._write_all = True
        for part in changes.chunks:
            part.chunk.not_stored(part)
        notes = self._notes
        notes.dead_letters[:0] = changes.notes.dead_letters
        notes.withdrawn[:0] = changes.notes.withdrawn
        notes.begun[:0] = changes.notes.begun
        notes.closed[:0] = changes.notes.closed
        notes.gap = changes.notes.gap

    def _note_closed_before(self, head: int) -> None:
        """Keep the mark of a chunk whose last record was counted just before a restart.

        It is only in `progress` yet, whose mark will be that of the chunk which begins here.
        """
        start = self._start
        if head == start.start == start.counted and start.mark.chain and start.mark.chain_from < head:
            before = self._grid.before(head)
            revision = self._attempt(before).revision
            self._notes.closed.append(ClosedChunk(before, revision, start.mark, start.counted_with))

    def _mark(self) -> Mark:
        return Mark(self._leader_epoch, self._chain.value, self._chain.chain_from)

    def _count_within(self, run: Sequence[Record]) -> None:
        """Count records of the open chunk; at the position that was counted before, the log has to be the same."""
        if self._verify_at is not None:
            cut = bisect_left(run, self._verify_at, key=_offset)
            if cut:
                self._refuse_newer(run[cut - 1])
                self._count_part(run[:cut])
                self._verify(self.next_offset)  # before anything can be stored from here on
            if cut < len(run) and not self.halted:
                self._verify(run[cut].offset())
                self._count_part(run[cut:])
            return
        self._count_part(run)

    def _refuse_newer(self, record: Record) -> None:
        """Epochs only grow along a log: what was counted before cannot have a later one than its last record had.

        Not where a chain is going to tell: a log may be cut back, and the very same records come to it again.
        """
        mark = self._start.closed.get(self.chunk.first_offset, self._start.mark)
        if mark.chain and (mark.chain_from == self._chain.chain_from or mark.chain_from >= self.chunk.end):
            return
        known, epoch = self._start.mark.leader_epoch, record.leader_epoch()
        if epoch is not None and -1 < known < epoch:
            text = f"the record at offset {record.offset()} was written in epoch {epoch}, after {known}"
            raise LogChanged(self.chunk.first_offset, text)

    def _verify(self, next_offset: int) -> None:
        if self._verify_at is None or next_offset < self._verify_at:
            return
        mark, self._verify_at = self._start.mark, None
        if mark.chain and self._chain.chain_from == mark.chain_from and self._chain.value != mark.chain:
            text = f"the records below offset {self._start.counted} are not those that were counted"
            raise LogChanged(self._grid.chunk_of(self._start.counted - 1), text)

    def _count_part(self, run: Sequence[Record]) -> None:
        if run[0].offset() < self.chunk.skip_until:
            self._count_unheld(run)
        else:
            self._count_run(run, self._pending)
        self.last_timestamp_ms = run[-1].timestamp()[1]
        epoch = run[-1].leader_epoch()
        self._leader_epoch = -1 if epoch is None else epoch
        self.chunk.next_offset = run[-1].offset() + 1

    def _count_run(self, run: Sequence[Record], pending: Pending) -> None:
        counted = self._batch.count(run, pending)
        self._chain.add(counted.row)
        self.kafka_timestamp_ms = max(self.kafka_timestamp_ms, counted.highest_ms)
        self.out_of_bounds += counted.out_of_bounds
        dead = [
            DeadRecord(run[at], code, text, self.chunk.revision, self._is_erased(run[at]))
            for at, code, text in counted.refusals
        ]
        self._notes.dead_letters += dead
        if dead and self.chunk.first_offset in self._reconcile:
            self._reconcile[self.chunk.first_offset].update(one.record.offset() for one in dead)
        self._watch_dead_letters(run, [refusal.at for refusal in counted.refusals])

    def _is_erased(self, record: Record) -> bool:
        return bool(self._erased) and not self._erased.isdisjoint(named_organizations(record.value()))

    def _watch_dead_letters(self, run: Sequence[Record], dead_at: Sequence[int]) -> None:
        """Halt at a limit. What was counted and stored before is passed over: a restart must not halt at that again."""
        new = bisect_left(run, self.catching_up_until, key=_offset)
        why = self._watch.see(len(run) - new, [at - new for at in dead_at if at >= new])
        if why and dead_at:
            last = self._notes.dead_letters[-1]
            self.halted = (
                f"{self.source.topic}/{self.source.partition} at offset {last.record.offset()}: {why} could not be "
                f"decoded, the last one: {last.code}. A producer has gone wrong, and this partition is counted no "
                "further. What came so far is stored: look at it with orgstats dead-letters ls. Mend the producer and "
                "start the consumer again; with the limit raised, or at 0, it goes on whatever comes"
            )

    def _count_unheld(self, run: Sequence[Record]) -> None:
        """Record by record, since stored cells already hold some of these events."""
        self._fold()
        one = Pending()
        for record in run:
            self._count_run([record], one)
            for tally, events in self._batch.fold(one):
                self.chunk.add_one(tally, record.offset())
                self._note_unnamed({tally.outcome: events})

    def _fold(self) -> None:
        self._note_unnamed(self._batch.fold_into(self.chunk, self._pending))

    def _note_unnamed(self, by_outcome: Mapping[int, int]) -> None:
        for outcome, events in by_outcome.items():
            if outcome not in NAMED_OUTCOMES:
                self.unnamed_outcomes[outcome] += events

    def _close(self, next_offset: int) -> None:
        """Finish the open chunk and open the one that holds `next_offset`; if that is not known, this is the end."""
        self._fold()
        self._verify(self.chunk.end)
        self._close_chain(self.chunk.first_offset, self.chunk.revision)
        self.chunk.next_offset = self.chunk.end
        following = self._certain(next_offset)
        self._closed.append(self.chunk)
        self._pass_over(self.chunk.end, following)
        self.chunk = self._open(following)
        self._chain = Chain(following)

    def _pass_over(self, first_offset: int, end: int) -> None:
        """Chunks without a record; had they any when they were counted, the log is another.

        Of one that is to be counted again, what is stored is of records that are gone.
        """
        for first in Chunks(self._grid, first_offset, end):
            attempt, self._chain = self._attempt(first), Chain(first)
            self._verify(self._grid.chunk_end(first))
            self._close_chain(first, attempt.revision)
            if attempt.reconcile:
                empty = self._open(first)
                empty.next_offset = empty.end
                self._closed.append(empty)

    def _close_chain(self, first: int, revision: int) -> None:
        """Note of which log a chunk was counted; if it was closed before, it has to be the same."""
        mark, known = self._mark(), self._start.closed.get(first)
        if known and known.chain and known.chain_from == mark.chain_from and known.chain != mark.chain:
            text = f"the records of {first} to {self._grid.chunk_end(first)} are not those that were counted"
            raise LogChanged(first, text)
        if known is not None and known.chain_from < mark.chain_from:
            mark = known  # of more records than the log still has
        self._notes.closed.append(ClosedChunk(first, revision, mark))

    def _certain(self, offset: int) -> int:
        """First offset of the chunk that holds an offset; raises ChunkNotKnown."""
        if self._grid.chunk_end(offset) > self._known_to:
            raise ChunkNotKnown(
                f"a change of the chunk length at offset {self._grid.proposed} is neither decided nor taken back: see "
                "orgstats chunk-length ls"
                if self._grid.proposed <= self._known_to
                else f"chunks beyond offset {self._known_to} are not known yet"
            )
        return self._grid.chunk_of(offset)

    def _open(self, first_offset: int) -> Chunk:
        attempt = self._attempt(first_offset)
        if attempt.begins:
            self._notes.begun.append((first_offset, attempt.revision, attempt.why))
        if attempt.reconcile:
            self._reconcile[first_offset] = set()
        return self._new(first_offset, attempt.revision)

    def _new(self, first_offset: int, revision: int) -> Chunk:
        end = self._grid.chunk_end(first_offset)
        return Chunk(first_offset, revision, end=end, projects=self._projects, erased=self._erased)


def _offset(record: Record) -> int:
    return record.offset()
