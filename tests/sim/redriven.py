"""What a redrive has to do with each dead letter, worked out anew, and what the logs then hold of it."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from orgstats.consumer.counting.resume import LOG_CUT_BACK
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.group import TopicPartition
from tests.sim.clickhouse import Row
from tests.sim.letters import letters
from tests.sim.oracle import source_of, sources
from tests.sim.world import SimWorld
from tests.support.record import FakeRecord

Origin = tuple[int, int]
"""(source, offset) of a letter."""
MOST_HOPS: Final = 3
SENDABLE: Final = ("", "aborted", "lost", "redriving")
_TOO_LATE_MS: Final = 3_600_000


class Asked(NamedTuple):
    """What an operator wants: which values are set, None for letters as they are; where they go, None for where they
    were; how long the target keeps records, 0 for ever; whether they get the present time."""

    event: dict[str, Any] | None
    to: str | None = None
    kept_ms: int = 0
    now: bool = False


class Sent(NamedTuple):
    """A record of a letter, where it lies, and whether it is or will be counted."""

    tp: TopicPartition
    record: FakeRecord


def mendable(world: SimWorld, asked: Asked) -> dict[Origin, tuple[Row, bytes]]:
    """Letters that have to be in the log again, with their payload."""
    found = {}
    for one in letters(world.store, {"actions": [*SENDABLE]}):
        payload, row = _whole(world, one.row), one.row
        if (
            payload is None
            or row.topic not in world.kafka.topics
            or asked.event is None
            or hops(row.headers) >= MOST_HOPS
        ):
            continue
        age_ms = world.clock.epoch_ms() - kafka_ms(row)
        if asked.kept_ms and not asked.now and age_ms > asked.kept_ms - min(_TOO_LATE_MS, asked.kept_ms // 10):
            continue
        if _object(payload) is not None:
            found[row.source_id, row.offset] = row, payload
    return found


def stays(world: SimWorld, mended: Iterable[Origin]) -> dict[Origin, Row]:
    """All other letters that somebody may think of sending."""
    every = {(one.row.source_id, one.row.offset): one.row for one in letters(world.store, {"actions": [*SENDABLE]})}
    return {origin: row for origin, row in every.items() if origin not in mended}


def there(world: SimWorld) -> dict[Origin, list[Sent]]:
    """Records of letters that are counted, or will be: of committed transactions, and not gone before they were."""
    found: dict[Origin, list[Sent]] = defaultdict(list)
    known = {id(one.log): one for one in sources(world.store, world.kafka)}
    logs = [(tp, world.kafka.log(tp)) for tp in world.kafka.tps()] + [(one.tp, one.log) for one in known.values()]
    for tp, log in {id(log): (tp, log) for tp, log in logs}.values():
        one = known.get(id(log))
        for record in log.ever("read_committed"):
            counted = one is not None and one.first_offset <= record.at < one.next_offset
            listed = one is not None and any(
                first <= record.at < end for first, end, why in one.gaps if why != LOG_CUT_BACK
            )
            origin = _origin(record)
            if origin and not listed and (counted or record.at >= log.low):
                found[origin].append(Sent(tp, record))
    return found


def wrong(sent: Sent, row: Row, payload: bytes, asked: Asked, world: SimWorld) -> str:
    """What a record of a letter has that it should not have; nothing for a right one."""
    wanted = json.loads(payload) | (asked.event or {})
    topic = asked.to or row.topic
    logs = len(world.kafka.topics[topic][1])
    moment = world.clock.epoch_ms() - 600_000, world.clock.epoch_ms()
    checks = {
        "payload": json.loads(sent.record.body or b"") == wanted,
        "place": sent.tp == (topic, row.partition % logs),
        "hops": hops(sent.record.pairs) == hops(row.headers) + 1,
        "time": moment[0] < sent.record.when_ms <= moment[1] if asked.now else sent.record.when_ms == kafka_ms(row),
    }
    return ", ".join(what for what, right in checks.items() if not right)


def unknown(world: SimWorld) -> Iterator[tuple[Origin, bool]]:
    """Letters that are told to be unknown; whether the log has indeed lost the place where they could be seen."""
    kafka = world.kafka
    logs = {Source(tp[0], kafka.topics[tp[0]][0], tp[1]).source_id: (tp[1], kafka.log(tp)) for tp in kafka.tps()}
    for one in letters(world.store, {"actions": ["redriving"]}):
        done: Any = one.done
        partition, log = logs.get(done.target_source_id, (0, None))
        lost = log is None or log.low > done.target_ends[partition] or bool(log.vanished)
        yield (one.row.source_id, one.row.offset), lost


def hops(headers: Any) -> int:
    """How often a record was sent again."""
    return max((int(value) for name, value in headers if name == "orgstats-hops"), default=0)


def kafka_ms(row: Row) -> int:
    """Of a letter, epoch milliseconds."""
    return int(1000 * row.kafka_timestamp.timestamp() + 0.5)


def _is_there(world: SimWorld, log: object) -> bool:
    return any(world.kafka.log(tp) is log for tp in world.kafka.tps())


def _whole(world: SimWorld, row: Row) -> bytes | None:
    """The payload as it was produced: of a long one the store has the beginning, the log the rest while it is there."""
    if row.payload_bytes <= len(row.payload):
        return bytes(row.payload)
    one = source_of(world.store, world.kafka, row.source_id)
    if not _is_there(world, one.log):
        return None
    now = next((record.body for record in one.log.within(row.offset, row.offset + 1)), None) or b""
    return now if len(now) == row.payload_bytes and now.startswith(row.payload) else None


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(payload)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _origin(record: FakeRecord) -> Origin | None:
    found = [value for name, value in record.pairs if name == "orgstats-origin"]
    if not found:
        return None
    source_id, offset = found[0].split(b"/")
    return int(source_id), int(offset)
