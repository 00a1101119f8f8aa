"""Looks at everything that exact counts lean on, and says of each thing found how to mend it."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, Final

from orgstats.consumer.counting.batch import COMPILED
from orgstats.consumer.counting.resume import LOG_CUT_BACK
from orgstats.consumer.kafka.properties import READ_COMMITTED
from orgstats.consumer.kafka.reading import why_not_batches
from orgstats.consumer.kafka.retention import retention_of
from orgstats.consumer.ops import clickhouse_versions
from orgstats.consumer.ops.chunk_advice import advice
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.ops.erase import left_over, unfinished
from orgstats.consumer.ops.findings import Finding, Level
from orgstats.consumer.ops.lag import lag
from orgstats.consumer.ops.rights import rights
from orgstats.consumer.ops.stored import ask
from orgstats.consumer.store.rules import CLOCK_SECONDS, load_history, server_now
from orgstats.errors import OrgstatsError, Unavailable
from orgstats.schemas.migrate import applied, load, newer, pending
from orgstats.schemas.outcomes import NAMED_OUTCOMES

RETENTION_DEADLINE_SECONDS: Final = 6 * 3600
STALE_SECONDS: Final = 120.0

_COMPILER: Final = "install with a C compiler at hand, and confluent-kafka from its wheel"


def examine(connections: Connections) -> list[Finding]:
    """Every finding, in the order of the chain; a check that cannot be made is a finding too.

    Raises ConfigurationError when Kafka refuses the credentials. Of a server that does not answer nothing more is
    asked.
    """
    found: list[Finding] = []
    away: set[str] = set()
    for check, servers in _CHECKS:
        if away & servers:
            continue
        try:
            found.extend(check(connections))
        except Unavailable as error:
            level: Level = "note" if connections.settings.topic_id else "act"  # such a broker answers little
            if check in _FIRST:
                away |= servers
                level = "act"
            found.append(Finding(level, str(error), "see that the server answers, then ask again"))
        except OrgstatsError as error:
            if check is _brokers:
                raise
            if check in _FIRST:  # the others would only say the same
                away |= servers
            found.append(Finding("act", str(error), "see that the settings are right, then ask again"))
    return found


def _speed(connections: Connections) -> Iterator[Finding]:
    """Counts are the same whichever way; this says which it is on this machine."""
    if not COMPILED:
        yield Finding("note", "records are counted without compiled code, several times slower", _COMPILER)
    if connections.settings.reading == "messages":
        yield Finding("ok", "records are read one by one (ORGSTATS_READING=messages)")
    elif why := why_not_batches():
        yield Finding("note", f"records are read one by one: {why}", _COMPILER)
    else:
        yield Finding("ok", "records are read in batches, by compiled code")


def _brokers(connections: Connections) -> Iterator[Finding]:
    cluster, brokers = connections.broker.cluster()
    yield Finding("ok", f"Kafka cluster {cluster}: {', '.join(brokers)}")


def _topics(connections: Connections) -> Iterator[Finding]:
    if connections.settings.topic_id:
        yield Finding("note", "ORGSTATS_TOPIC_ID stands for the topics' UUIDs", "change it when a topic is made again")
        return
    described = connections.topics.describe(connections.settings.topic)
    for topic in connections.settings.topic:
        if topic not in described:
            yield Finding(
                "act", f"topic {topic} does not exist", "make it, or mend ORGSTATS_TOPIC; see also the rights"
            )
            continue
        uuid, partitions = described[topic]
        if uuid.strip("A"):
            yield Finding("ok", f"topic {topic}: partitions {partitions}, UUID {uuid}")
        else:
            yield Finding("act", f"topic {topic} has no UUID", "name an id for it with ORGSTATS_TOPIC_ID")
        yield from _topic_settings(
            topic, connections.broker.topic_settings(topic), allow_compaction=connections.settings.allow_compaction
        )


def _topic_settings(topic: str, settings: dict[str, str], *, allow_compaction: bool) -> Iterator[Finding]:
    if "compact" in settings.get("cleanup.policy", ""):
        yield Finding(
            "note" if allow_compaction else "act",
            f"topic {topic} is compacted: records vanish, so counts cannot be counted again",
            f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy=delete",
        )
    if settings.get("message.timestamp.type") == "CreateTime":
        yield Finding(
            "note",
            f"topic {topic} takes timestamps from its producers (message.timestamp.type=CreateTime)",
            "rules go by them: keep the producers' clocks right, or set LogAppendTime",
        )
    limits = retention_of(settings)
    hours = "for ever" if limits.milliseconds is None else f"for {limits.milliseconds / 3_600_000:,.1f} h"
    level: Level = "act" if limits.milliseconds is not None and limits.milliseconds < 3_600_000 else "ok"
    remedy = "raise retention.ms: an outage of that length loses records" if level == "act" else ""
    yield Finding(level, f"topic {topic} keeps records {hours}", remedy)


def _neighbours(connections: Connections) -> Iterator[Finding]:
    for topic in neighbours(connections.settings.topic, connections.broker.topics()):
        yield Finding(
            "note",
            f"topic {topic} is not counted, and by its name may hold outcomes too",
            "if it does, add it to ORGSTATS_TOPIC",
        )


def neighbours(counted: Collection[str], existing: Collection[str]) -> list[str]:
    """Topics that are not counted and named like one that is: `outcomes-billing` beside `outcomes`."""
    beginnings = tuple(f"{name}{mark}" for name in counted for mark in "-._")
    return [name for name in sorted(existing) if name.startswith(beginnings) and name not in counted]


def _group(connections: Connections) -> Iterator[Finding]:
    members = connections.broker.group_members(connections.settings.group)
    if members:
        yield Finding("ok", f"group {connections.settings.group}: members {members}")
    else:
        yield Finding(
            "act", f"group {connections.settings.group} has no members: nothing is counted", "start orgstats consume"
        )
    if connections.settings.isolation != READ_COMMITTED:
        yield Finding("note", "isolation.level is read_uncommitted: records of aborted transactions are counted")


def _clickhouse(connections: Connections) -> Iterator[Finding]:
    version = str(ask(connections.store, "SELECT version()", {})[0][0])
    replicated = ask(
        connections.store,
        "SELECT count() FROM system.tables WHERE database = currentDatabase() AND startsWith(engine, 'Replicated')",
        {},
    )
    yield from _version(version, replicated=replicated != [(0,)])
    before = time.time()
    there = connections.store.run(server_now).timestamp()
    here = (before + time.time()) / 2
    if abs(there - here) > CLOCK_SECONDS:
        yield Finding("act", f"ClickHouse's clock is {there - here:+.1f} s from this one", "run NTP on both machines")
    else:
        yield Finding("ok", f"clocks: ClickHouse's is {there - here:+.1f} s from this one")


def _version(version: str, *, replicated: bool) -> Iterator[Finding]:
    release = clickhouse_versions.numbers(version)[:2]
    tested = ".".join(map(str, clickhouse_versions.OLDEST_TESTED))
    if release < clickhouse_versions.OLDEST:
        yield Finding("act", f"ClickHouse {version} is too old", f"use {tested} or newer")
        return
    known = clickhouse_versions.faults(version, replicated=replicated)
    for fault in known:
        yield Finding("act", f"ClickHouse {version}: {fault.what} (ClickHouse #{fault.source})", fault.remedy)
    if release < clickhouse_versions.OLDEST_TESTED:
        yield Finding("note", f"ClickHouse {version} is older than those that orgstats is tested with", f"use {tested}")
    elif not known:
        yield Finding("ok", f"ClickHouse {version}")


def _tables(connections: Connections) -> Iterator[Finding]:
    done = connections.store.run(applied)
    missing = pending(load(), done)
    if ahead := newer(load(), done):
        yield Finding("note", f"the tables are of a newer version: migration {ahead[-1].version} ({ahead[-1].name})")
    if missing:
        names = ", ".join(f"{one.version:04}_{one.name}" for one in missing)
        yield Finding("act", f"migrations are not applied: {names}", "orgstats migrate")
    else:
        yield Finding("ok", f"tables: {len(load())} migrations applied")
    gaps: Any = ask(
        connections.store,
        "SELECT count(), sum(to_offset - from_offset) FROM gaps FINAL WHERE why != %(cut)s",
        {"cut": LOG_CUT_BACK},
    )[0]
    if gaps[0]:
        yield Finding(
            "note",
            f"{gaps[0]} gaps: {gaps[1]:,} offsets were deleted before they were counted",
            "nothing brings them back; raise retention so that it does not happen again",
        )
    cuts: Any = ask(
        connections.store,
        "SELECT count(), sum(to_offset - from_offset), max(seen_at) FROM gaps FINAL WHERE why = %(cut)s",
        {"cut": LOG_CUT_BACK},
    )[0]
    if cuts[0]:
        yield Finding(
            "note",
            f"logs were cut back {cuts[0]} times, last seen {cuts[2]:%Y-%m-%d %H:%M} UTC: {cuts[1]:,} counted offsets"
            " vanished, and were taken back",
            "an unclean election or a restored broker: find out what the cluster lost; gaps lists the offsets",
        )


def _rights(connections: Connections) -> Iterator[Finding]:
    """The consumers' role, and what operators' commands need beside it, which other users may have."""
    found = list(rights(connections.store, "consumer"))
    yield from found
    if all(one.level == "ok" for one in found):
        for one in rights(connections.store, "operator"):
            yield replace(one, level="note") if one.level == "act" else one


def _rules(connections: Connections) -> Iterator[Finding]:
    history = connections.store.run(load_history)
    if history.entries:
        yield Finding("ok", f"rules: version {history.entries[-1].version}, edition {history.edition}")
    else:
        yield Finding("note", "no rules are published: events that nobody has classified count as accepted")


def _erasures(connections: Connections) -> Iterator[Finding]:
    """Organizations that are erased, and of which something is stored all the same."""
    for org_id in unfinished(connections):
        yield Finding("act", f"the erasure of organization {org_id} is not done", _ERASE.format(org_id))
    for org_id in connections.store.run(left_over):
        yield Finding(
            "act",
            f"organization {org_id} is erased, and a consumer that was cut off has stored cells of it",
            _ERASE.format(org_id),
        )


_ERASE: Final = "orgstats orgs erase {} --execute"


def _outcomes(connections: Connections) -> Iterator[Finding]:
    """Outcomes without a name among the events of the last day."""
    named = ", ".join(map(str, sorted(NAMED_OUTCOMES)))
    found = ask(
        connections.store,
        "SELECT s.topic, groupUniqArray(c.outcome) FROM (SELECT source_id, outcome FROM hourly"
        f" PREWHERE outcome NOT IN ({named}) AND bucket > now() - INTERVAL 1 DAY) AS c"
        " INNER JOIN (SELECT * FROM sources FINAL) AS s ON s.source_id = c.source_id GROUP BY s.topic ORDER BY s.topic",
        {},
    )
    for topic, outcomes in found:
        yield Finding(
            "note",
            f"topic {topic} has outcomes without a name: {', '.join(map(str, sorted(outcomes)))}; they are stored by "
            "their number and are in no stat",
            "upgrade to an orgstats that names them, or ask their producer what they mean",
        )


def _lag(connections: Connections) -> Iterator[Finding]:
    now, found = time.time(), lag(connections, None)
    for one in found:
        name, age = f"{one.topic}/{one.partition}", one.behind_seconds or 0.0
        if one.position is None:
            yield Finding("act", f"{name} is not counted yet", "start orgstats consume on this topic")
        elif (
            one.behind
            and one.retention_deadline is not None
            and one.retention_deadline < now + RETENTION_DEADLINE_SECONDS
        ):
            left = max(0.0, one.retention_deadline - now)
            yield Finding(
                "act",
                f"{name} is {one.behind:,} records behind, and retention comes to them in {left:,.0f} s",
                "raise retention.ms at once, then add consumers or partitions",
            )
        elif one.open_transaction and one.open_transaction == one.behind and age > STALE_SECONDS:
            yield Finding(
                "act",
                f"{name}: {one.behind:,} records lie behind a transaction that is not ended; none of them can be "
                f"counted, and counts are complete only up to {age:,.0f} s ago",
                "kafka-transactions.sh find-hanging, then abort it; or stop its producer, whose timeout ends it",
            )
        elif one.behind and age > STALE_SECONDS:
            yield Finding(
                "act",
                f"{name} is {one.behind:,} records and {age:,.0f} s behind",
                "orgstats lag --watch; add consumers up to the number of partitions",
            )
        else:
            yield Finding("ok", f"{name}: {one.behind:,} records behind")
        if one.committed is not None and one.position is not None and one.committed > one.position:
            yield Finding(
                "act",
                f"{name}: the commit {one.committed:,} is ahead of what is stored, {one.position:,}",
                "restart the consumers: they go back and count from what is stored",
            )
    yield from advice(found, connections.broker.group_members(connections.settings.group))


_KAFKA: Final = frozenset({"Kafka"})
_CLICKHOUSE: Final = frozenset({"ClickHouse"})
_CHECKS: Final[tuple[tuple[Callable[[Connections], Iterator[Finding]], frozenset[str]], ...]] = (
    (_speed, frozenset()),
    (_brokers, _KAFKA),
    (_topics, _KAFKA),
    (_neighbours, _KAFKA),
    (_group, _KAFKA),
    (_clickhouse, _CLICKHOUSE),
    (_tables, _CLICKHOUSE),
    (_rights, _CLICKHOUSE),
    (_rules, _CLICKHOUSE),
    (_erasures, _CLICKHOUSE),
    (_outcomes, _CLICKHOUSE),
    (_lag, _KAFKA | _CLICKHOUSE),
)
"""What is looked at, and whom each look asks."""
_FIRST: Final = (_brokers, _clickhouse)
"""The first to ask each server: without an answer there is none to the others."""
