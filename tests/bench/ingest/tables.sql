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

-- What our own loop writes without the guarantee: the same cells, as counts that the server adds up.
CREATE TABLE bare_counts
(
    org_id     UInt64,
    bucket     DateTime('UTC'),
    project_id UInt64,
    category   UInt8,
    outcome    UInt8,
    reason     LowCardinality(String),
    quantity   UInt64,
    events     UInt64
)
ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, project_id, category, outcome, reason);

CREATE TABLE bare_hourly
(
    org_id     UInt64,
    bucket     DateTime('UTC'),
    project_id UInt64,
    category   UInt8,
    outcome    UInt8,
    reason     LowCardinality(String),
    quantity   UInt64,
    events     UInt64
)
ENGINE = SummingMergeTree
ORDER BY (org_id, bucket, project_id, category, outcome, reason);

CREATE TABLE bare_totals
(
    org_id       UInt64,
    width        UInt16,
    bucket       DateTime('UTC'),
    accepted     UInt64,
    filtered     UInt64,
    rate_limited UInt64
)
ENGINE = SummingMergeTree
ORDER BY (org_id, width, bucket);
