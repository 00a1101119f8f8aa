-- One row is one cell: the whole count of a key in one chunk of one partition, up to `version`.
-- Of the rows of a cell the one with the highest version wins, so a repeated, late or doubled insert
-- changes nothing. Never a delta, and no materialized view on this table: it would see every version.
--
-- ORDER BY: a request names one organization and a range of time, so these come first; what it sums
-- over comes next; source and chunk only keep the cells of one bucket apart and come last.
CREATE TABLE counts
(
    org_id    UInt64 CODEC(Delta, ZSTD),
    bucket    DateTime('UTC') CODEC(DoubleDelta, ZSTD),  -- start of 10 s of event time
    category  UInt8 CODEC(ZSTD),
    outcome   UInt8 CODEC(ZSTD),
    reason    LowCardinality(String) CODEC(ZSTD),
    source_id UInt64 CODEC(ZSTD),                        -- see sources
    chunk   UInt64 CODEC(Delta, ZSTD),                 -- first offset of the chunk
    quantity  UInt64 CODEC(T64, ZSTD),
    events    UInt64 CODEC(T64, ZSTD),                   -- records, each adding 1: what audit adds up
    version   UInt64 CODEC(Delta, ZSTD)                  -- revision << 48 | next_offset
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(bucket)
ORDER BY (org_id, bucket, category, outcome, reason, source_id, chunk);

-- The same counts by project. A table of its own, so that an organization's series reads no more rows
-- than before; without the reason, which no project query shows.
CREATE TABLE project_counts
(
    org_id     UInt64 CODEC(Delta, ZSTD),
    project_id UInt64 CODEC(Delta, ZSTD),
    bucket     DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    category   UInt8 CODEC(ZSTD),
    outcome    UInt8 CODEC(ZSTD),
    source_id  UInt64 CODEC(ZSTD),
    chunk    UInt64 CODEC(Delta, ZSTD),
    quantity   UInt64 CODEC(T64, ZSTD),
    version    UInt64 CODEC(Delta, ZSTD)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(bucket)
ORDER BY (org_id, project_id, bucket, category, outcome, source_id, chunk);
