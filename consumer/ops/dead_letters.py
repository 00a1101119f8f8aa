"""Dead letters as operators look at them: found by what they have in common, shown in full, dropped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from orgstats.clickhouse.cluster import read
from orgstats.consumer.ops.connections import now
from orgstats.consumer.ops.stored import ask, insert_rows
from orgstats.consumer.store.store import Store
from orgstats.schemas.dead_letter_actions import FROM_LETTERS, HANDLED
from orgstats.times import format_time

SENDABLE: Final = ("", "aborted", "lost")
"""Actions after which a dead letter's record is surely nowhere where it was or will be counted."""
UNCERTAIN: Final = "redriving"
"""The action of a dead letter that was being sent: only the target's log tells whether it was."""

PAGE: Final = 500
"""Dead letters held at once; a payload may have 64 KiB."""


_WHOLE: Final = "NOT (payload = '' AND payload_bytes > 0)"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; None or empty means any. Times are Kafka timestamps, epoch milliseconds."""

    topics: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    org_id: int | None = None
    place: tuple[int, int] | None = None
    """(partition, offset)."""
    handled: bool = False
    """Also those that were redriven or dropped, or were emptied since they name an organization that is erased."""
    actions: tuple[str, ...] = ()
    """Only those of which this was done last; "" is nothing."""

    def where(self) -> tuple[str, dict[str, Any]]:
        """The condition and its values."""
        conditions: list[tuple[str, dict[str, Any]]] = [("NOT withdrawn", {})]
        if self.topics:
            conditions.append(("topic IN %(topics)s", {"topics": list(self.topics)}))
        if self.reasons:
            conditions.append(("d.reason IN %(reasons)s", {"reasons": list(self.reasons)}))
        moment = "fromUnixTimestamp64Milli(toInt64({}), 'UTC')"
        if self.since_ms is not None:
            conditions.append((f"kafka_timestamp >= {moment.format('%(since)s')}", {"since": self.since_ms}))
        if self.until_ms is not None:
            conditions.append((f"kafka_timestamp < {moment.format('%(until)s')}", {"until": self.until_ms}))
        if self.org_id is not None:  # what could not be decoded may still tell whose it is, as a number or as text
            raw = "trim(BOTH '\"' FROM JSONExtractRaw(payload, 'org_id'))"
            conditions.append((f"{raw} = %(org)s", {"org": str(self.org_id)}))
        if self.place is not None:
            conditions.append(("partition = %(p)s AND d.offset = %(o)s", dict(zip("po", self.place, strict=True))))
        if self.actions:
            conditions.append(("a.action IN %(actions)s", {"actions": list(self.actions)}))
        if self.actions or not self.handled:  # what was done with it before it was emptied is not known any more
            conditions.append((_WHOLE, {}))
        if not self.actions and not self.handled:
            conditions.append(("a.action NOT IN %(handled)s", {"handled": list(HANDLED)}))
        return " AND ".join(text for text, _ in conditions), {k: v for _, some in conditions for k, v in some.items()}


@dataclass(frozen=True, slots=True)
class Group:
    """How many dead letters have something in common, and where the first of them is; "" where nothing is asked."""

    hour: datetime | None
    topic: str
    reason: str
    action: str
    records: int
    first: tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter with all that is stored of it."""

    source_id: int
    offset: int
    topic: str
    partition: int
    kafka_timestamp: datetime
    key: bytes
    headers: list[tuple[str, bytes]]
    payload: bytes
    payload_bytes: int
    reason: str
    error: str
    action: str
    version: int
    """Of the action; 0 when nothing was done yet."""
    record_hash: int
    """Of the record: what was done with it was not done with another one that came to its offset."""

    @property
    def place(self) -> str:
        """topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def kafka_ms(self) -> int:
        """Kafka timestamp, epoch milliseconds."""
        return round(self.kafka_timestamp.timestamp() * 1000)

    def shown(self) -> dict[str, Any]:
        """As people and programs may read it: bytes as text where they are, else with escapes."""
        return {
            "place": self.place,
            "kafka_timestamp": format_time(self.kafka_timestamp.timestamp()),
            "reason": self.reason,
            "error": self.error,
            "key": _text(self.key),
            "headers": [[name, _text(value)] for name, value in self.headers],
            "payload": _text(self.payload),
            "payload_bytes": self.payload_bytes,
            "action": self.action,
        }


BY: Final = {
    "hour": "toStartOfHour(d.kafka_timestamp, 'UTC')",
    "topic": "toString(d.topic)",
    "reason": "toString(d.reason)",
}
"""What dead letters can be grouped by."""


def groups(store: Store, which: Filter, by: Sequence[str] = ("hour", "topic", "reason")) -> list[Group]:
    """Counts by what is named of `BY`, and by what was done."""
    where, values = which.where()
    columns = [f"{BY[name] if name in by else 'NULL'} AS {name}_" for name in BY]
    rows = ask(
        store,
        f"SELECT {', '.join(columns)}, a.action AS action_, count(),"
        " argMin((toString(d.topic), d.partition, d.offset), (d.kafka_timestamp, d.partition, d.offset))"
        f"{FROM_LETTERS}{where} GROUP BY hour_, topic_, reason_, action_ ORDER BY hour_, topic_, reason_, action_",
        values,
    )
    return [Group(hour, topic or "", reason or "", *rest) for hour, topic, reason, *rest in rows]


def find(store: Store, which: Filter, limit: int, after: DeadLetter | None = None) -> list[DeadLetter]:
    """Dead letters in full, in the order of their places, those behind `after`."""
    where, values = which.where()
    if after is not None:
        where += " AND (toString(d.topic), d.partition, d.offset, d.source_id) > %(after)s"
        values["after"] = (after.topic, after.partition, after.offset, after.source_id)
    rows = store.run(
        lambda client: read(
            client,
            "SELECT d.source_id, d.offset, toString(d.topic), d.partition, d.kafka_timestamp, d.key, d.headers,"
            " d.payload, d.payload_bytes, toString(d.reason), d.error, a.action, a.version,"
            f" d.record_hash{FROM_LETTERS}{where}"
            " ORDER BY toString(d.topic), d.partition, d.offset, d.source_id LIMIT %(limit)s",
            {**values, "limit": limit},
            settings={"strings_as_bytes": True},
        )
    )
    return [
        DeadLetter(
            source_id, offset, _text(topic), partition, at, key, [(_text(n), v) for n, v in headers], payload,
            payload_bytes, _text(reason), _text(error), _text(action), version, record_hash,
        )
        for (
            source_id, offset, topic, partition, at, key, headers, payload, payload_bytes, reason, error, action,
            version, record_hash,
        ) in rows
    ]  # fmt: skip


class UncertainLetter(NamedTuple):
    """A dead letter that was being sent when nobody was left to say how that went."""

    source_id: int
    offset: int
    topic: str
    partition: int
    version: int
    target: str
    target_ends: list[int]
    target_source_id: int
    record_hash: int

    @property
    def place(self) -> str:
        """topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def uncertain(store: Store, which: Filter) -> list[UncertainLetter]:
    """Every dead letter of the filter whose sending was begun and neither finished nor found to have failed."""
    where, values = replace(which, actions=(UNCERTAIN,)).where()
    rows = ask(
        store,
        "SELECT d.source_id, d.offset, toString(d.topic), d.partition, a.version, a.target, a.target_ends,"
        f" a.target_source_id, d.record_hash{FROM_LETTERS}{where} ORDER BY toString(d.topic), d.partition, d.offset",
        values,
    )
    return [UncertainLetter(*row) for row in rows]


class Destination(NamedTuple):
    """Where a letter's record was put: topic, the ends of its partitions before, the partition's source, the offset."""

    target: str = ""
    ends: Sequence[int] = ()
    source_id: int = 0
    offset: int = 0


def mark(
    store: Store,
    letters: Sequence[DeadLetter | UncertainLetter],
    action: str,
    by: str,
    destinations: Sequence[Destination] = (),
    *,
    step: int = 1,
) -> None:
    """Record what is done with dead letters as they were read; the `step` is counted from then.

    Failure semantics: may be repeated. Of two who read the same and do different things the later row tells, until
    one of them does the next step.
    """
    at = now()
    rows = [
        (
            one.source_id,
            one.offset,
            one.record_hash,
            one.version + step,
            action,
            to.target,
            list(to.ends),
            to.source_id,
            to.offset,
            by,
            at,
        )
        for one, to in zip(letters, destinations or [Destination()] * len(letters), strict=True)
    ]
    insert_rows(store, "dead_letter_actions", rows)


def pages(store: Store, which: Filter, limit: int) -> Iterator[list[DeadLetter]]:
    """The same in pages, up to `limit` of them; what is marked between pages does not disturb the order."""
    last = None
    while limit > 0 and (page := find(store, which, min(limit, PAGE), last)):
        yield page
        limit, last = limit - len(page), page[-1]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
