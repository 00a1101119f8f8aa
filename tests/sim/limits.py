"""Where the guarantee ends (docs/reliability.md): what an operator or a log does that nobody can tell apart any more.

A source that comes there is not compared any further. All of it is worked out before the step is taken.
"""

from typing import Final

from orgstats.consumer.kafka.group import TopicPartition
from tests.sim.clickhouse import Row, SimClickHouse
from tests.sim.oracle import LOW_48_BITS
from tests.sim.world import SimWorld

LONGEST: Final = 1 << 15
"""Of chunks that histories have; see also plan.SHORTEST."""
TORN_AND_CUT: Final = "a torn flush, then a cut"
HEAD_LOST: Final = "a cut behind a lost head"
MIXED: Final = "retention within a change of version"


class Limits:
    """By source, why."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self.found: dict[int, str] = {}
        self._cut_at: dict[int, int] = {}
        self._ever_cut: dict[int, int] = {}
        self.versions_change = False
        self.changing: set[int] = set()
        """Sources of which some chunk may be between two versions of the program or the rules."""
        self.skips: set[TopicPartition] = set()
        """Of which a commit may be ahead of what is counted, by an operator's doing."""

    def settled(self) -> None:
        """Everything is counted: nothing is unfinished."""
        self._cut_at.clear()
        self.changing.clear()

    def on_cut(self, tp: TopicPartition, end: int, *, zombies: bool) -> None:
        """The log is to end here."""
        row, store = self._source(tp), self._world.store
        if row is None:
            return
        self._cut_at[row.source_id] = min(end, self._cut_at.get(row.source_id, end))
        self._ever_cut[row.source_id] = min(end, self._ever_cut.get(row.source_id, end))
        progress = self._progress(row)
        low = max(self._world.kafka.log(tp).low, row.first_offset)
        torn = _reached(store, row.source_id) > (progress.next_offset if progress else 0)
        if torn and (zombies or progress is None or low > self._chunk(row, progress.next_offset)):
            self.found[row.source_id] = TORN_AND_CUT
        self._see_head(row, low)
        if row.source_id in self.changing:
            self.found[row.source_id] = MIXED

    def on_restore(self) -> None:
        """The store is as it was before: it may not know of a cut, which nobody finds in a log that is gone."""
        self.skips.update(self._world.kafka.tps())
        for _, _, logs in self._world.kafka.former:
            for log in logs:
                log.unresolved = bool(log.vanished)
        self._cut_at = dict(self._ever_cut)
        for tp in self._world.kafka.tps():
            log, row = self._world.kafka.log(tp), self._source(tp)
            log.unresolved = bool(log.vanished)
            if row is not None and row.source_id in self._cut_at:
                self.on_cut(tp, self._cut_at[row.source_id], zombies=False)

    def on_retention(self, tp: TopicPartition, low: int) -> None:
        """The log is to begin here."""
        row = self._source(tp)
        if row is None:
            return
        self._see_head(row, low)
        if self.versions_change and (row.source_id in self.changing or self._two_versions(row)):
            self.found[row.source_id] = MIXED

    def on_change(self, *, torn: bool) -> None:
        """Another version of the program, or the rules are voided."""
        self.versions_change = True
        for row in self._world.store.final("sources"):
            self.changing.add(row.source_id)
            progress, tp = self._progress(row), (row.topic, row.partition)
            log = self._world.kafka.log(tp) if tp[0] in self._world.kafka.topics else None
            at = progress.next_offset if progress else row.first_offset
            if torn and (log is None or max(log.low, row.first_offset) > self._chunk(row, at)):
                self.found[row.source_id] = MIXED

    def on_deletion(self, topic: str) -> None:
        """The topic is to be deleted, and nobody goes on with a change that is under way."""
        for row in self._world.store.final("sources"):
            if (
                row.topic == topic
                and self.versions_change
                and (row.source_id in self.changing or self._two_versions(row))
            ):
                self.found[row.source_id] = MIXED

    def on_skip(self, tp: TopicPartition) -> None:
        """The commit is set ahead, and this is accepted."""
        self.skips.add(tp)
        self.on_retention(tp, -1)

    def _see_head(self, row: Row, low: int) -> None:
        cut = self._cut_at.get(row.source_id)
        if cut is not None and low > self._chunk(row, cut):
            self.found[row.source_id] = HEAD_LOST

    def _two_versions(self, row: Row) -> bool:
        progress = self._progress(row)
        known = {one.fingerprint for one in self._world.store.winners("repairs").get(row.source_id, {}).values()}
        return progress is None or not known <= {progress.fingerprint}

    def _source(self, tp: TopicPartition) -> Row | None:
        uuid, _ = self._world.kafka.topics[tp[0]]
        rows = self._world.store.final("sources")
        return next((row for row in rows if (row.topic, row.topic_id, row.partition) == (tp[0], uuid, tp[1])), None)

    def _progress(self, row: Row) -> Row | None:
        return next(iter(self._world.store.winners("progress").get(row.source_id, {}).values()), None)

    def _chunk(self, row: Row, offset: int) -> int:
        """Where its chunk begins; or a longer one, if the length of its chunks may have been changed."""
        changed = bool(self._world.store.winners("chunk_lengths").get(row.source_id))
        return int(offset - offset % max(row.chunk_length, LONGEST if changed else 0))


def _reached(store: SimClickHouse, source_id: int) -> int:
    """The highest offset of which anything is stored."""
    reached = 0
    for table in ("counts", "hourly", "totals"):
        for row in store.winners(table).get(source_id, {}).values():
            reached = max(reached, row.version & LOW_48_BITS)
    for row in store.winners("dead_letters").get(source_id, {}).values():
        reached = max(reached, row.offset + 1)
    return reached
