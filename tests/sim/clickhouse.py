"""A ClickHouse of a few lines: it keeps every row until a merge, and the readers' rule decides what counts."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

from orgstats.consumer.counting.cells import FAMILIES
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.errors import Unavailable
from orgstats.schemas.tables import TABLES
from tests.sim.time import SimClock

Fault = Literal["refused", "torn", "lost answer", "doubled", "late"]
Trouble = Literal["", "read only", "no memory", "disk full", "replica lags"]
Row = Any
"""One of the row types of schemas/tables.py."""
Key = tuple[Any, ...]

KEYS: Final = {
    **{family.table: (*family.key._fields, "source_id", "chunk") for family in FAMILIES},
    "chunk_days": ("source_id", "chunk", "day"),
    "progress": ("source_id",),
    "flushes": ("source_id",),
    "sources": ("source_id",),
    "chunk_lengths": ("source_id", "from_offset", "entry_id"),
    "dead_letters": ("source_id", "offset"),
    "repairs": ("source_id", "chunk", "revision"),
    "chunks": ("source_id", "chunk"),
    "dead_letter_actions": ("source_id", "offset", "record_hash"),
    "gaps": ("source_id", "from_offset", "to_offset"),
}
MANY: Final = 3
"""More rows in one insert, or chunks with more, than there is memory for."""


class Planned(NamedTuple):
    """A fault of the next insert into a table."""

    table: str
    fault: Fault


class Mutation(NamedTuple):
    """Rows of a table that are to be deleted, or changed, and have not been yet."""

    table: str
    left: list[Row]
    change: Callable[[Row], Row | None]


class SimClickHouse:
    """The server: rows by table in the order of their inserts; `away`: it does not answer.

    What it has of chunks of the `slow` (topic, partition)s takes 30 s, and then it does not answer. `skew_ms` is by how
    much its clock is ahead.
    """

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.skew_ms = 0
        self.rows: dict[str, list[Row]] = {table: [] for table in TABLES}
        self.rules = RuleHistory()
        self.away = False
        self.trouble: Trouble = ""
        self.slow: set[tuple[str, int]] = set()
        self.faults: list[Planned] = []
        self.late: list[tuple[str, list[Row]]] = []
        """Inserts that were given up by who sent them, and are still on their way."""
        self.expired_before = 0
        """Cells of earlier buckets, epoch seconds, may have been deleted for their age."""
        self.mutations: list[Mutation] = []
        """Rows that have been deleted or changed in some parts only, so far."""
        self._deletions = 0
        self.before_insert: Callable[[str], None] = lambda _table: None
        self._seen: dict[str, tuple[list[Row], int]] = {}
        self._winners: dict[str, dict[int, dict[Key, Row]]] = {}

    def epoch_ms(self) -> int:
        """Its clock."""
        return self.clock.epoch_ms() + self.skew_ms

    def answer(self) -> None:
        """Every call comes by here."""
        if self.away:
            raise Unavailable("ClickHouse does not answer")

    def answer_read(self) -> None:
        """So does every question."""
        self.answer()
        if self.trouble == "replica lags":
            raise Unavailable("ClickHouse: the replica has not caught up in time")

    def insert(self, table: str, new: list[Row]) -> None:
        """Keep rows; with a fault planned none, some of them, or all of them without saying so."""
        self.before_insert(table)
        self.answer()
        if self.trouble in ("read only", "disk full") or (self.trouble == "no memory" and len(new) > MANY):
            self.rows[table] += new[: len(new) // 2] if self.trouble == "disk full" else []
            raise Unavailable(f"ClickHouse: insert into {table}: {self.trouble}")
        planned = next((one for one in self.faults if one.table == table), None)
        if planned is None:
            self.rows[table] += new
            return
        self.faults.remove(planned)
        if planned.fault == "late":
            self.late.append((table, new))
        arrived = {"refused": [], "torn": new[::2], "lost answer": new, "doubled": [*new, *new], "late": []}
        self.rows[table] += arrived[planned.fault]
        if planned.fault != "doubled":
            raise Unavailable(f"ClickHouse: insert into {table}: {planned.fault}")

    def arrive(self) -> None:
        """What was on its way comes in."""
        for table, rows in self.late:
            self.rows[table] += rows
        self.late.clear()

    def merge(self) -> None:
        """Rows that lose are deleted, as parts are merged some time."""
        self._deletions += 1
        self.rows = {table: [*self.final(table)] if table in KEYS else rows for table, rows in self.rows.items()}

    def expire(self, before: int) -> None:
        """Retention by age: cells of buckets before a time, epoch seconds, are deleted."""
        self._deletions += 1
        self.expired_before = max(before, self.expired_before)
        for family in FAMILIES:
            self.rows[family.table] = [row for row in self.rows[family.table] if row.bucket >= self.expired_before]

    def mutate(self, table: str, hit: Callable[[Row], bool], change: Callable[[Row], Row | None]) -> None:
        """Change rows, or delete those that become None: at once in some parts, in others when they are looked at."""
        hits = [row for row in self.rows[table] if hit(row)]
        self._change(Mutation(table, hits[::2], change))
        self.mutations.append(Mutation(table, hits[1::2], change))

    def mutations_end(self) -> None:
        """In all parts."""
        for one in self.mutations:
            self._change(one)
        self.mutations.clear()

    def _change(self, mutation: Mutation) -> None:
        self._deletions += 1
        named = {id(row) for row in mutation.left}
        changed = [mutation.change(row) if id(row) in named else row for row in self.rows[mutation.table]]
        self.rows[mutation.table] = [row for row in changed if row is not None]

    def erasures(self) -> list[Row]:
        """A row of each organization that is erased, in the order of time."""
        found: dict[int, Row] = {}
        for row in self.rows["erasures"]:
            if row.org_id not in found or row.done >= found[row.org_id].done:
                found[row.org_id] = row
        return sorted(found.values(), key=lambda row: (row.at, row.org_id))

    def copy(self) -> dict[str, list[Row]]:
        """A backup."""
        return {table: [*rows] for table, rows in self.rows.items()}

    def restore(self, backup: dict[str, list[Row]]) -> None:
        """Go back to a backup; what was on its way finds nothing to come into."""
        self._deletions += 1
        self.rows = {table: [*rows] for table, rows in backup.items()}
        self.late.clear()
        self.mutations.clear()

    def winners(self, table: str) -> dict[int, dict[Key, Row]]:
        """By source and key: of each key's rows the one with the highest version, of those with the same the last."""
        rows = self.rows[table]
        seen, count = self._seen.get(table, (None, 0))
        if seen is rows and count == len(rows):
            return self._winners[table]
        if seen is not rows or count > len(rows):
            self._winners[table], count = {}, 0
        found, names = self._winners[table], KEYS[table]
        for row in rows[count:] if count else rows:
            of_source = found.setdefault(row.source_id, {})
            key = tuple([getattr(row, name) for name in names])
            if key not in of_source or _version(row) >= _version(of_source[key]):
                of_source[key] = row
        self._seen[table] = rows, len(rows)
        return found

    def stamp(self, *tables: str) -> tuple[object, ...]:
        """What is another one whenever rows of these tables are."""
        return self._deletions, *[len(self.rows[table]) for table in tables]

    def final(self, table: str) -> Iterator[Row]:
        """What a reader sees of a table."""
        for of_source in self.winners(table).values():
            yield from of_source.values()

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


def _version(row: Row) -> Any:
    """What the table's ReplacingMergeTree goes by; where that is nothing, the last one wins."""
    for name in ("version", "state", "registered_at", "at"):
        if hasattr(row, name):
            return getattr(row, name)
    return 0
