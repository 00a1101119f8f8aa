-- Append-only history of the rules. A record is classified by the entry in force at its Kafka timestamp, in the
-- highest edition; a past entry is only ever changed by a new edition, a copy in which it is voided.
--
-- ORDER BY ends in the moment of publishing, so that of two entries published at once both stay.
CREATE TABLE rules
(
    edition        UInt32,
    version        UInt32,
    effective_from DateTime64(3, 'UTC'),
    toml           String,
    published_by   String,
    published_at   DateTime64(3, 'UTC'),
    note           String,
    voided         Bool                    -- never in force, as if it had not been published
)
ENGINE = ReplacingMergeTree
ORDER BY (edition, version, published_at);
