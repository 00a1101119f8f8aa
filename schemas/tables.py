"""The columns of each table, as the SQL files say, and a type for the rows that Python makes or reads as a whole.

A test compares both with the migrated server.
"""

import re
from collections import namedtuple
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "clickhouse"
MIGRATIONS: Final = """CREATE TABLE migrations
(
    version    UInt32,
    name       String,
    sha256     FixedString(64),
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (version, sha256)"""
"""The one table that is in no file: the migrator makes it before it applies any."""


class CountRow(NamedTuple):
    """`counts`: one cell; the bucket starts 10 s."""

    org_id: int
    bucket: int
    project_id: int
    key_id: int
    category: int
    outcome: int
    reason: str
    source_id: int
    chunk: int
    quantity: int
    events: int
    version: int


class SourceRow(NamedTuple):
    """`sources`: one partition of one topic."""

    source_id: int
    topic: str
    topic_id: str
    partition: int
    chunk_length: int
    isolation: str
    first_offset: int
    registered_at: datetime


class ChunkLengthRow(NamedTuple):
    """`chunk_lengths`: chunks are as long as this from an offset on, once that is decided."""

    source_id: int
    from_offset: int
    entry_id: str
    length: int
    by: str
    at: datetime
    state: int


class ProgressRow(NamedTuple):
    """`progress`: how far a source is counted."""

    source_id: int
    next_offset: int
    kafka_timestamp: datetime
    complete_until: datetime
    partitions: int
    fingerprint: str
    leader_epoch: int
    chain: int
    chain_from: int
    cut_at: int
    cut_to: int
    hourly_offset: int
    hourly_complete_until: datetime
    written_at: datetime
    version: int


class WatchedRow(NamedTuple):
    """`watched`: what a consumer saw of a partition's log."""

    topic: str
    partition: int
    consumer: str
    log_start: int
    log_end: int
    readable_end: int
    retention_deadline: datetime
    pause_reasons: list[str]
    at: datetime


class AuditRow(NamedTuple):
    """`audits`: what an audit found."""

    audit_id: str
    places: list[str]
    recount: bool
    chunks: int
    compared: int
    differences: int
    first: str
    by: str
    at: datetime


class RetiredTopicRow(NamedTuple):
    """`retired_topics`: topics that hold back nothing any more."""

    topic: str
    retired: bool
    at: datetime


class ErasureRow(NamedTuple):
    """`erasures`: an organization that is erased."""

    org_id: int
    by: str
    at: datetime
    done: bool


class GapRow(NamedTuple):
    """`gaps`: offsets that were never counted."""

    source_id: int
    from_offset: int
    to_offset: int
    why: str
    seen_at: datetime


class RepairRow(NamedTuple):
    """`repairs`: a chunk counted in a revision above 0, or by two fingerprints."""

    source_id: int
    chunk: int
    revision: int
    rewinds: int
    fingerprint: str
    why: str
    at: datetime


class RulesRow(NamedTuple):
    """`rules`: one entry of the history."""

    entry_id: str
    version: int
    effective_from: datetime
    toml: str
    published_by: str
    published_at: datetime
    note: str
    voided_at: datetime

    @property
    def voided(self) -> bool:
        """Whether it was taken out, as if it had never been in force."""
        return self.voided_at.timestamp() > 0


class OrganizationRow(NamedTuple):
    """`organizations`."""

    org_id: int
    slug: str
    name: str
    updated_at: datetime


class ProjectRow(NamedTuple):
    """`projects`."""

    org_id: int
    project_id: int
    slug: str
    name: str
    updated_at: datetime


class TokenRow(NamedTuple):
    """`tokens`: a bearer token's hash and what it may do."""

    token_sha256: str
    token_id: str
    name: str
    org_id: int
    all_orgs: bool
    scopes: list[str]
    expires_at: datetime | None
    created_at: datetime
    revoked: bool
    updated_at: datetime


_TYPED: Final[dict[str, type[tuple[Any, ...]]]] = {
    "counts": CountRow,
    "sources": SourceRow,
    "chunk_lengths": ChunkLengthRow,
    "progress": ProgressRow,
    "watched": WatchedRow,
    "audits": AuditRow,
    "retired_topics": RetiredTopicRow,
    "erasures": ErasureRow,
    "gaps": GapRow,
    "repairs": RepairRow,
    "rules": RulesRow,
    "organizations": OrganizationRow,
    "projects": ProjectRow,
    "tokens": TokenRow,
}
_TABLE: Final = re.compile(r"^CREATE TABLE (\w+)\n\((.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN: Final = re.compile(r"^    (?!INDEX)(\w+) +(.*?)(?: CODEC.*| DEFAULT.*)?,?(?: *--.*)?$", re.MULTILINE)


def _declared(text: str) -> dict[str, dict[str, str]]:
    """ClickHouse type by column, in order, of each table that a text makes; without those that the server fills."""
    return {
        table: {name: kind for name, kind in _COLUMN.findall(columns) if " MATERIALIZED " not in kind}
        for table, columns in _TABLE.findall(text)
    }


_COLUMNS: Final = _declared(
    "\n".join([*(path.read_text("utf-8") for path in sorted(FOLDER.glob("*.sql"))), MIGRATIONS])
)

TABLES: Final[dict[str, type[tuple[Any, ...]]]] = {
    table: _TYPED.get(table) or namedtuple(table, columns)  # noqa: PYI024 - their columns are known at run time only
    for table, columns in _COLUMNS.items()
}
"""Row type by table: a tuple with a name for each column, in order."""


def columns(table: str) -> dict[str, str]:
    """ClickHouse type of each column, in order."""
    return _COLUMNS[table]


def insert(table: str) -> str:
    """The INSERT statement for rows of a table, every column named."""
    return f"INSERT INTO {table} ({', '.join(_COLUMNS[table])}) VALUES"
