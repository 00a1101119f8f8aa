-- Append-only history of the rules. A record is judged by the entry in force at its Kafka timestamp, in the
-- highest edition; a past entry is only ever changed by a new edition.
CREATE TABLE rules
(
    edition        UInt32,
    version        UInt32,
    effective_from DateTime64(3, 'UTC'),
    toml           String,
    published_by   String,
    published_at   DateTime64(3, 'UTC'),
    note           String
)
ENGINE = ReplacingMergeTree
ORDER BY (edition, version);
