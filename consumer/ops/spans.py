"""Which segments a replay may count again; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from orgstats.consumer.counting.source import SEGMENT_LENGTH, segment_end, segment_of
from orgstats.consumer.ops.recount import Head, Span
from orgstats.consumer.ops.site import Located
from orgstats.errors import Refused


@dataclass(frozen=True, slots=True)
class Wanted:
    """Offsets of one source that were asked for; None means from the first retained, to the last counted."""

    first: int | None = None
    end: int | None = None


def closed_span(located: Located, wanted: Wanted, head: Head) -> tuple[Span | None, list[str]]:
    """The closed segments that hold the wanted offsets, rounded outward, and what is left out and why.

    Raises Refused when the first of them is not whole in the log any more and `head` does not say what to do.
    """
    if located.progress is None:
        return None, [f"{located.name}: nothing is counted yet, so there is nothing to replay"]
    notes = []
    closed_end = segment_of(located.progress.next_offset)
    first_retained = segment_of(max(located.low, located.first_offset))
    first = max(first_retained, segment_of(wanted.first or 0))
    end = closed_end if wanted.end is None else segment_end(max(wanted.end, 1) - 1)
    if end > closed_end and (wanted.first or 0) < located.progress.next_offset:
        notes.append(f"{located.name}: segment {closed_end} is open and left to the consumers")
    if wanted.first is not None and segment_of(wanted.first) < segment_of(located.low) and head is Head.refuse:
        raise Refused(_head_gone(located, segment_of(wanted.first)))
    end = min(end, closed_end)
    if first < end and located.low > max(first, located.first_offset):
        if head is Head.refuse and wanted.first is not None:
            raise Refused(_head_gone(located, first))
        if head in (Head.refuse, Head.skip):
            notes.append(f"{located.name}: segment {first} is left out, its records below {located.low} are gone")
            first += SEGMENT_LENGTH
    return (Span(located, first, end) if first < end else None), notes


def whole_span(located: Located, head: Head) -> tuple[Span, list[str]]:
    """Everything that a log which was cut back still holds. Raises Refused as `closed_span` does."""
    first = segment_of(max(located.low, located.first_offset))
    notes = []
    if first < located.end and located.low > max(first, located.first_offset):
        if head is Head.refuse or segment_end(first) > located.end:
            if head is not Head.drop:
                raise Refused(_head_gone(located, first))
        elif head is Head.skip:
            notes.append(f"{located.name}: segment {first} is left out, its records below {located.low} are gone")
            first += SEGMENT_LENGTH
    return Span(located, min(first, segment_of(located.end)), located.end, whole_log=True), notes


def _head_gone(located: Located, segment: int) -> str:
    return (
        f"{located.name}: segment {segment} cannot be counted whole, the log begins at offset {located.low}. Say what "
        "to do with segments whose head is gone: --head skip leaves them as they are, --head keep keeps what is "
        "stored and adds what it does not hold, --head drop (with --repair) recounts what is left and lists the rest "
        "as a gap"
    )


def without(span: Span, done: Iterable[int]) -> list[Span]:
    """The span in parts, without segments that are done."""
    spans, first = [], span.first
    for segment in sorted(s for s in done if span.first <= s < span.end):
        if first < segment:
            spans.append(Span(span.located, first, segment))
        first = segment + SEGMENT_LENGTH
    if first < span.end or span.whole_log:
        spans.append(Span(span.located, min(first, span.end), span.end, whole_log=span.whole_log))
    return spans
