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

-- What our own loop writes without the guarantee: counts that the server adds up.
CREATE TABLE bare_counts
(
    org_id   UInt64,
    bucket   DateTime('UTC'),
    category UInt8,
    outcome  UInt8,
    reason   LowCardinality(String),
    quantity UInt64,
    events   UInt64
)
ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, category, outcome, reason);

CREATE TABLE bare_project_counts
(
    org_id     UInt64,
    project_id UInt64,
    bucket     DateTime('UTC'),
    category   UInt8,
    outcome    UInt8,
    quantity   UInt64
)
ENGINE = SummingMergeTree
ORDER BY (org_id, project_id, bucket, category, outcome);
