"""Rows as Python writes them: one tuple type per table, compared with the migrated server by a test.

The SQL files are the truth; what stands here only lets the code name a column instead of counting commas.
"""

from datetime import datetime
from typing import Annotated, Any, NamedTuple, get_type_hints

UInt8 = Annotated[int, "UInt8"]
UInt16 = Annotated[int, "UInt16"]
UInt32 = Annotated[int, "UInt32"]
UInt64 = Annotated[int, "UInt64"]
Int32 = Annotated[int, "Int32"]
Boolean = Annotated[bool, "Bool"]
Text = Annotated[str, "String"]
Bytes = Annotated[bytes | str, "String"]
Word = Annotated[str, "LowCardinality(String)"]
Sha256 = Annotated[str, "FixedString(64)"]
Bucket = Annotated[int, "DateTime('UTC')"]
Moment = Annotated[datetime, "DateTime64(3, 'UTC')"]


class CountRow(NamedTuple):
    """`counts`: one cell; the bucket starts 10 s."""

    org_id: UInt64
    bucket: Bucket
    project_id: UInt64
    key_id: UInt64
    category: UInt8
    outcome: UInt8
    reason: Word
    source_id: UInt64
    chunk: UInt64
    quantity: UInt64
    events: UInt64
    version: UInt64


class HourRow(NamedTuple):
    """`hourly`: one cell; the bucket starts an hour."""

    org_id: UInt64
    bucket: Bucket
    project_id: UInt64
    category: UInt8
    outcome: UInt8
    reason: Word
    source_id: UInt64
    chunk: UInt64
    quantity: UInt64
    events: UInt64
    version: UInt64


class TotalRow(NamedTuple):
    """`totals`: quantities of one organization in a bucket of `width` seconds, 10 or 3600."""

    org_id: UInt64
    width: UInt16
    bucket: Bucket
    source_id: UInt64
    chunk: UInt64
    accepted: UInt64
    filtered: UInt64
    rate_limited: UInt64
    version: UInt64


class SourceRow(NamedTuple):
    """`sources`: one partition of one topic."""

    source_id: UInt64
    topic: Text
    topic_id: Text
    partition: UInt32
    chunk_length: UInt64
    isolation: Word
    first_offset: UInt64
    registered_at: Moment


class ChunkLengthRow(NamedTuple):
    """`chunk_lengths`: chunks are as long as this from an offset on, once that is decided."""

    source_id: UInt64
    from_offset: UInt64
    entry_id: Text
    length: UInt64
    by: Text
    at: Moment
    state: UInt8


class ProgressRow(NamedTuple):
    """`progress`: how far a source is counted."""

    source_id: UInt64
    next_offset: UInt64
    kafka_timestamp: Moment
    complete_until: Moment
    partitions: UInt32
    fingerprint: Text
    leader_epoch: Int32
    chain: UInt64
    chain_from: UInt64
    cut_at: UInt64
    cut_to: UInt64
    hourly_offset: UInt64
    hourly_complete_until: Moment
    written_at: Moment
    version: UInt64


class FlushRow(NamedTuple):
    """`flushes`: how far a flush of a source was begun."""

    source_id: UInt64
    to_offset: UInt64
    version: UInt64


class RetiredTopicRow(NamedTuple):
    """`retired_topics`: topics that hold back nothing any more."""

    topic: Text
    retired: Boolean
    at: Moment


class ErasureRow(NamedTuple):
    """`erasures`: an organization that is erased."""

    org_id: UInt64
    by: Text
    at: Moment
    done: Boolean


class ChunkDayRow(NamedTuple):
    """`chunk_days`: a day of which a chunk has cells."""

    source_id: UInt64
    chunk: UInt64
    day: Bucket


class ChunkRow(NamedTuple):
    """`chunks`: a closed chunk and the log that it was counted of."""

    source_id: UInt64
    chunk: UInt64
    revision: UInt16
    rewinds: UInt16
    leader_epoch: Int32
    chain: UInt64
    chain_from: UInt64
    fingerprint: Text
    written_at: Moment
    version: UInt64


class GapRow(NamedTuple):
    """`gaps`: offsets that were never counted."""

    source_id: UInt64
    from_offset: UInt64
    to_offset: UInt64
    why: Word
    seen_at: Moment


class RepairRow(NamedTuple):
    """`repairs`: a chunk counted in a revision above 0."""

    source_id: UInt64
    chunk: UInt64
    revision: UInt16
    rewinds: UInt16
    fingerprint: Text
    why: Text
    at: Moment


class DeadLetterRow(NamedTuple):
    """`dead_letters`: a record that could not be decoded. ClickHouse makes `record_hash` of these."""

    source_id: UInt64
    offset: UInt64
    topic: Word
    partition: UInt32
    kafka_timestamp: Moment
    key: Bytes
    headers: Annotated[list[tuple[str, bytes | str]], "Array(Tuple(String, String))"]
    payload: Bytes
    payload_bytes: UInt64
    reason: Word
    error: Text
    withdrawn: Boolean
    version: UInt64


class RulesRow(NamedTuple):
    """`rules`: one entry of the history."""

    entry_id: Text
    version: UInt32
    effective_from: Moment
    toml: Text
    published_by: Text
    published_at: Moment
    note: Text
    voided_at: Moment

    @property
    def voided(self) -> bool:
        """Whether it was taken out, as if it had never been in force."""
        return self.voided_at.timestamp() > 0


class OrganizationRow(NamedTuple):
    """`organizations`."""

    org_id: UInt64
    slug: Text
    name: Text
    updated_at: Moment


class ProjectRow(NamedTuple):
    """`projects`."""

    org_id: UInt64
    project_id: UInt64
    slug: Text
    name: Text
    updated_at: Moment


class TokenRow(NamedTuple):
    """`tokens`: a bearer token's hash and what it may do."""

    token_sha256: Sha256
    token_id: Text
    name: Text
    org_id: UInt64
    all_orgs: Boolean
    scopes: Annotated[list[str], "Array(String)"]
    expires_at: Annotated[datetime | None, "Nullable(DateTime64(3, 'UTC'))"]
    created_at: Moment
    revoked: Boolean
    updated_at: Moment


class ReplayRow(NamedTuple):
    """`replays`: one run of `orgstats replay apply`; ranges are (source_id, first offset, offset after the last)."""

    replay_id: Text
    action: Word
    request: Text
    fingerprint: Text
    ranges: Annotated[list[tuple[int, int, int]], "Array(Tuple(UInt64, UInt64, UInt64))"]
    by: Text
    step: UInt8
    at: Moment


class ReplayChunkRow(NamedTuple):
    """`replay_chunks`: how far a replay is with a chunk."""

    replay_id: Text
    source_id: UInt64
    chunk: UInt64
    revision: UInt16
    changes: UInt64
    step: UInt8
    at: Moment


class ReplacedCountRow(NamedTuple):
    """`replaced_counts`: a cell as it was before a repair."""

    replay_id: Text
    source_id: UInt64
    chunk: UInt64
    org_id: UInt64
    bucket: Bucket
    project_id: UInt64
    key_id: UInt64
    category: UInt8
    outcome: UInt8
    reason: Word
    quantity: UInt64
    events: UInt64


class ReplacedHourRow(NamedTuple):
    """`replaced_hourly`: the same of `hourly`."""

    replay_id: Text
    source_id: UInt64
    chunk: UInt64
    org_id: UInt64
    bucket: Bucket
    project_id: UInt64
    category: UInt8
    outcome: UInt8
    reason: Word
    quantity: UInt64
    events: UInt64


class ReplacedTotalRow(NamedTuple):
    """`replaced_totals`: the same of `totals`."""

    replay_id: Text
    source_id: UInt64
    chunk: UInt64
    org_id: UInt64
    width: UInt16
    bucket: Bucket
    accepted: UInt64
    filtered: UInt64
    rate_limited: UInt64


class ReplacedDeadLetterRow(NamedTuple):
    """`replaced_dead_letters`: a dead letter as it was before a repair."""

    replay_id: Text
    source_id: UInt64
    chunk: UInt64
    offset: UInt64
    reason: Word
    error: Text
    withdrawn: Boolean
    replaced_at: Annotated[datetime, "DateTime('UTC')"]


class DeadLetterActionRow(NamedTuple):
    """`dead_letter_actions`: what an operator did with a dead letter."""

    source_id: UInt64
    offset: UInt64
    record_hash: UInt64
    version: UInt32
    action: Word
    target: Word
    target_ends: Annotated[list[int], "Array(UInt64)"]
    target_source_id: UInt64
    target_offset: UInt64
    by: Word
    at: Moment


class MigrationRow(NamedTuple):
    """`migrations`: an applied file; made by the migrator itself."""

    version: UInt32
    name: Text
    sha256: Sha256
    applied_at: Moment


TABLES: dict[str, type[tuple[Any, ...]]] = {
    "counts": CountRow,
    "hourly": HourRow,
    "totals": TotalRow,
    "sources": SourceRow,
    "chunk_lengths": ChunkLengthRow,
    "progress": ProgressRow,
    "flushes": FlushRow,
    "retired_topics": RetiredTopicRow,
    "chunk_days": ChunkDayRow,
    "chunks": ChunkRow,
    "gaps": GapRow,
    "repairs": RepairRow,
    "dead_letters": DeadLetterRow,
    "rules": RulesRow,
    "erasures": ErasureRow,
    "organizations": OrganizationRow,
    "projects": ProjectRow,
    "tokens": TokenRow,
    "replays": ReplayRow,
    "replay_chunks": ReplayChunkRow,
    "replaced_counts": ReplacedCountRow,
    "replaced_hourly": ReplacedHourRow,
    "replaced_totals": ReplacedTotalRow,
    "replaced_dead_letters": ReplacedDeadLetterRow,
    "dead_letter_actions": DeadLetterActionRow,
    "migrations": MigrationRow,
}


def columns(row: type[tuple[Any, ...]]) -> dict[str, str]:
    """ClickHouse type of each column, in order."""
    hints = get_type_hints(row, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def insert(table: str) -> str:
    """The INSERT statement for rows of a table, every column named."""
    return f"INSERT INTO {table} ({', '.join(columns(TABLES[table]))}) VALUES"
