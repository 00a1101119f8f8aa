"""The statements of operators' commands, answered of the rows of a simulated ClickHouse; any other one is an error."""

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from orgstats.consumer.counting.cells import FAMILIES, Family
from orgstats.consumer.counting.source import version_of
from orgstats.consumer.ops import stored, undo
from orgstats.consumer.store import chunk_lengths
from orgstats.consumer.store.rows import instant
from orgstats.schemas.tables import TABLES, RepairRow
from tests.sim import letters, sql_erasing
from tests.sim.clickhouse import Row, SimClickHouse

Values = dict[str, Any]


class SimClient:
    """As much of a driver's client as these commands use."""

    def __init__(
        self, server: SimClickHouse, insert: Callable[[str, list[Row]], None], effect: Callable[[], None]
    ) -> None:
        self._server = server
        self._insert = insert
        self._effect = effect

    def execute(self, sql: str, values: Any = None, **_: object) -> list[Any]:
        """The rows of its answer."""
        if sql.endswith("VALUES"):
            table = sql.split()[2]
            self._insert(table, [TABLES[table](*row) for row in values])
            return []
        self._effect()
        self._server.answer_read()
        answer = next((answer for begins, answer in _ANSWERS.items() if sql.strip().startswith(begins)), None)
        if answer is None:
            raise AssertionError(f"not known: {sql}")
        return answer(self, values) or []

    def by_step(self, table: str, *key: str) -> list[Row]:
        """Rows of which the highest step counts; of equal ones the last."""
        found: dict[Any, Row] = {}
        for row in self._server.rows[table]:
            of = tuple(getattr(row, name) for name in key)
            if of not in found or row.step >= found[of].step:
                found[of] = row
        return [*found.values()]

    def replays(self, _values: Values) -> list[Any]:
        """The latest first."""
        rows = sorted(self.by_step("replays", "replay_id"), key=lambda row: row.replay_id)
        return [tuple(row) for row in sorted(rows, key=lambda row: row.at, reverse=True)]

    def replay_chunks(self, values: Values) -> list[Any]:
        """Of one replay."""
        rows = self.by_step("replay_chunks", "replay_id", "source_id", "chunk")
        return sorted((*row[1:-2], row.step) for row in rows if row.replay_id == values["id"])

    def withdraw(self, values: Values) -> None:
        """Dead letters, each at the version of its offset."""
        self._withdraw(values, lambda row: values["revision"] | row.offset)

    def withdraw_lost(self, values: Values) -> None:
        """Those beyond what is counted, at one version for all."""
        self._withdraw(values, lambda _row: values["lost"])

    def _withdraw(self, values: Values, version: Callable[[Row], int]) -> None:
        rows = [row for row in self._server.final("dead_letters") if row.source_id == values["source"]]
        named = [row for row in rows if row.offset in values["offsets"]]
        self._insert("dead_letters", [row._replace(withdrawn=True, version=version(row)) for row in named])

    def fingerprint(self, values: Values) -> list[Any]:
        """Of a closed chunk."""
        rows = self._server.winners("chunks").get(values["source"], {}).values()
        return [(row.fingerprint,) for row in rows if row.chunk == values["chunk"]]

    def gaps(self, values: Values) -> list[Any]:
        """Listed offsets of sources, without those of one reason."""
        rows = [row for source in values["ids"] for row in self._server.winners("gaps").get(source, {}).values()]
        return [(row.source_id, row.from_offset, row.to_offset) for row in rows if row.why != values["cut"]]

    def repaired(self, values: Values) -> dict[tuple[int, int], int]:
        """The highest revision of each (source, chunk) that a replay has repaired."""
        found: dict[tuple[int, int], int] = {}
        for row in self._server.final("repairs"):
            if row.why == values["name"]:
                found[row.source_id, row.chunk] = max(row.revision, found.get((row.source_id, row.chunk), 0))
        return found

    def later(self, values: Values) -> list[Any]:
        """Chunks that were counted again after it."""
        repaired, undone = self.repaired(values), values["undo"]
        rows = self._server.final("repairs")
        return [
            (row.why, row.chunk)
            for row in rows
            if row.revision > repaired.get((row.source_id, row.chunk), 1 << 16) and row.why != undone
        ][:1]

    def changed(self, values: Values) -> list[Any]:
        """Sources."""
        return [(one,) for one in {source_id for source_id, _ in self.repaired(values)}]

    def how_many(self, values: Values) -> list[Any]:
        """Chunks."""
        return [(len(self.repaired(values)),)]

    def undo_repairs(self, values: Values) -> None:
        """Another revision."""
        at, name = instant(self._server.epoch_ms()), values["undo"]
        found = self.repaired(values).items()
        self._insert("repairs", [RepairRow(*of, revision + 1, 0, name, name, at) for of, revision in found])

    def undo_dead_letters(self, values: Values) -> None:
        """As they were."""
        letters = {(row.source_id, row.offset): row for row in self._server.final("dead_letters")}
        repaired = self.repaired(values)
        self._insert(
            "dead_letters",
            [
                letters[row.source_id, row.offset]._replace(
                    reason=row.reason,
                    error=row.error,
                    withdrawn=row.withdrawn,
                    version=version_of(repaired[row.source_id, row.chunk] + 1, row.offset),
                )
                for row in self.kept("replaced_dead_letters", values)
                if (row.source_id, row.chunk) in repaired
            ],
        )

    def kept(self, table: str, values: Values) -> Iterable[Row]:
        """What a replay has replaced; the same row may be there more than once."""
        return dict.fromkeys(row for row in self._server.rows[table] if row.replay_id == values["id"])

    def chunk_end(self, source_id: int, chunk: int) -> int:
        """Where it ends."""
        rows = [(row.source_id, 0, "", row.chunk_length, 2) for row in self._server.final("sources")]
        rows += [
            (row.source_id, row.from_offset, row.entry_id, row.length, row.state)
            for row in self._server.final("chunk_lengths")
        ]
        return chunk_lengths.grids_of([row for row in rows if row[0] == source_id])[source_id].chunk_end(chunk)

    def insert_undone(self, family: Family, values: Values) -> None:
        """Cells as they were."""
        repaired, row_of = self.repaired(values), cast("Any", TABLES[family.table])
        found = [row for row in self.kept(family.replaced, values) if (row.source_id, row.chunk) in repaired]
        self._insert(
            family.table,
            [
                row_of(
                    **{name: getattr(row, name) for name in row_of._fields if name != "version"},
                    version=version_of(
                        repaired[row.source_id, row.chunk] + 1, self.chunk_end(row.source_id, row.chunk)
                    ),
                )
                for row in found
            ],
        )


def _cells_of(family: Family) -> Callable[[SimClient, Values], None]:
    return lambda client, values: client.insert_undone(family, values)


_NAMES: Final = ", ".join(stored._DEAD_LETTER_COLUMNS)
_WITHDRAW: Final = f"INSERT INTO dead_letters ({_NAMES}, withdrawn, version) SELECT {_NAMES}, true, toUInt64("
_ANSWERS: Final[dict[str, Callable[[SimClient, Values], list[Any] | None]]] = {
    "SELECT name, engine_full FROM system.tables": lambda _client, _values: [],
    "SELECT name, toUInt32OrZero(extract(engine_full": lambda _client, _values: [],  # kept for ever
    "SELECT fingerprint FROM chunks": SimClient.fingerprint,
    "SELECT source_id, from_offset, to_offset FROM gaps": SimClient.gaps,
    "SELECT NULL AS hour_, toString(d.topic)": lambda client, values: letters.groups(client._server, values),
    "SELECT d.source_id, d.offset, toString(d.topic), d.partition, d.kafka": lambda client, values: letters.find(
        client._server, values
    ),
    "SELECT d.source_id, d.offset, toString(d.topic), d.partition, a.version": lambda client, values: letters.uncertain(
        client._server, values
    ),
    "SELECT replay_id, toString(action)": SimClient.replays,
    "SELECT source_id, chunk, revision, changes, step FROM replay_chunks": SimClient.replay_chunks,
    undo._UNDO_DEAD_LETTERS.strip(): SimClient.undo_dead_letters,
    _WITHDRAW + "bitOr(": SimClient.withdraw,
    _WITHDRAW + "%(lost)s)": SimClient.withdraw_lost,
    "SELECT r.why, r.chunk FROM repairs": SimClient.later,
    "SELECT DISTINCT source_id FROM (": SimClient.changed,
    "SELECT count() FROM (": SimClient.how_many,
    undo._UNDO_REPAIRS.strip(): SimClient.undo_repairs,
    **{undo._undo_cells(family).strip(): _cells_of(family) for family in FAMILIES},
    **sql_erasing.ANSWERS,
}
