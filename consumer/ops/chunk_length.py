"""Changes the chunk length of sources while consumers count them.

Why no consumer ever counts by the old length where others count by the new one, without looking at a clock. A consumer
that read the lengths when a log ended at `end`, or further on, opens chunks up to `end` and a margin by them, and reads
again before it goes beyond (`Grid.known_to`). A change is proposed for an offset several margins ahead. It is decided
only after it was read back, and the log, asked after that, still ended more than a margin before it. So whoever had
read the lengths without the proposal did so when the log ended there or earlier, and opens no chunk that far; whoever
reads them afterwards sees the proposal, and opens no chunk at or beyond it until it is decided or taken back.

Failure semantics: until it is decided a change can be taken back, and nobody has counted by it. Where ClickHouse does
not answer, or the log grew too fast, it is taken back here. A proposal that is left over holds up its partition once
that comes to it, and `orgstats chunk-length void` takes it back.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from orgstats.consumer.counting.grid import LONGEST, MARGIN_CHUNKS, SHORTEST, Grid
from orgstats.consumer.counting.source import BEYOND_ALL
from orgstats.consumer.kafka.properties import READ_UNCOMMITTED
from orgstats.consumer.ops.connections import Connections, SourceStatus, locate, now
from orgstats.consumer.store.chunk_lengths import State
from orgstats.consumer.store.store import Store
from orgstats.errors import ConfigurationError, Refused, Unavailable
from orgstats.schemas.tables import ChunkLengthRow

MARGINS: Final = 3
"""A change is proposed so many margins ahead: one is needed, the others are what the log may grow meanwhile."""
TRIES: Final = 5
"""To tell that a change is decided; it holds whenever that is told."""


@dataclass(frozen=True, slots=True)
class LengthChange:
    """A change to be made: from `from_offset` on, `ahead` offsets beyond the end of the log, chunks have `length`."""

    located: SourceStatus
    length: int
    from_offset: int
    ahead: int

    @property
    def before(self) -> int:
        """The length it has now."""
        return self.located.grid.length_at(self.from_offset)


def plan(connections: Connections, partitions: Collection[int] | None, length: int) -> Iterator[LengthChange | str]:
    """What a change to `length` would be, source by source; a text says why there is none.

    Raises ConfigurationError for a length that no chunk can have, and what `locate` does.
    """
    if length & (length - 1) or not SHORTEST <= length <= LONGEST:
        raise ConfigurationError(f"{length} is not a power of two from {SHORTEST} to {LONGEST}")
    located = locate(connections, partitions)
    begun = connections.store.begun([one.source for one in located])
    ends = connections.topics.ends([(one.source.topic, one.source.partition) for one in located], READ_UNCOMMITTED)
    for one in located:
        end = ends[one.source.topic, one.source.partition]
        if one.registration is None:
            yield f"{one.name} is not counted yet: it gets ORGSTATS_CHUNK_LENGTH of the consumer that counts it first"
        elif one.grid.proposed < BEYOND_ALL:
            yield f"{one.name}: an earlier change is neither decided nor taken back, see orgstats chunk-length ls"
        elif one.grid.entries[-1][1] == length:
            yield f"{one.name} has chunks of {length:,} already, from offset {one.grid.entries[-1][0]:,} on"
        else:
            stored = begun.get(one.source.source_id, (0, 0))[1]
            if one.progress is not None:  # of a log that was cut back more may be counted than it holds
                stored = max(stored, one.progress.next_offset, one.progress.cut_to)
            yield _change(one, length, max(end, stored))


def _change(one: SourceStatus, length: int, end: int) -> LengthChange:
    longer = max(length, *(its for _, its in one.grid.entries))
    least = max(end + MARGINS * MARGIN_CHUNKS * longer, one.grid.entries[-1][0] + 1)
    from_offset = -(-least // longer) * longer
    return LengthChange(one, length, from_offset, from_offset - end)


def execute(connections: Connections, change: LengthChange, by: str) -> str:
    """Propose a change and decide it; returns its id.

    Raises Unavailable when it was taken back, or when it is not known what became of it: then the text says what to do.
    """
    store, source = connections.store, change.located.source
    row = ChunkLengthRow(
        source.source_id, change.from_offset, token_hex(8), change.length, by, now(), int(State.PROPOSED)
    )
    try:
        _write(store, row)
        grid = _read_back(connections, row)
        tp = (source.topic, source.partition)
        end = connections.topics.ends([tp], READ_UNCOMMITTED)[tp]
    except Unavailable as error:
        _take_back(connections, row)
        raise Unavailable(f"{change.located.name}: the change was taken back, ask for it again: {error}") from error
    if end + grid.margin >= change.from_offset:
        _take_back(connections, row)
        raise Unavailable(
            f"{change.located.name}: the change was taken back: meanwhile the log has grown to {end:,}, which is too "
            f"near to {change.from_offset:,} for every consumer to know of it in time. Ask for it again"
        )
    _decide(connections, change, row)
    return row.entry_id


def settle(store: Store, row: ChunkLengthRow, state: State) -> None:
    """Decide a change, or take it back, unless one of both is done already."""
    known = {one.entry_id: one.state for one in store.length_changes([row.source_id])}
    if known.get(row.entry_id) == State.PROPOSED:
        _write(store, row._replace(state=int(state)))


def _write(store: Store, row: ChunkLengthRow) -> None:
    """One insert of one row, stored whole or not at all; it may be repeated."""
    store.insert("chunk_lengths", [[value] for value in row])


def _read_back(connections: Connections, row: ChunkLengthRow) -> Grid:
    """The chunks as they are known once the proposal can be seen. Raises Unavailable when it cannot."""
    grid = connections.store.grids([row.source_id]).get(row.source_id)
    if grid is None or grid.proposed > row.from_offset:
        raise Unavailable("ClickHouse does not show what was proposed")
    return grid


def _decide(connections: Connections, change: LengthChange, row: ChunkLengthRow) -> None:
    """That it may be decided stays true, so this is tried again."""
    for _ in range(TRIES):
        with suppress(Unavailable):
            settle(connections.store, row, State.DECIDED)
            known = connections.store.length_changes([row.source_id])
            (state,) = [one.state for one in known if one.entry_id == row.entry_id]
            if state == State.TAKEN_BACK:
                raise Refused(f"{change.located.name}: change {row.entry_id} was taken back by somebody else")
            return
        time.sleep(1.0)
    raise Unavailable(
        f"ClickHouse does not say whether change {row.entry_id} of {change.located.name} is decided. Look at orgstats "
        f"chunk-length ls once it answers; if it is only proposed, orgstats chunk-length void {row.entry_id} --execute"
    )


def _take_back(connections: Connections, row: ChunkLengthRow) -> None:
    """Raises Unavailable when it is not known whether that was stored."""
    taken_back = row._replace(state=int(State.TAKEN_BACK))
    with suppress(Unavailable):
        _write(connections.store, taken_back)
        return
    raise Unavailable(
        f"ClickHouse does not say whether change {row.entry_id} was stored. Look at orgstats chunk-length ls once it "
        f"answers, and if it is there orgstats chunk-length void {row.entry_id} --execute"
    )


def ls(connections: Connections, partitions: Collection[int] | None) -> Iterator[tuple[SourceStatus, ChunkLengthRow]]:
    """Every change of these partitions."""
    located = {one.source.source_id: one for one in locate(connections, partitions)}
    for row in connections.store.length_changes(list(located)):
        yield located[row.source_id], row


def void(connections: Connections, entry_id: str, *, execute: bool) -> ChunkLengthRow:
    """Take back a change that is only proposed; returns it. Raises ConfigurationError for none, Refused for a decided
    one: it holds for ever, since chunks may have been counted by it.
    """
    found = [row for _, row in ls(connections, None) if row.entry_id == entry_id]
    if not found:
        raise ConfigurationError(f"there is no change {entry_id}; see orgstats chunk-length ls")
    if execute and found[0].state == State.PROPOSED:
        settle(connections.store, found[0], State.TAKEN_BACK)
        found = [row for _, row in ls(connections, None) if row.entry_id == entry_id]
    if found[0].state == State.DECIDED:
        raise Refused(f"change {entry_id} is decided: change the length again instead, from a later offset on")
    return found[0]
