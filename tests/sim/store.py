"""A ClickHouse of a few lines: it keeps every row that was inserted, and the readers' rule decides what counts.

`SimStore` is the real Store where that only inserts, so that rows come in the real order and with the real columns;
what the real one asks in SQL is asked of the rows here.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, NoReturn

from orgstats.consumer.counting.cells import FAMILIES, Family, Stored, StoredChunk, StoredDead
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.counting.resume import (
    FINGERPRINT_CHANGED,
    LOG_CUT_BACK,
    ChunkMark,
    Progress,
    Registration,
    Repair,
)
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import Source, revision_of, version_of
from orgstats.consumer.store import rows, taking_back
from orgstats.consumer.store.store import Store
from orgstats.errors import Unavailable
from orgstats.schemas.outcomes import DAY_SECONDS
from orgstats.schemas.tables import TABLES, GapRow
from tests.sim.time import SimClock

Fault = Literal["refused", "torn", "lost answer"]
Row = Any
"""One of the row types of schemas/tables.py."""

KEYS: Final = {
    **{family.table: (*family.key._fields, "source_id", "chunk") for family in FAMILIES},
    "chunk_days": ("source_id", "chunk", "day"),
    "progress": ("source_id",),
    "flushes": ("source_id",),
    "sources": ("source_id",),
    "dead_letters": ("source_id", "offset"),
    "repairs": ("source_id", "chunk", "revision"),
    "chunks": ("source_id", "chunk"),
    "gaps": ("source_id", "from_offset", "to_offset"),
}


class Planned(NamedTuple):
    """A fault of the next insert into a table."""

    table: str
    fault: Fault


class SimClickHouse:
    """The server: rows by table in the order of their inserts; `away`: it does not answer.

    What it has of chunks of the `slow` (topic, partition)s takes 30 s, and then it does not answer.
    """

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.rows: dict[str, list[Row]] = {table: [] for table in TABLES}
        self.rules = RuleHistory()
        self.away = False
        self.slow: set[tuple[str, int]] = set()
        self.faults: list[Planned] = []
        self.before_insert: Callable[[str], None] = lambda _table: None

    def answer(self) -> None:
        """Every call comes by here."""
        if self.away:
            raise Unavailable("ClickHouse does not answer")

    def insert(self, table: str, new: list[Row]) -> None:
        """Keep rows; with a fault planned none, some of them, or all of them without saying so."""
        self.before_insert(table)
        self.answer()
        planned = next((one for one in self.faults if one.table == table), None)
        if planned is None:
            self.rows[table] += new
            return
        self.faults.remove(planned)
        self.rows[table] += {"refused": [], "torn": new[::2], "lost answer": new}[planned.fault]
        raise Unavailable(f"ClickHouse: insert into {table}: {planned.fault}")

    def final(self, table: str) -> Iterator[Row]:
        """Of each key's rows the one with the highest version, of those with the same the last."""
        found: dict[tuple[Any, ...], Row] = {}
        for row in self.rows[table]:
            key = tuple(getattr(row, name) for name in KEYS[table])
            if key not in found or getattr(row, "version", 0) >= getattr(found[key], "version", 0):
                found[key] = row
        yield from found.values()

    def counts(self) -> Counter[tuple[int, int, int]]:
        """Quantity by (org, bucket, outcome), as a reader sees it."""
        seen: Counter[tuple[int, int, int]] = Counter()
        for row in self.final("counts"):
            seen[row.org_id, row.bucket, row.outcome] += row.quantity
        return +seen

    def progress(self) -> dict[tuple[str, int], int]:
        """Next offset by topic and partition."""
        sources = {row.source_id: (row.topic, row.partition) for row in self.final("sources")}
        return {sources[row.source_id]: row.next_offset for row in self.final("progress")}


class SimStore(Store):
    """One connection to it."""

    def __init__(self, server: SimClickHouse) -> None:
        super().__init__(_no_client)
        self._server = server

    def insert(self, table: str, columns: rows.Columns) -> int:
        """Keep rows."""
        if not columns or not columns[0]:
            return 0
        self._server.insert(table, [TABLES[table](*row) for row in zip(*columns, strict=True)])
        return len(columns[0])

    def _rows(self, table: str, sources: Iterable[Source]) -> list[Row]:
        self._server.answer()
        ids = {source.source_id for source in sources}
        return [row for row in self._server.final(table) if row.source_id in ids]

    def clock_ms(self) -> int:
        """The same clock as everybody's."""
        self._server.answer()
        return self._server.clock.epoch_ms()

    def rule_history(self) -> RuleHistory:
        """Whatever the test has set."""
        self._server.answer()
        return self._server.rules

    def registrations(self, sources: Iterable[Source]) -> dict[int, Registration]:
        """By source id."""
        found = self._rows("sources", sources)
        grids = self.grids([row.source_id for row in found])
        return {row.source_id: Registration(grids[row.source_id], row.isolation, row.first_offset) for row in found}

    def grids(self, source_ids: Collection[int]) -> dict[int, Grid]:
        """By source id."""
        found = [row for row in self._server.final("sources") if row.source_id in source_ids]
        return {row.source_id: Grid(((0, row.chunk_length),)) for row in found}

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
            changed = row.fingerprint if row.why == FINGERPRINT_CHANGED else before.new_fingerprint
            repairs[row.source_id][row.chunk] = Repair(
                row.revision, row.fingerprint, changed, max(row.rewinds, before.rewinds)
            )
        return repairs

    def chunks(self, firsts: Mapping[Source, int], most: int = 1 << 32) -> dict[int, dict[int, ChunkMark]]:
        """By source id and first offset."""
        chunks: dict[int, dict[int, ChunkMark]] = {}
        since = {source.source_id: first for source, first in firsts.items()}
        for row in self._rows("chunks", firsts):
            if row.chunk >= since[row.source_id] and len(chunks.get(row.source_id, {})) < most:
                mark = Mark(row.leader_epoch, row.chain, row.chain_from)
                chunks.setdefault(row.source_id, {})[row.chunk] = ChunkMark(mark, row.rewinds)
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

    def _cells(self, family: Family, source: Source) -> list[Row]:
        return self._rows(family.table, [source])

    def record_cut(self, source: Source, progress: Progress, vanished_to: int) -> None:
        """The gap, then the progress."""
        now = rows.instant(self._server.clock.epoch_ms())
        (before,) = self._rows("progress", [source])
        if progress.cut_at < vanished_to:
            self._server.insert("gaps", [GapRow(source.source_id, progress.cut_at, vanished_to, LOG_CUT_BACK, now)])
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
        self._server.insert("progress", [cut])

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
            self._server.insert(family.table, zeros)
        dead = [row for row in self._rows("dead_letters", [source]) if chunk_of(row.offset) in gone]
        withdrawn = [
            row._replace(withdrawn=True, version=version_of(revisions[chunk_of(row.offset)].revision - 1, row.offset))
            for row in dead
            if not row.withdrawn
        ]
        self._server.insert("dead_letters", withdrawn)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _no_client() -> NoReturn:
    raise AssertionError("what SimStore does not answer itself would be SQL")
