"""What the operators' page asks ClickHouse: each a statement whose rows are of a type in ops_rows.py."""

from collections.abc import Sequence
from typing import Final

from orgstats.query.sql import Statement
from orgstats.schemas.dead_letter_actions import FROM_LETTERS, HANDLED

MOST_GAPS: Final = 50
MOST_REPLAYS: Final = 20
MOST_AUDITS: Final = 20
MOST_RULES: Final = 10

_SETTINGS: Final = {"join_use_nulls": 0}


def partitions() -> Statement:
    """A `Counted` of each partition of the topics as they are now: not of one that was deleted and made again."""
    return Statement(
        "SELECT s.topic, s.partition, p.next_offset, p.version > 0 OR toUnixTimestamp64Milli(p.written_at) > 0,"
        " toUnixTimestamp64Milli(p.complete_until), toUnixTimestamp64Milli(p.written_at),"
        " p.cut_at, p.cut_to, r.retired AND r.at >= s.newest,"
        " w.consumer, w.log_start, w.log_end, w.readable_end,"
        " toUnixTimestamp64Milli(w.retention_deadline), arrayMap(x -> toString(x), w.pause_reasons),"
        " toUnixTimestamp64Milli(w.at)"
        " FROM (SELECT source_id, topic, topic_id, partition,"
        " max(registered_at) OVER (PARTITION BY topic) AS newest,"
        " argMax(topic_id, registered_at) OVER (PARTITION BY topic) AS current FROM sources FINAL) AS s"
        " LEFT JOIN (SELECT * FROM progress FINAL) AS p ON p.source_id = s.source_id"
        " LEFT JOIN (SELECT * FROM watched FINAL) AS w ON w.topic = s.topic AND w.partition = s.partition"
        " LEFT JOIN (SELECT * FROM retired_topics FINAL) AS r ON r.topic = s.topic"
        " WHERE s.topic_id = s.current ORDER BY s.topic, s.partition",
        settings=_SETTINGS,
        name="ops_partitions",
    )


def gaps() -> Statement:
    """A `Gap` of each of the last, and in each how many there are, and of how many offsets."""
    return Statement(
        "SELECT s.topic, s.partition, g.from_offset, g.to_offset, toString(g.why), toUnixTimestamp64Milli(g.seen_at),"
        " count() OVER (), sum(g.to_offset - g.from_offset) OVER ()"
        " FROM (SELECT * FROM gaps FINAL) AS g INNER JOIN (SELECT * FROM sources FINAL) AS s"
        " ON s.source_id = g.source_id ORDER BY g.seen_at DESC, s.topic, s.partition, g.from_offset"
        " LIMIT {most:UInt32}",
        {"most": MOST_GAPS},
        settings=_SETTINGS,
        name="ops_gaps",
    )


def replays() -> Statement:
    """A `Replay` of each that is not done, and of the last ones."""
    return Statement(
        "SELECT r.replay_id, toString(r.action), r.request, r.by, r.step, toUnixTimestamp64Milli(r.at),"
        " toUnixTimestamp64Milli(greatest(r.at, c.at)), c.chunks"
        " FROM (SELECT * FROM replays FINAL) AS r"
        " LEFT JOIN (SELECT replay_id, max(at) AS at, countIf(step = 2) AS chunks"
        " FROM replay_chunks FINAL GROUP BY replay_id) AS c ON c.replay_id = r.replay_id"
        " ORDER BY r.step > 0, r.at DESC, r.replay_id LIMIT {most:UInt32}",
        {"most": MOST_REPLAYS},
        settings=_SETTINGS,
        name="ops_replays",
    )


_UNHANDLED: Final = f"NOT withdrawn AND a.action NOT IN {HANDLED}"


def dead_letters() -> Statement:
    """A `Letters` of each topic and reason: those that nobody has dealt with."""
    newest = "argMax((d.source_id, d.offset), (d.kafka_timestamp, d.partition, d.offset))"
    return Statement(
        f"SELECT toString(d.topic), toString(d.reason), count() AS many, countIf(a.action = 'sent'), {newest}"
        f"{FROM_LETTERS}{_UNHANDLED} GROUP BY d.topic, d.reason ORDER BY many DESC, d.topic, d.reason",
        settings=_SETTINGS,
        name="ops_dead_letters",
    )


def letters_in_full(places: Sequence[tuple[int, int]]) -> Statement:
    """A `Letter` of each of these (source id, offset)."""
    return Statement(
        "SELECT source_id, offset, toString(topic), partition, toUnixTimestamp64Milli(kafka_timestamp), error, key,"
        " headers, payload, payload_bytes FROM dead_letters FINAL WHERE source_id IN {sources:Array(UInt64)}"
        " AND has(arrayZip({sources:Array(UInt64)}, {offsets:Array(UInt64)}), (source_id, offset))",
        {"sources": [source for source, _ in places], "offsets": [offset for _, offset in places]},
        name="ops_letters",
    )


def audits() -> Statement:
    """An `Audit` of each of the last."""
    return Statement(
        "SELECT audit_id, places, recount, chunks, compared, differences, first, by, toUnixTimestamp64Milli(at)"
        " FROM audits FINAL"
        " ORDER BY at DESC, audit_id LIMIT {most:UInt32}",
        {"most": MOST_AUDITS},
        name="ops_audits",
    )


def rules() -> Statement:
    """A `Rules` of each entry that is not void, the last to come into force first."""
    return Statement(
        "SELECT version, entry_id, toUnixTimestamp64Milli(effective_from), toml, published_by,"
        " toUnixTimestamp64Milli(published_at), note"
        " FROM rules FINAL WHERE toUnixTimestamp64Milli(voided_at) = 0"
        " ORDER BY effective_from DESC, version DESC, published_at DESC, entry_id DESC LIMIT {most:UInt32}",
        {"most": MOST_RULES},
        name="ops_rules",
    )


def erasures() -> Statement:
    """(org_id, by, since when in ms) of each erasure that is not done."""
    return Statement(
        "SELECT org_id, by, toUnixTimestamp64Milli(at) FROM erasures FINAL WHERE NOT done ORDER BY at, org_id",
        name="ops_erasures",
    )
