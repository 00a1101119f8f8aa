"""Where to go on after a restart or a rebalance: a pure decision from what the broker and the store say."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from orgstats.consumer.counting.source import SEGMENT_LENGTH, Source, segment_end, segment_of
from orgstats.errors import Refused

LOGIC_CHANGED: Final = "the logic changed"
"""Why of a repair with which a logic came into force: segments after it were counted with it, until the next."""
COUNTED_AGAIN: Final = "counted again after the logic had changed"


@dataclass(frozen=True, slots=True)
class Registration:
    """What `sources` holds of a source since it was first counted."""

    segment_length: int
    isolation: str
    first_offset: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What `progress` holds of a source: every record below `next_offset` is counted, by `logic`.

    Segments from `summed_from` on have sums by hour; 0 when all have. Counts are complete until `complete_until_ms`,
    epoch milliseconds; 0 when unknown.
    """

    next_offset: int
    logic: str
    rewinds: int = 0
    kafka_timestamp_ms: int = 0
    summed_from: int = 0
    complete_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Repair:
    """A generation above 0 of one segment, and the logic it was counted with.

    `new_logic` is the logic that came into force with this segment, if one did.
    """

    generation: int
    logic: str
    new_logic: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What the broker and the store say of one source. Offsets are next-to-read.

    `low` and `end` are the log's; `committed` is None when the group has no commit for this incarnation.
    `highest_segment` is the last one with stored cells, -1 for none; only known where `progress` is not of the
    logic that counts now: a torn flush may have stored more than `progress` tells of. `gaps` are those listed lately.
    """

    low: int
    end: int
    committed: int | None = None
    progress: Progress | None = None
    registration: Registration | None = None
    repairs: Mapping[int, Repair] = field(default_factory=dict)
    highest_segment: int = -1
    gaps: Collection[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from `start`; neither flush nor commit below `quiet_until`.

    `load_stored` is set when the head of the segment is gone from the log, so that a recount would be smaller
    than what is stored. `gap` holds offsets (from, to) that nobody counted and that are gone.
    `log_end` is where the log ended then: nothing beyond it can have been stored yet. A change of logic is only
    done with, and `progress` has the new one, when all that `logic_before` may have stored has been counted again.
    `summed_from` is what `progress` will say: the segment of `start` is counted or loaded whole, and so summed.
    """

    start: int
    quiet_until: int
    load_stored: bool = False
    gap: tuple[int, int] | None = None
    gap_why: str = ""
    kafka_timestamp_ms: int = 0
    went_back_from: int | None = None
    log_end: int = 0
    logic_before: str = ""
    logic_before_until: int = 0
    summed_from: int = 0


def resume(source: Source, found: Found, isolation: str, *, accept_skip: bool = False) -> Resume:
    """Decide where to go on. Raises Refused when going on could make counts wrong."""
    _refuse_other_grid(source, found.registration, isolation)
    counted = counted_below(found)
    if found.end < counted:
        raise Refused(
            f"{source.topic}/{source.partition} ends at offset {found.end}, but records below {counted} have been "
            "counted: the log was cut back and its offsets were given out anew. Recount what it holds now: "
            f"orgstats replay apply --repair --rewind --topic {source.topic} --partitions {source.partition}"
        )
    position = _position(found, counted, accept_skip=accept_skip)
    went_back = found.committed if found.committed is not None and found.committed > position else None
    seen_ms = found.progress.kafka_timestamp_ms if found.progress else 0
    skips = position > counted
    # A chunk is counted from its first offset: a skip ends where the commit's chunk begins, or where the log does.
    target = max(segment_of(position) if skips else position, found.low)
    gap = (counted, target) if counted < target else None
    why = "" if gap is None else "skip accepted" if skips else "retention"
    if found.low > segment_of(target):
        # Without its head the segment cannot be counted again, so what has been counted of it is left as it is.
        target = max(target, min(counted, segment_end(target)))
    head = segment_of(target)
    load_stored = found.low > head
    stored_until = min(found.end, segment_end(found.highest_segment)) if found.highest_segment >= 0 else 0
    quiet_until = max(target, position if skips else 0, 0 if found.progress else stored_until)
    return Resume(
        target if load_stored else head,
        quiet_until,
        load_stored=load_stored,
        gap=gap,
        gap_why=why,
        kafka_timestamp_ms=seen_ms,
        went_back_from=went_back,
        log_end=found.end,
        logic_before=found.progress.logic if found.progress else "",
        logic_before_until=stored_until,
        summed_from=min(found.progress.summed_from, head) if found.progress else 0,
    )


def counted_below(found: Found) -> int:
    """Every record below is counted, was there before counting began, or is listed as a gap already."""
    if found.progress is not None:
        return found.progress.next_offset
    if found.registration is not None:
        return found.registration.first_offset
    return found.low if found.committed is None else 0  # the first start; or a store that has lost everything


def left_behind(found: Found, start: Resume) -> list[tuple[int, int]]:
    """Ranges of segments that nobody can count again, and whose cells may be stored without their sums by hour.

    That is what lies between what is surely stored or was counted again, and where counting goes on: a flush may
    have been torn there.
    And what a gap reaches into: who was cut off before the records were deleted may still have stored counts of
    them, whole or torn, after the gap was listed.
    """
    stored, end = counted_below(found), segment_of(start.start)
    if found.committed is not None:
        stored = min(stored, found.committed)
    gone = [(stored, end), *((first, min(segment_end(after - 1), end)) for first, after in found.gaps)]
    return [(segment_of(first), after) for first, after in gone if segment_of(first) < after]


def _position(found: Found, counted: int, *, accept_skip: bool) -> int:
    """The position to be back at: the commit, unless the store has not seen all that lies before it.

    Beyond what is counted only when a skip is accepted, and never beyond the end of the log.
    """
    if found.committed is None:
        return counted
    committed = min(found.committed, found.end)
    if committed <= counted or (accept_skip and counted < segment_of(committed)):
        return committed
    return counted


def _refuse_other_grid(source: Source, registration: Registration | None, isolation: str) -> None:
    if registration is None:
        return
    name = f"{source.topic}/{source.partition}"
    if registration.segment_length != SEGMENT_LENGTH:
        raise Refused(
            f"{name} was counted in segments of {registration.segment_length} offsets; this version uses "
            f"{SEGMENT_LENGTH}, and cells of both would overlap. Go on with the version that began, or count "
            "into an empty database."
        )
    if registration.isolation != isolation:
        raise Refused(
            f"{name} was counted with isolation.level={registration.isolation}, now it is {isolation}: the counts "
            f"would mix both. Set ORGSTATS_KAFKA__ISOLATION_LEVEL={registration.isolation}."
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a segment is to be counted from its first offset.

    `begins` is set when the generation has to be recorded in `repairs` before its first row is written;
    `reconcile` when stored cells may exist that this logic does not produce, and want a zero.
    """

    generation: int = 0
    begins: bool = False
    reconcile: bool = False
    why: str = ""


def attempt(first_offset: int, found: Found, logic: str) -> Attempt:
    """The generation in which to count a segment.

    Counts of another logic must lose, so a segment that was counted before with another fingerprint gets the
    next generation; a generation that this logic has begun already is taken up again.
    """
    repair, progress = found.repairs.get(first_offset), found.progress
    generation = repair.generation if repair else 0
    if first_offset > max(found.highest_segment, progress.next_offset if progress else -1):
        return Attempt(generation)
    if progress is None:  # a first flush was torn, hardly by another logic: cells that differ are rewritten
        return Attempt(generation, reconcile=True)
    before = repair.logic if repair else counted_with(first_offset, found.repairs, progress, logic)
    if before != logic:
        nothing_follows = first_offset >= segment_of(progress.next_offset)  # also a change that is taken back
        why = LOGIC_CHANGED if progress.logic != logic or nothing_follows else COUNTED_AGAIN
        return Attempt(generation + 1, begins=True, reconcile=True, why=why)
    return Attempt(generation, reconcile=repair is not None)  # whether it was done before the last crash is not known


def counted_with(first_offset: int, repairs: Mapping[int, Repair], progress: Progress, logic: str) -> str:
    """The logic that counted a segment without a repair of its own; empty when that is not on record.

    While `progress` still has another logic, a change to this one may have been begun and not been finished.
    """
    changes = {segment: repair.new_logic for segment, repair in repairs.items() if repair.new_logic}
    if progress.logic != logic or not changes:
        return progress.logic
    before = [segment for segment in changes if segment < first_offset]
    return changes[max(before)] if before else ""
