"""The traffic whose counts are queried, as SQL: so a billion events can be made by the engine that counts them.

Event `offset` of a partition is one of the templates of deploy/traffic.py, drawn by a hash of its place, at the
time that a steady rate gives it. Every table of the benchmark is filled from these same events.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

from clickhouse_driver import Client

from orgstats.consumer.counting.chunk import MAX_REASON_LENGTH
from orgstats.consumer.counting.source import Source
from orgstats.deploy.traffic import Mix, _pool
from orgstats.schemas.outcomes import DEFAULT_CATEGORY

BEGIN: Final = 1_699_920_000
"""The first event's second, a midnight."""
RATE: Final = 10_000
"""Events a second of all partitions together."""
TOPIC: Final = "outcomes"
MIX: Final = Mix(broken=0, astray=0)

TABLES: Final = (
    """CREATE TABLE templates
    (
        partition UInt32, number UInt32, org_id UInt64, project_id UInt64, key_id UInt64,
        category UInt8, outcome UInt8, reason String, quantity UInt64
    )
    ENGINE = MergeTree ORDER BY (partition, number)""",
    """CREATE TABLE groups
    (
        partition UInt32, number UInt32, bucket DateTime('UTC'), source_id UInt64, chunk UInt64,
        events UInt64, version UInt64, changed Bool
    )
    ENGINE = Memory""",
)
"""What events are made of, and how many there are of each kind: only for filling."""


class Template(NamedTuple):
    """What an event is made of, but its time; a row of `templates` without its place."""

    org_id: int
    project_id: int
    key_id: int
    category: int
    outcome: int
    reason: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition's share of the traffic: its templates, the first `late` of them of events that come late."""

    number: int
    templates: list[Template]
    late: int
    rate: int
    """Events a second."""

    @property
    def source(self) -> Source:
        return Source(TOPIC, "bench", self.number)

    def events(self, first: int, end: int) -> str:
        """Rows (offset, template, second) of the events [first, end); those that are late by half an hour or so."""
        delay = "least(-1800 * log((intHash32(number) + 1) / 4294967297), 1728000)"
        return (
            f"SELECT number AS offset, toUInt32(cityHash64({self.number}, number) % {len(self.templates)}) AS template,"
            f" toUInt32({BEGIN} + intDiv(number, {self.rate})"
            f" - if(template < {self.late}, toUInt32({delay}), 0)) AS second"
            f" FROM numbers_mt({first}, {end - first})"
        )


def partitions(count: int, rate: int) -> list[Partition]:
    """The traffic of `rate` events a second, over partitions by organization."""
    pool = list(_pool(Random(7), MIX))
    parts: list[tuple[list[Template], list[Template]]] = [([], []) for _ in range(count)]
    for key, tail, unusual in pool:
        template = _template(json.loads(b"{" + tail[1:]))
        late, punctual = parts[int(key or b"0") % count]
        (late if unusual and unusual.lag else punctual).append(template)
    return [
        Partition(number, late + punctual, len(late), max(1, rate * (len(late) + len(punctual)) // len(pool)))
        for number, (late, punctual) in enumerate(parts)
    ]


def _template(event: dict[str, Any]) -> Template:
    """As it is counted where no rule is in force."""
    category = event.get("category")
    return Template(
        event["org_id"] or 0,
        event["project_id"],
        event["key_id"],
        DEFAULT_CATEGORY if category is None else category,
        event.get("outcome") or 0,
        (event.get("reason") or "")[:MAX_REASON_LENGTH],
        event.get("quantity", 1),
    )


def load_templates(client: Client, traffic: Iterable[Partition]) -> None:
    """Fill `templates`."""
    rows = [(one.number, number, *template) for one in traffic for number, template in enumerate(one.templates)]
    client.execute("INSERT INTO templates VALUES", rows)


def shares(traffic: Iterable[Partition]) -> dict[int, float]:
    """Events a second of each organization, the busiest first."""
    found: dict[int, float] = {}
    for one in traffic:
        for template in one.templates:
            found[template.org_id] = found.get(template.org_id, 0) + one.rate / len(one.templates)
    return dict(sorted(found.items(), key=lambda share: -share[1]))
