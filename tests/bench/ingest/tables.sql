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

-- What our own core writes without the guarantee: the same cells, of which the last one inserted holds, in the product's
-- own tables without what tells where they come from.
CREATE TABLE bare_counts AS counts
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (org_id, bucket, project_id, key_id, category, outcome, reason);

ALTER TABLE bare_counts DROP INDEX by_chunk, DROP COLUMN source_id, DROP COLUMN chunk, DROP COLUMN version;

CREATE TABLE bare_hourly AS hourly
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (org_id, bucket, project_id, category, outcome, reason);

ALTER TABLE bare_hourly DROP INDEX by_chunk, DROP COLUMN source_id, DROP COLUMN chunk, DROP COLUMN version;

CREATE TABLE bare_totals AS totals
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (org_id, width, bucket)
SETTINGS index_granularity = 256;

ALTER TABLE bare_totals DROP INDEX by_chunk, DROP COLUMN source_id, DROP COLUMN chunk, DROP COLUMN version;
