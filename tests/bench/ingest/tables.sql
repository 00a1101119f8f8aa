-- What the others write: a row for each event.
CREATE TABLE raw_events
(
    org_id     UInt64,
    project_id UInt64,
    key_id     UInt64,
    timestamp  DateTime('UTC'),
    outcome    UInt8,
    reason     LowCardinality(String),
    category   UInt8,
    quantity   UInt64
)
ENGINE = MergeTree
ORDER BY (org_id, project_id, timestamp);

-- What our own core writes without the guarantee: the same cells, of which the last one inserted holds. The tables of
-- schemas/clickhouse without source_id, chunk, version and the index of chunks.
CREATE TABLE bare_counts
(
    org_id     UInt64 CODEC(Delta, ZSTD),
    bucket     DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    project_id UInt64 CODEC(Delta, ZSTD),
    key_id     UInt64 CODEC(Delta, ZSTD),
    category   UInt8 CODEC(ZSTD),
    outcome    UInt8 CODEC(ZSTD),
    reason     LowCardinality(String) CODEC(ZSTD),
    quantity   UInt64 CODEC(T64, ZSTD),
    events     UInt64 CODEC(T64, ZSTD)
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (org_id, bucket, project_id, key_id, category, outcome, reason)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE bare_hourly
(
    org_id     UInt64 CODEC(Delta, ZSTD),
    bucket     DateTime('UTC') CODEC(DoubleDelta, ZSTD),
    project_id UInt64 CODEC(Delta, ZSTD),
    category   UInt8 CODEC(ZSTD),
    outcome    UInt8 CODEC(ZSTD),
    reason     LowCardinality(String) CODEC(ZSTD),
    quantity   UInt64 CODEC(T64, ZSTD),
    events     UInt64 CODEC(T64, ZSTD)
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (org_id, bucket, project_id, category, outcome, reason)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE bare_totals
(
    org_id       UInt64 CODEC(Delta, LZ4),
    width        UInt16 CODEC(LZ4),
    bucket       DateTime('UTC') CODEC(DoubleDelta, LZ4),
    accepted     UInt64 CODEC(T64, LZ4),
    filtered     UInt64 CODEC(T64, LZ4),
    rate_limited UInt64 CODEC(T64, LZ4)
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (org_id, width, bucket)
SETTINGS index_granularity = 256, ttl_only_drop_parts = 1;
