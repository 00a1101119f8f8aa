"""All the daemon asks of and tells ClickHouse: a flush in its fixed order, and what resuming needs.

Failure semantics: every call raises Unavailable when the same call may succeed later, OrgstatsError when a
person is needed. Every write may be repeated, in part or whole, and in any order with older ones: versions
decide. So a lost answer needs no question, only the next flush.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import read, write
from orgstats.clickhouse.connect import INSERT_SETTINGS, translate
from orgstats.consumer.counting.cells import FAMILIES, StoredChunk
from orgstats.consumer.counting.chain import Mark
from orgstats.consumer.counting.grid import Chunks, Grid
from orgstats.consumer.counting.resume import FINGERPRINT_CHANGED, MIXED, Progress, Registration, Repair
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.consumer.counting.source import BEYOND_ALL, Source, revision_of
from orgstats.consumer.store import chunk_lengths, rows, taking_back
from orgstats.consumer.store.chunks import known_chunks, misplaced, read_chunks
from orgstats.consumer.store.rules import load_history
from orgstats.failpoints import failpoint
from orgstats.schemas.tables import ChunkLengthRow, insert

Result = TypeVar("Result")


class Store:
    """One connection to ClickHouse, for one thread at a time. `client` makes a new one after a failure."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._new_client = client
        self._client: Client | None = None

    def write(self, flush: rows.Flush) -> dict[str, int]:
        """Store a flush, one insert a table: 1. how far it goes, gaps and begun repairs, 2. the days that chunks have
        cells of, 3. dead letters, 4. `counts`, `hourly` where it is due, `totals`, 5. closed chunks, 6. progress.

        In this order, because each is the ground of the next: a row of a new revision must never be there
        without its repair, nor a cell without its day, by which it is found; and progress never without the counts
        below it. `totals` of 10 s and of hours are one insert, so that the endpoint's resolutions are never torn
        apart. Returns rows by table.

        What a flush that was torn has left is made right by the next one: the chunk is counted again from its head,
        or goes on in each cell from that cell's own version. Only where the records are deleted before, so that they
        are listed as a gap, they may stay in one table and be missing in another.
        """
        changes = flush.changes
        return {
            table: self.insert(table, columns)
            for table, columns in (
                ("flushes", rows.flushes(flush)),
                ("gaps", rows.gaps(flush)),
                ("repairs", rows.repairs(flush)),
                ("chunk_days", rows.chunk_days(changes)),
                ("dead_letters", rows.dead_letters(changes)),
                *((family.table, rows.cells(family, changes)) for family in FAMILIES),
                ("chunks", rows.chunks(flush)),
                ("progress", rows.progress(flush)),
            )
        }

    def rule_history(self) -> RuleHistory:
        """All rules there ever were; raises Refused for an entry that this program cannot read."""
        return self.run(load_history)

    def register(self, sources: Iterable[tuple[Source, Registration]], now_ms: int) -> None:
        """Record sources that are counted for the first time."""
        now = rows.instant(now_ms)
        values = [
            (s.source_id, s.topic, s.topic_id, s.partition, r.grid.length_at(0), r.isolation, r.first_offset, now)
            for s, r in sources
        ]
        self.insert("sources", list(zip(*values, strict=True)))

    def registrations(self, sources: Iterable[Source]) -> dict[int, Registration]:
        """What is recorded of these sources, by source id."""
        sources = list(sources)
        found = self._ask(
            "SELECT source_id, isolation, first_offset FROM sources FINAL WHERE source_id IN %(ids)s", sources
        )
        grids = self.grids([source.source_id for source in sources])
        return {source_id: Registration(grids[source_id], *rest) for source_id, *rest in found}

    def grids(self, source_ids: Collection[int]) -> dict[int, Grid]:
        """The chunks of registered sources, by source id, as they are decided by now."""
        return self.run(lambda client: chunk_lengths.grids(client, source_ids))

    def length_changes(self, source_ids: Collection[int]) -> list[ChunkLengthRow]:
        """Every change of chunk lengths of these sources, by source and offset."""
        return self.run(lambda client: chunk_lengths.changes(client, source_ids))

    def misplaced_chunks(self, grids: Mapping[int, Grid]) -> dict[int, int]:
        """The first chunk that may have cells and is none of its grid, by source id; nothing where there is none."""
        return dict(self.run(lambda client: misplaced(client, grids))) if grids else {}

    def progress(self, sources: Iterable[Source]) -> dict[int, Progress]:
        """How far these sources are counted, by source id."""
        found = self._ask(
            "SELECT source_id, next_offset, fingerprint, version, toUnixTimestamp64Milli(kafka_timestamp),"
            " toUnixTimestamp64Milli(complete_until), leader_epoch, chain, chain_from, cut_at, cut_to,"
            " hourly_offset, toUnixTimestamp64Milli(hourly_complete_until)"
            " FROM progress FINAL WHERE source_id IN %(ids)s",
            sources,
        )
        return {
            source_id: Progress(
                next_offset,
                fingerprint,
                revision_of(version),
                counted_ms,
                until,
                Mark(*rest[:3]),
                *rest[3:],
            )
            for source_id, next_offset, fingerprint, version, counted_ms, until, *rest in found
        }

    def begun(self, sources: Iterable[Source]) -> dict[int, tuple[int, int]]:
        """The last flush that was begun of these sources, as (rewinds, next offset), by source id."""
        found = self._ask("SELECT source_id, version, to_offset FROM flushes FINAL WHERE source_id IN %(ids)s", sources)
        return {source_id: (revision_of(version), to_offset) for source_id, version, to_offset in found}

    def clock_ms(self) -> int:
        """ClickHouse's clock, epoch milliseconds."""
        return int(self.run(lambda client: client.execute("SELECT toUnixTimestamp64Milli(now64(3))"))[0][0])

    def repairs(self, sources: Iterable[Source]) -> dict[int, dict[int, Repair]]:
        """The highest revision of each repaired chunk, by source id and chunk."""
        found = self._ask(
            "SELECT source_id, chunk, max(revision), argMax(fingerprint, revision),"
            " argMaxIf(fingerprint, revision, why IN (%(changed)s, %(mixed)s)), max(rewinds), max(why = %(mixed)s)"
            " FROM repairs FINAL WHERE source_id IN %(ids)s GROUP BY source_id, chunk",
            sources,
            changed=FINGERPRINT_CHANGED,
            mixed=MIXED,
        )
        repairs: dict[int, dict[int, Repair]] = {}
        for source_id, chunk, revision, fingerprint, changed, rewinds, mixed in found:
            repair = Repair(revision, fingerprint, changed, rewinds, bool(mixed))
            repairs.setdefault(source_id, {})[chunk] = repair
        return repairs

    def chunks(self, firsts: Mapping[Source, int], most: int = 1 << 32) -> dict[int, dict[int, Mark]]:
        """Closed chunks from a first offset of each source on, by source id and first offset; `most` of each."""
        found = self._ask(
            "SELECT source_id, chunk, leader_epoch, chain, chain_from FROM chunks FINAL"
            " WHERE source_id IN %(ids)s AND chunk >= transform(source_id, %(ids)s, %(firsts)s, toUInt64(0))"
            " ORDER BY source_id, chunk LIMIT %(most)s BY source_id",
            firsts,
            firsts=list(firsts.values()),
            most=most,
        )
        chunks: dict[int, dict[int, Mark]] = {}
        for source_id, first, *mark in found:
            chunks.setdefault(source_id, {})[first] = Mark(*mark)
        return chunks

    def record_cut(self, source: Source, progress: Progress, vanished_to: int) -> None:
        """Record that the log was cut back: offsets [progress.cut_at, vanished_to) as a gap, then the progress."""
        for sql, values in taking_back.cut(source, progress, vanished_to):
            self._write(sql, values)

    def take_back(
        self, source: Source, chunks: Chunks, repairs: Mapping[int, Repair], progress: Progress, now_ms: int
    ) -> None:
        """Zero what is stored of chunks that the log no longer has, and withdraw their dead letters."""
        self.insert("repairs", taking_back.revisions(source, chunks, repairs, progress, now_ms))
        known = self.run(lambda client: known_chunks(client, source, chunks.start, chunks.stop))
        for sql, values in taking_back.zeros(source, chunks, known):
            self._write(sql, values)

    def highest_chunks(self, sources: Iterable[Source]) -> dict[int, int]:
        """The last chunk that may have stored cells, by source id; sources without any are absent."""
        return dict(
            self._ask(
                "SELECT source_id, max(chunk) FROM chunk_days WHERE source_id IN %(ids)s GROUP BY source_id", sources
            )
        )

    def stored_chunks(self, source: Source, chunks: Chunks) -> dict[int, StoredChunk]:
        """What is stored of chunks, by chunk; chunks without a row are absent."""
        return self.run(lambda client: read_chunks(client, source, chunks.grid, chunks.start, chunks.stop))

    def chunk(self, source: Source, first: int, end: int) -> StoredChunk:
        """What is stored of the one chunk [first, end)."""
        one = Chunks(Grid(((first, BEYOND_ALL),)), first, end)
        return self.stored_chunks(source, one).get(first, StoredChunk())

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        if self._client is not None:
            self._client.disconnect()
            self._client = None

    def run(self, call: Callable[[Client], Result]) -> Result:
        """`call` with the connection; its errors as ours, after which the connection is not used again."""
        try:
            if self._client is None:
                self._client = self._new_client()
            return call(self._client)
        except Exception as error:
            self.close()
            raise translate(error) from error

    def _ask(self, sql: str, sources: Iterable[Source], **values: object) -> list[Any]:
        ids = [source.source_id for source in sources]
        return self._run(sql, {"ids": ids, **values}) if ids else []

    def _run(self, sql: str, values: dict[str, Any]) -> list[Any]:
        return self.run(lambda client: read(client, sql, values))

    def _write(self, sql: str, values: dict[str, Any]) -> None:
        self.run(lambda client: write(client, sql, values))

    def insert(self, table: str, columns: rows.Columns) -> int:
        """Insert rows; how many."""
        if not columns or not columns[0]:
            return 0
        self.run(lambda client: client.execute(insert(table), columns, columnar=True, settings=INSERT_SETTINGS))
        failpoint("answer_lost")
        return len(columns[0])
