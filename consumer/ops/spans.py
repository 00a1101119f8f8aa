"""Which chunks a replay may count again; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from orgstats.consumer.ops.connections import SourceStatus
from orgstats.consumer.ops.recount import HeadPolicy, OffsetRange
from orgstats.errors import Refused


@dataclass(frozen=True, slots=True)
class WantedOffsets:
    """Offsets of one source that were asked for; None means from the first retained, to the last counted."""

    first: int | None = None
    end: int | None = None


def closed_span(located: SourceStatus, wanted: WantedOffsets, head: HeadPolicy) -> tuple[OffsetRange | None, list[str]]:
    """The closed chunks that hold the wanted offsets, rounded outward, and what is left out and why.

    Raises Refused when the first of them is not whole in the log any more and `head` does not say what to do.
    """
    if located.progress is None:
        return None, [f"{located.name}: nothing is counted yet, so there is nothing to replay"]
    notes, grid = [], located.grid
    closed_end = grid.chunk_of(located.progress.next_offset)
    first_retained = grid.chunk_of(max(located.low, located.first_offset))
    first = max(first_retained, grid.chunk_of(wanted.first or 0))
    end = closed_end if wanted.end is None else grid.chunk_end(max(wanted.end, 1) - 1)
    if end > closed_end and (wanted.first or 0) < located.progress.next_offset:
        notes.append(f"{located.name}: chunk {closed_end} is open and left to the consumers")
    wanted_first = first_retained if wanted.first is None else grid.chunk_of(wanted.first)
    if wanted_first < grid.chunk_of(located.low) and head is HeadPolicy.refuse:
        raise Refused(_head_gone(located, wanted_first))
    end = min(end, closed_end)
    if first < end and located.low > max(first, located.first_offset):
        if head is HeadPolicy.refuse and wanted.first is not None:
            raise Refused(_head_gone(located, first))
        if head in (HeadPolicy.refuse, HeadPolicy.skip):
            notes.append(f"{located.name}: chunk {first} is left out, its records below {located.low} are gone")
            first = grid.chunk_end(first)
    return (OffsetRange(located, first, end) if first < end else None), notes


def whole_span(located: SourceStatus, head: HeadPolicy) -> tuple[OffsetRange, list[str]]:
    """Everything that a log which was cut back still holds. Raises Refused as `closed_span` does."""
    grid = located.grid
    first = grid.chunk_of(max(located.low, located.first_offset))
    notes = []
    if located.end and grid.chunk_end(located.end - 1) > grid.proposed:
        raise Refused(
            f"{located.name}: a change of the chunk length at offset {grid.proposed} is neither decided nor taken "
            "back, see orgstats chunk-length ls"
        )
    if first < located.end and located.low > max(first, located.first_offset):
        counted = located.progress.next_offset if located.progress else 0
        if head is HeadPolicy.refuse or grid.chunk_end(first) > min(counted, located.end):  # the rest is still to count
            if head is not HeadPolicy.drop:
                raise Refused(_head_gone(located, first))
        elif head is HeadPolicy.skip:
            notes.append(f"{located.name}: chunk {first} is left out, its records below {located.low} are gone")
            first = grid.chunk_end(first)
    return OffsetRange(located, min(first, grid.chunk_of(located.end)), located.end, whole_log=True), notes


def _head_gone(located: SourceStatus, chunk: int) -> str:
    return (
        f"{located.name}: chunk {chunk} cannot be counted whole, the log begins at offset {located.low}. Say what "
        "to do with chunks whose head is gone: --head skip leaves them as they are, --head keep keeps what is "
        "stored and adds what it does not hold, --head drop (with --repair) recounts what is left and lists the rest "
        "as a gap"
    )


def without(span: OffsetRange, done: Iterable[int]) -> list[OffsetRange]:
    """The span in parts, without chunks that are done."""
    spans, first, grid = [], span.first, span.located.grid
    for chunk in sorted(s for s in done if span.first <= s < span.end and grid.chunk_of(s) == s):
        if first < chunk:
            spans.append(OffsetRange(span.located, first, chunk))
        first = grid.chunk_end(chunk)
    if first < span.end or span.whole_log:
        spans.append(OffsetRange(span.located, min(first, span.end), span.end, whole_log=span.whole_log))
    return spans
