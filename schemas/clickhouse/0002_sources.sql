-- One partition of one topic. The id is a hash of the three, made in consumer/counting/source.py.
CREATE TABLE sources
(
    source_id      UInt64,
    topic          String,
    topic_id       String,                 -- the topic's UUID, or the setting for a broker without one
    partition      UInt32,
    chunk_length UInt64,                 -- the grid; a consumer with another refuses to start
    isolation      LowCardinality(String), -- isolation.level the source was counted with
    first_offset   UInt64,                 -- where counting began: the log's start at that time
    registered_at  DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(registered_at)
ORDER BY source_id;

-- How far each source is counted; written after its counts, before the commit. The highest version wins.
CREATE TABLE progress
(
    source_id       UInt64,
    next_offset     UInt64,
    kafka_timestamp DateTime64(3, 'UTC'),  -- highest Kafka timestamp counted so far
    complete_until  DateTime64(3, 'UTC'),  -- every record acknowledged before has been counted; 1970: unknown
    partitions      UInt32,                -- partitions of the topic when this was written
    fingerprint           String,                -- counting fingerprint of what is counted up to here
    leader_epoch    Int32 DEFAULT -1,      -- of the last record below next_offset; -1 when it is not known
    chain           UInt64,                -- XXH3 over the records from chain_from up to next_offset, see counting/chain.py
    chain_from      UInt64,
    cut_at          UInt64,                -- the log was last cut back to here; 0 and 0 when it never was
    cut_to          UInt64,                -- chunks before this, from that of cut_at on, are counted again after the cut
    written_at      DateTime64(3, 'UTC'),
    version         UInt64                 -- rewinds << 48 | next_offset
)
ENGINE = ReplacingMergeTree(version)
ORDER BY source_id;

-- How far a flush of each source was begun; written before its first row. Beyond the progress it was torn: cells and
-- dead letters may be stored up to there that no progress tells of.
CREATE TABLE flushes
(
    source_id UInt64,
    to_offset UInt64,
    version   UInt64                       -- rewinds << 48 | to_offset
)
ENGINE = ReplacingMergeTree(version)
ORDER BY source_id;

-- Closed chunks: what ties the counts of each to the log that they were made of, and the buckets of its cells.
CREATE TABLE chunks
(
    source_id    UInt64,
    chunk        UInt64,                   -- first offset
    revision     UInt16,
    rewinds      UInt16,                   -- of the source's progress when it was counted
    leader_epoch Int32 DEFAULT -1,         -- of its last record; -1 when it is not known
    chain        UInt64,                   -- XXH3 over its records from chain_from on
    chain_from   UInt64,                   -- its first offset, or the first that the log still had
    earliest     DateTime('UTC'),          -- buckets of its cells, both inclusive; 1970 when it has none
    latest       DateTime('UTC'),
    written_at   DateTime64(3, 'UTC'),
    version      UInt64                    -- rewinds << 48 | revision
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (source_id, chunk);

-- Offsets [from_offset, to_offset) that retention deleted before they were counted, or that were skipped
-- by hand; or whose records vanished when the log was cut back, after which others may have come to the same offsets.
CREATE TABLE gaps
(
    source_id   UInt64,
    from_offset UInt64,
    to_offset   UInt64,
    why         LowCardinality(String),
    seen_at     DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (source_id, from_offset, to_offset);

-- Chunks counted in a revision above 0, recorded before the revision's first row is written: rows of a
-- lower revision would lose for ever.
CREATE TABLE repairs
(
    source_id  UInt64,
    chunk    UInt64,
    revision UInt16,
    rewinds    UInt16,                     -- of the source's progress when it was begun; 0 for a replay
    fingerprint      String,
    why        String,
    at         DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (source_id, chunk, revision);

-- Records that could not be decoded; re-reading the log writes the same row again.
CREATE TABLE dead_letters
(
    source_id       UInt64,
    offset          UInt64,
    topic           LowCardinality(String),
    partition       UInt32,
    kafka_timestamp DateTime64(3, 'UTC'),
    key             String,                          -- bytes as they came
    headers         Array(Tuple(String, String)),
    payload         String CODEC(ZSTD),              -- the first 64 KiB, bytes as they came
    payload_bytes   UInt64,                          -- length before the cut
    reason          LowCardinality(String),          -- stable code, see schemas/event.py
    error           String,
    withdrawn       Bool,                            -- a recount found that the record can be decoded after all
    version         UInt64,                          -- revision << 48 | offset
    -- Tells records apart that were at one offset, one after the other, of a log that was cut back.
    record_hash     UInt64 MATERIALIZED sipHash64(kafka_timestamp, key, payload_bytes, payload)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (source_id, offset);

-- Topics that an operator has taken out: what is counted of them stays, and nobody waits for more. One that is
-- registered again afterwards is back.
CREATE TABLE retired_topics
(
    topic   String,
    retired Bool,
    at      DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY topic;
