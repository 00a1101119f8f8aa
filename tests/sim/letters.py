"""The statements of dead letters, answered of the rows of a simulated ClickHouse (see sql.py)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.sim.clickhouse import Row, SimClickHouse

Values = dict[str, Any]
LOST = ("retention", "skip accepted")


class Letter(NamedTuple):
    """A dead letter, what was done with it last, and the row of that."""

    row: Row
    action: str
    done: Row | None

    @property
    def version(self) -> int:
        """Of what was done; 0 for nothing."""
        return self.done.version if self.done else 0


def record_hash(row: Row) -> int:
    """UInt64; what stands for ClickHouse's siphash."""
    return hash((row.kafka_timestamp, row.key, row.payload_bytes, row.payload)) & (1 << 64) - 1


def letters(server: SimClickHouse, values: Values) -> Iterator[Letter]:
    """Those that a filter finds, in the order of their places."""
    progress = {row.source_id: row.next_offset for row in server.final("progress")}
    firsts = {row.source_id: row.first_offset for row in server.final("sources")}
    done = {(row.source_id, row.offset, row.record_hash): row for row in server.final("dead_letter_actions")}
    for row in sorted(
        server.final("dead_letters"), key=lambda row: (row.topic, row.partition, row.offset, row.source_id)
    ):
        last = done.get((row.source_id, row.offset, record_hash(row)))
        action = "" if last is None else last.action
        if last is not None and action == "sent":
            gaps = server.winners("gaps").get(last.target_source_id, {}).values()
            gone = any(g.why in LOST and g.from_offset <= last.target_offset < g.to_offset for g in gaps)
            gone = gone or last.target_offset < firsts.get(last.target_source_id, 0)
            counted = progress.get(last.target_source_id, 0) > last.target_offset
            action = "lost" if gone else "redriven" if counted else "sent"
        wanted = action in values["actions"] if "actions" in values else action not in values.get("handled", ())
        whole = row.payload or not row.payload_bytes or not ("actions" in values or "handled" in values)
        if wanted and whole and not row.withdrawn and row.topic in values.get("topics", [row.topic]):
            yield Letter(row, action, last)


def groups(server: SimClickHouse, values: Values) -> list[Any]:
    """By topic and what was done, with the place of one."""
    found: dict[tuple[str, str], list[Row]] = {}
    for one in letters(server, values):
        found.setdefault((one.row.topic, one.action), []).append(one.row)
    return [
        (None, topic, None, action, len(rows), (topic, rows[0].partition, rows[0].offset))
        for (topic, action), rows in sorted(found.items())
    ]


def find(server: SimClickHouse, values: Values) -> list[Any]:
    """In full, text as bytes."""
    after = values.get("after", ("",))
    found = [
        (
            *(row.source_id, row.offset, row.topic.encode(), row.partition, row.kafka_timestamp, row.key),
            *([(name.encode(), value) for name, value in row.headers], row.payload, row.payload_bytes),
            *(row.reason.encode(), row.error.encode(), one.action.encode(), one.version, record_hash(row)),
        )
        for one in letters(server, values)
        for row in [one.row]
        if (row.topic, row.partition, row.offset, row.source_id) > after
    ]
    return found[: values["limit"]]


def uncertain(server: SimClickHouse, values: Values) -> list[Any]:
    """With where they were being sent."""
    return [
        (
            *(one.row.source_id, one.row.offset, one.row.topic, one.row.partition, one.version),
            *(one.done.target, [*one.done.target_ends], one.done.target_source_id, record_hash(one.row)),
        )
        for one in letters(server, values)
        if one.done is not None
    ]
