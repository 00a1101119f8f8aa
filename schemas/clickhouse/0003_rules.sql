-- Append-only history of the rules. A record is classified by the entry in force at its Kafka timestamp.
--
-- One entry is one row, by an id that its publisher draws: two entries published at once both stay, whatever their
-- versions. An entry is voided by the same row again with the time of that, which is the newer one, also where it
-- arrives first. Nothing else ever changes an entry.
CREATE TABLE rules
(
    entry_id       String,
    version        UInt32,                 -- for people; two who publish at once may get the same
    effective_from DateTime64(3, 'UTC'),
    toml           String,
    published_by   String,
    published_at   DateTime64(3, 'UTC'),
    note           String,
    voided_at      DateTime64(3, 'UTC')    -- never in force, as if it had not been published; 1970: it is not voided
)
ENGINE = ReplacingMergeTree(voided_at)
ORDER BY entry_id;
