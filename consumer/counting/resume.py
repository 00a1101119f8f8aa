"""Where to go on after a restart or a rebalance: a pure decision from what the broker and the store say."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from orgstats.consumer.counting.chain import NO_MARK, Mark, SameLog
from orgstats.consumer.counting.grid import NO_CHUNKS, Chunks, Grid
from orgstats.consumer.counting.source import BEYOND_ALL, Source
from orgstats.errors import Refused

FINGERPRINT_CHANGED: Final = "the fingerprint changed"
"""Why of a repair with which a fingerprint came into force: chunks after it were counted with it, until the next."""
MIXED: Final = "the fingerprint changed, and the head was gone"
"""Why of a repair that is none: it came into force within this chunk, and no one can tell which records it counted."""
COUNTED_AGAIN: Final = "counted again after the fingerprint had changed"
TORN: Final = "a flush was torn"
LOG_CUT_BACK: Final = "log cut back"
"""Why of a repair of a chunk, and of a gap, whose records are no longer those that were counted."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What is recorded of a source since it was first counted."""

    grid: Grid
    isolation: str
    first_offset: int = 0


class Cut(NamedTuple):
    """The last time a log was cut back, at offset `at`; nothing when it never was.

    Chunks that begin before `to`, from that of `at` on, hold counts of records that the log no longer has until they
    are counted again; a repair begun at these `rewinds` of the source says that this was begun.
    """

    rewinds: int = 0
    at: int = 0
    to: int = 0


NO_CUT: Final = Cut()


@dataclass(frozen=True, slots=True)
class Progress:
    """What `progress` holds of a source: every record below `next_offset` is counted, by `fingerprint`.

    Counts are complete until `complete_until_ms`, epoch milliseconds; 0 when unknown. `mark` says of which log the
    open chunk was counted; its chunk is that of the last offset below `next_offset`. `hourly_offset` and
    `hourly_complete_until_ms` are the same of `hourly`, which is written less often.
    """

    next_offset: int
    fingerprint: str
    rewinds: int = 0
    kafka_timestamp_ms: int = 0
    complete_until_ms: int = 0
    mark: Mark = NO_MARK
    cut_at: int = 0
    cut_to: int = 0
    hourly_offset: int = 0
    hourly_complete_until_ms: int = 0

    @property
    def cut(self) -> Cut:
        """The last time the log was cut back."""
        return Cut(self.rewinds, self.cut_at, self.cut_to)


@dataclass(frozen=True, slots=True)
class Repair:
    """A revision above 0 of one chunk, and the fingerprint it was counted with.

    `new_fingerprint` is the fingerprint that came into force with this chunk, if one did. `rewinds` are the source's
    when the chunk was last counted again. A `mixed` chunk was begun with another fingerprint and could not be counted
    again.
    """

    revision: int
    fingerprint: str
    new_fingerprint: str = ""
    rewinds: int = 0
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the broker and the store say of one source. Offsets are next-to-read.

    `low` and `end` are the log's; `committed` is None when the group has no commit for this very topic.
    `highest_chunk` is the last one that may have stored cells, -1 for none; only known where `progress` is not of the
    fingerprint that counts now: a torn flush may have stored more than `progress` tells of. `chunks` are the closed
    ones that may be read again. `begun` is where the last flush ends that was begun since the log was last cut back:
    beyond what is counted it was torn, and any part of it may be stored.
    """

    low: int
    end: int
    committed: int | None = None
    progress: Progress | None = None
    registration: Registration | None = None
    repairs: Mapping[int, Repair] = field(default_factory=dict)
    highest_chunk: int = -1
    chunks: Mapping[int, Mark] = field(default_factory=dict)
    begun: int = 0

    @property
    def grid(self) -> Grid:
        """The chunks of the source; of one that nobody has registered there is nothing that could lie in any."""
        return self.registration.grid if self.registration else Grid()


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from `start`; neither flush nor commit below `catching_up_until`.

    `load_stored` is set when the head of the chunk is gone from the log, so that a recount would be smaller
    than what is stored. `gap` holds offsets (from, to) that nobody counted and that are gone.
    `log_end` is where the log ended then: nothing beyond it can have been stored yet. A change of fingerprint is only
    done with, and `progress` has the new one, when all that `fingerprint_before` may have stored is counted again.
    What lies right below `counted` was `counted_with` that fingerprint.
    What is read again has to be the log that was counted: at `counted` its `mark` must be reached, and at the end of
    the `closed` chunks theirs; and it cannot end below `read_before`, up to where others have read. Chunks that begin
    at `add_up` are not opened, and `hourly` may lack what `counts` has.
    Only chunks of `grid` that end at `known_to` or earlier are certain, see `Grid.known_to`.
    """

    start: int
    catching_up_until: int
    load_stored: bool = False
    gap: tuple[int, int] | None = None
    gap_why: str = ""
    kafka_timestamp_ms: int = 0
    went_back_from: int | None = None
    log_end: int = 0
    fingerprint_before: str = ""
    fingerprint_before_until: int = 0
    counted: int = 0
    counted_with: str = ""
    read_before: int = 0
    mark: Mark = NO_MARK
    closed: Mapping[int, Mark] = field(default_factory=dict)
    cut: Cut = NO_CUT
    add_up: Chunks = NO_CHUNKS
    grid: Grid = Grid()  # noqa: RUF009 - it is frozen
    known_to: int = BEYOND_ALL


def resume(
    found: SourceFacts,
    *,
    accept_skip: bool = False,
    allow_compaction: bool = False,
) -> Resume:
    """Decide where to go on. Raises Refused when going on could make counts wrong.

    With `allow_compaction` nothing that is counted is counted again: the log may have lost any record of it.
    """
    grid, counted, known = found.grid, counted_below(found), found.progress or Progress(0, "")
    if allow_compaction:
        found = replace(found, low=max(found.low, counted))
    position = _position(found, counted, accept_skip=accept_skip)
    skips = position > counted
    # A chunk is counted from its first offset: a skip ends where the commit's chunk begins, or where the log does.
    target = max(grid.chunk_of(position) if skips else position, found.low)
    gap = (counted, target) if counted < target else None
    if found.low > grid.chunk_of(target):
        # Without its head the chunk cannot be counted again, so what has been counted of it is left as it is.
        target = max(target, min(counted, grid.chunk_end(target)))
    head = grid.chunk_of(target)
    load_stored = found.low > head
    stored_until = min(found.end, grid.chunk_end(found.highest_chunk)) if found.highest_chunk >= 0 else 0
    begun = 0 if load_stored else min(found.end, found.begun)  # an owner before this one may still tell that progress
    catching_up_until = max(target, begun, position if skips else 0)
    return Resume(
        target if load_stored else head,
        catching_up_until,
        load_stored=load_stored,
        gap=gap,
        gap_why="" if gap is None else "skip accepted" if skips else "retention",
        kafka_timestamp_ms=known.kafka_timestamp_ms,
        went_back_from=found.committed if found.committed is not None and found.committed > position else None,
        log_end=found.end,
        fingerprint_before=known.fingerprint,
        fingerprint_before_until=stored_until,
        counted=known.next_offset,
        counted_with=_last_counted_with(found, known),
        read_before=max(known.next_offset, begun),
        mark=known.mark,
        closed=same_log(found),
        cut=known.cut,
        add_up=_add_up(found.progress, head, grid),
        grid=grid,
        known_to=grid.known_to(found.end),
    )


def _last_counted_with(found: SourceFacts, known: Progress) -> str:
    repair = found.repairs.get(found.grid.chunk_of(known.next_offset - 1)) if known.next_offset else None
    return repair.fingerprint if repair else known.fingerprint


def _add_up(progress: Progress | None, head: int, grid: Grid) -> Chunks:
    """Chunks before the one at `head` that `hourly` is not written to the end of."""
    if progress is None or progress.hourly_offset >= progress.next_offset:
        return NO_CHUNKS
    return Chunks(grid, grid.chunk_of(progress.hourly_offset), min(head, progress.next_offset))


def same_log(found: SourceFacts) -> dict[int, Mark]:
    """Marks of closed chunks by first offset, as far as they are counted since the log was last cut back.

    A torn flush may have stored one without the progress that says that it is counted. Of those from before a cut none
    is below the progress: that is set back to the cut, goes past no chunk without a new mark, and past no skip before
    all of them (`cutback.with_cut`); what retention takes is not read again.
    """
    counted = found.progress.next_offset if found.progress else 0
    return {first: mark for first, mark in found.chunks.items() if found.grid.chunk_end(first) <= counted}


def to_compare(found: SourceFacts, first: int, end: int) -> dict[int, SameLog]:
    """What compares the log with the one that was counted, by first offset of chunks in [first, end).

    Of chunks, closed or open, that are counted since the log was last cut back, and of which the log still has all
    records that the mark was made of. `end` is also where reading ends.
    """
    known = {chunk: SameLog(mark, found.grid.chunk_end(chunk)) for chunk, mark in same_log(found).items()}
    if found.progress is not None and found.progress.next_offset > found.progress.mark.chain_from:
        known[found.grid.chunk_of(found.progress.next_offset - 1)] = SameLog(
            found.progress.mark, found.progress.next_offset
        )
    return {
        chunk: one
        for chunk, one in known.items()
        if first <= chunk and one.until <= end and one.mark.chain_from >= max(chunk, found.low)
    }


def skips(found: SourceFacts, *, accept_skip: bool) -> bool:
    """Whether counting goes on behind what nobody has counted, so that nothing of the chunk before is read again."""
    counted = counted_below(found)
    return _position(found, counted, accept_skip=accept_skip) > counted


def counted_below(found: SourceFacts) -> int:
    """Every record below is counted, was there before counting began, or is listed as a gap already."""
    if found.progress is not None:
        return found.progress.next_offset
    if found.registration is not None:
        return found.registration.first_offset
    return found.low if found.committed is None else 0  # the first start; or a store that has lost everything


def _position(found: SourceFacts, counted: int, *, accept_skip: bool) -> int:
    """The position to be back at: the commit, unless the store has not seen all that lies before it.

    Beyond what is counted only when a skip is accepted, and never beyond the end of the log.
    """
    if found.committed is None:
        return counted
    committed = min(found.committed, found.end)
    if committed <= counted or (accept_skip and counted < found.grid.chunk_of(committed)):
        return committed
    return counted


def refuse_other_isolation(source: Source, registration: Registration | None, isolation: str) -> None:
    """Raise Refused where a source was counted by another one. Ask it before the log is compared: it shows others."""
    if registration is not None and registration.isolation != isolation:
        raise Refused(
            f"{source.topic}/{source.partition} was counted with isolation.level={registration.isolation}, now it is "
            f"{isolation}: the counts would mix both. Set ORGSTATS_KAFKA__ISOLATION_LEVEL={registration.isolation}."
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a chunk is to be counted from its first offset.

    `begins` is set when the revision has to be recorded in `repairs` before its first row is written;
    `reconcile` when stored cells may exist that this fingerprint does not produce, and want a zero.
    """

    revision: int = 0
    begins: bool = False
    reconcile: bool = False
    why: str = ""


def after_cut(first_offset: int, found: SourceFacts) -> Attempt | None:
    """The revision in which to count a chunk again since the log was cut back; None where that changes nothing."""
    cut, repair = found.progress.cut if found.progress else NO_CUT, found.repairs.get(first_offset)
    if not found.grid.chunk_of(cut.at) <= first_offset < cut.to:
        return None
    if repair is not None and repair.rewinds >= cut.rewinds:
        return Attempt(repair.revision, reconcile=True)
    return _again(repair, LOG_CUT_BACK)


def after_tear(first_offset: int, found: SourceFacts) -> Attempt | None:
    """The revision in which to count a chunk again that a torn flush reached; None for other chunks.

    The log may have been cut back since to where that flush began, or further on. Then cells that it stored are of
    records that vanished, and have a position that what came instead reaches only later; nothing else tells of that.
    """
    repair, counted = found.repairs.get(first_offset), counted_below(found)
    if not found.grid.chunk_of(counted) <= first_offset < found.begun or found.begun <= counted:
        return None
    return _again(repair, TORN)


def attempt(first_offset: int, found: SourceFacts, fingerprint: str, *, is_first: bool = False) -> Attempt:
    """How to count a chunk: in the next revision if the log was cut back, a flush torn, or the fingerprint changed.

    `is_first` where counting goes on with this chunk. A revision that is begun is not begun again, but its stored cells
    are looked at: whoever began it may have ended halfway, of a chunk that counting has not come to since.
    """
    changed = _after_change(first_offset, found, fingerprint, is_first=is_first)
    again = [one for one in (after_cut(first_offset, found), after_tear(first_offset, found)) if one is not None]
    return max((changed, *again), key=lambda one: (one.begins, one.reconcile))


def _after_change(first_offset: int, found: SourceFacts, fingerprint: str, *, is_first: bool) -> Attempt:
    """The revision in which to count a chunk.

    Counts of another fingerprint must lose, so a chunk that was counted before with another fingerprint gets the
    next revision; a revision that this fingerprint has begun already is taken up again. The first chunk records a
    change also where nothing is stored of it, behind what was skipped: else the chunks before it would be taken for
    counts of this fingerprint when they are counted again.
    """
    repair, progress = found.repairs.get(first_offset), found.progress
    revision = repair.revision if repair else 0
    if not is_first and first_offset > max(found.highest_chunk, progress.next_offset if progress else -1):
        return Attempt(revision)
    if progress is None:  # what a first flush that was torn may have stored is counted again by `after_tear`
        return Attempt(revision, reconcile=found.highest_chunk >= 0)
    before = repair.fingerprint if repair else counted_with(first_offset, found.repairs, progress, fingerprint)
    if before != fingerprint:
        nothing_follows = first_offset >= found.grid.chunk_of(progress.next_offset)  # also a change that is taken back
        why = FINGERPRINT_CHANGED if progress.fingerprint != fingerprint or nothing_follows else COUNTED_AGAIN
        return _again(repair, why)
    return Attempt(revision, reconcile=repair is not None)  # whether it was done before the last crash is not known


def _again(repair: Repair | None, why: str) -> Attempt:
    """In the next revision, which is to be recorded first."""
    return Attempt(repair.revision + 1 if repair else 1, begins=True, reconcile=True, why=why)


def counted_with(first_offset: int, repairs: Mapping[int, Repair], progress: Progress, fingerprint: str) -> str:
    """The fingerprint that counted a chunk without a repair of its own; empty when that is not on record.

    While `progress` still has another fingerprint, a change to this one may have been begun and not been finished.
    """
    changes = {chunk: repair.new_fingerprint for chunk, repair in repairs.items() if repair.new_fingerprint}
    if progress.fingerprint != fingerprint or not changes:
        return progress.fingerprint
    before = [chunk for chunk in changes if chunk < first_offset]
    return changes[max(before)] if before else ""
