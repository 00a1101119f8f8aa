"""The Store of the product on a ClickHouse in memory (clickhouse.py).

It is the real Store where that only inserts, so that rows come in the real order and with the real columns; what the
real one asks in SQL is asked of the rows here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import NoReturn, cast

from clickhouse_driver import Client

from orgstats.consumer.counting.cells import FAMILIES, Family, Stored, StoredChunk, StoredDead
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.counting.resume import (
    FINGERPRINT_CHANGED,
    LOG_CUT_BACK,
    MIXED,
    Progress,
    Registration,
    Repair,
)
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source, revision_of, version_of
from orgstats.consumer.store import chunk_lengths, rows, taking_back
from orgstats.consumer.store.rules import load_history
from orgstats.consumer.store.store import Result, Store
from orgstats.errors import Unavailable
from orgstats.schemas.outcomes import DAY_SECONDS
from orgstats.schemas.tables import TABLES, GapRow
from tests.sim.clickhouse import MANY, Row, SimClickHouse
from tests.sim.kafka import no_effect
from tests.sim.rules import rules_without
from tests.sim.sql import SimClient


class SimStore(Store):
    """One connection to it."""

    def __init__(self, server: SimClickHouse, effect: Callable[[], None] = no_effect) -> None:
        super().__init__(_no_client)
        self._server = server
        self._effect = effect

    @property
    def server(self) -> SimClickHouse:
        """What it is connected to."""
        return self._server

    def insert(self, table: str, columns: rows.Columns) -> int:
        """Keep rows."""
        if not columns or not columns[0]:
            return 0
        self._insert(table, [TABLES[table](*row) for row in zip(*columns, strict=True)])
        return len(columns[0])

    def run(self, call: Callable[[Client], Result]) -> Result:
        """What operators' commands ask: the rules, and statements that are known (sql.py)."""
        if call is load_history:
            return cast("Result", self.rule_history())
        return call(cast("Client", SimClient(self._server, self._insert, self._effect)))

    def _insert(self, table: str, new: list[Row]) -> None:
        self._effect()
        self._server.insert(table, new)
        self._effect()

    def _rows(self, table: str, sources: Iterable[Source]) -> list[Row]:
        self._effect()
        self._server.answer_read()
        found = self._server.winners(table)
        return [row for source in sources for row in found.get(source.source_id, {}).values()]

    def clock_ms(self) -> int:
        """The server's."""
        self._effect()
        self._server.answer()
        return self._server.epoch_ms()

    def rule_history(self) -> RuleHistory:
        """Whatever the test has set, and who is erased."""
        self._effect()
        self._server.answer_read()
        erased = [row.org_id for row in self._server.erasures()]
        return rules_without(self._server.rules, tuple(erased)) if erased else self._server.rules

    def registrations(self, sources: Iterable[Source]) -> dict[int, Registration]:
        """By source id."""
        found = self._rows("sources", sources)
        grids = self.grids([row.source_id for row in found])
        return {row.source_id: Registration(grids[row.source_id], row.isolation, row.first_offset) for row in found}

    def grids(self, source_ids: Collection[int]) -> dict[int, Grid]:
        """By source id."""
        self._effect()
        self._server.answer_read()
        rows = [(row.source_id, 0, "", row.chunk_length, 2) for row in self._server.final("sources")]
        rows += [
            (row.source_id, row.from_offset, row.entry_id, row.length, row.state)
            for row in self._server.final("chunk_lengths")
        ]
        return chunk_lengths.grids_of([row for row in rows if row[0] in source_ids])

    def length_changes(self, source_ids: Collection[int]) -> list[Row]:
        """By source and offset."""
        self._effect()
        self._server.answer_read()
        return sorted(row for row in self._server.final("chunk_lengths") if row.source_id in source_ids)

    def misplaced_chunks(self, grids: Mapping[int, Grid]) -> dict[int, int]:
        """By source id."""
        repaired = {(row.source_id, row.chunk) for row in self._server.rows["repairs"]}
        found = {
            (row.source_id, row.chunk)
            for row in self._server.final("chunk_days")
            if row.source_id in grids and grids[row.source_id].chunk_of(row.chunk) != row.chunk
        }
        return dict(sorted(found - repaired, reverse=True))

    def progress(self, sources: Iterable[Source]) -> dict[int, Progress]:
        """By source id."""
        return {
            row.source_id: Progress(
                row.next_offset,
                row.fingerprint,
                revision_of(row.version),
                _ms(row.kafka_timestamp),
                _ms(row.complete_until),
                Mark(row.leader_epoch, row.chain, row.chain_from),
                row.cut_at,
                row.cut_to,
                row.hourly_offset,
                _ms(row.hourly_complete_until),
            )
            for row in self._rows("progress", sources)
        }

    def begun(self, sources: Iterable[Source]) -> dict[int, tuple[int, int]]:
        """By source id."""
        return {row.source_id: (revision_of(row.version), row.to_offset) for row in self._rows("flushes", sources)}

    def repairs(self, sources: Iterable[Source]) -> dict[int, dict[int, Repair]]:
        """By source id and chunk."""
        repairs: dict[int, dict[int, Repair]] = {}
        for row in sorted(self._rows("repairs", sources), key=lambda row: row.revision):
            before = repairs.setdefault(row.source_id, {}).get(row.chunk, Repair(0, ""))
            changed = row.fingerprint if row.why in (FINGERPRINT_CHANGED, MIXED) else before.new_fingerprint
            rewinds, mixed = max(row.rewinds, before.rewinds), before.mixed or row.why == MIXED
            repairs[row.source_id][row.chunk] = Repair(row.revision, row.fingerprint, changed, rewinds, mixed)
        return repairs

    def chunks(self, firsts: Mapping[Source, int], most: int = 1 << 32) -> dict[int, dict[int, Mark]]:
        """By source id and first offset."""
        chunks: dict[int, dict[int, Mark]] = {}
        since = {source.source_id: first for source, first in firsts.items()}
        for row in self._rows("chunks", firsts):
            if row.chunk >= since[row.source_id] and len(chunks.get(row.source_id, {})) < most:
                chunks.setdefault(row.source_id, {})[row.chunk] = Mark(row.leader_epoch, row.chain, row.chain_from)
        return chunks

    def highest_chunks(self, sources: Iterable[Source]) -> dict[int, int]:
        """By source id."""
        highest: dict[int, int] = {}
        for row in self._rows("chunk_days", sources):
            highest[row.source_id] = max(row.chunk, highest.get(row.source_id, 0))
        return highest

    def chunk(self, source: Source, first: int, end: int) -> StoredChunk:
        """What is stored of one chunk: only cells of days that are known are found."""
        if (source.topic, source.partition) in self._server.slow:
            self._server.clock.sleep(30)
            raise Unavailable("ClickHouse: TIMEOUT_EXCEEDED")
        days = [row.day for row in self._rows("chunk_days", [source]) if row.chunk == first]
        dead = [row for row in self._rows("dead_letters", [source]) if first <= row.offset < end]
        if self._server.trouble == "no memory" and len(days) + len(dead) > MANY:
            raise Unavailable("ClickHouse: MEMORY_LIMIT_EXCEEDED")
        cells = {
            family: {
                family.key(*(getattr(row, name) for name in family.key._fields)): Stored(
                    tuple(getattr(row, name) for name in family.values), row.version
                )
                for row in self._cells(family, source)
                if row.chunk == first and days and min(days) <= row.bucket < max(days) + DAY_SECONDS
            }
            for family in FAMILIES
        }
        letters = {row.offset: StoredDead(row.reason, row.error, row.withdrawn, row.version) for row in dead}
        return StoredChunk(cells, letters)

    def stored_chunks(self, source: Source, chunks: Chunks) -> dict[int, StoredChunk]:
        """Those of which anything is stored."""
        days = {row.chunk for row in self._rows("chunk_days", [source])}
        letters = {chunks.grid.chunk_of(row.offset) for row in self._rows("dead_letters", [source])}
        wanted = sorted(one for one in days | letters if chunks.start <= one < chunks.stop)
        return {one: self.chunk(source, one, chunks.grid.chunk_end(one)) for one in wanted}

    def _cells(self, family: Family, source: Source) -> list[Row]:
        return self._rows(family.table, [source])

    def record_cut(self, source: Source, progress: Progress, vanished_to: int) -> None:
        """The gap, then the progress."""
        now = rows.instant(self._server.epoch_ms())
        (before,) = self._rows("progress", [source])
        if progress.cut_at < vanished_to:
            self._insert("gaps", [GapRow(source.source_id, progress.cut_at, vanished_to, LOG_CUT_BACK, now)])
        cut = before._replace(
            next_offset=progress.cut_at,
            complete_until=rows.instant(progress.complete_until_ms),
            leader_epoch=progress.mark.leader_epoch,
            chain=progress.mark.chain,
            chain_from=progress.mark.chain_from,
            cut_at=progress.cut_at,
            cut_to=progress.cut_to,
            hourly_offset=progress.hourly_offset,
            hourly_complete_until=rows.instant(progress.hourly_complete_until_ms),
            version=version_of(progress.rewinds, progress.next_offset),
        )
        self._insert("progress", [cut])

    def take_back(
        self, source: Source, chunks: Chunks, repairs: Mapping[int, Repair], progress: Progress, now_ms: int
    ) -> None:
        """Zeros of the revision before the one that is begun."""
        self.insert("repairs", taking_back.revisions(source, chunks, repairs, progress, now_ms))
        revisions = self.repairs([source]).get(source.source_id, {})
        gone, chunk_of = set(chunks), chunks.grid.chunk_of
        for family in FAMILIES:
            zero = dict.fromkeys(family.values, 0)
            found = [row for row in self._cells(family, source) if row.chunk in gone]
            versions = [version_of(revisions[row.chunk].revision - 1, row.chunk) for row in found]
            zeros = [row._replace(version=v, **zero) for row, v in zip(found, versions, strict=True)]
            self._insert(family.table, zeros)
        dead = [row for row in self._rows("dead_letters", [source]) if chunk_of(row.offset) in gone]
        withdrawn = [
            row._replace(withdrawn=True, version=version_of(revisions[chunk_of(row.offset)].revision - 1, row.offset))
            for row in dead
            if not row.withdrawn
        ]
        self._insert("dead_letters", withdrawn)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _no_client() -> NoReturn:
    raise AssertionError("what SimStore does not answer itself would be SQL")
