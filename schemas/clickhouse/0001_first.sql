-- The tables of version 1. Numbered files are applied once and in order, see schemas/migrate.py.

-- Counts: three families of cells by one rule. A row is a cell: the whole count of a key in one chunk of one source
-- (a chunk is a range of a partition's offsets, see sources), up to `version`. Of the rows of a cell the one with
-- the highest version wins, so an insert that is repeated, late or doubled changes nothing. Never a delta, and no
-- materialized view on these tables: it would see every version.
--
-- The finest cells: what audit, explain and replay look at, and what projects and reasons are read from below an hour.
-- Only these tell the keys of clients apart.
--
-- ORDER BY: a request names one organization and a range of time, so these come first; then what it groups by. A key is
-- one of a project and stands behind it: so equal ones stand in long runs, which compress well. Requests
-- add over keys, wherever they stand.
-- Source and chunk only keep the cells of one key apart and come last. The consumer asks for the cells of one chunk,
-- which no prefix of this key serves: `chunk_days` knows their days, and the index by_chunk leaves out the granules
-- that have none of them, so that this costs the same however many rows there are.
--
-- PARTITION BY: nothing is rewritten only to delete what is old (ttl_only_drop_parts); a part goes once all of it is, so
-- it must hold what expires together. Rows stay for up to a week longer than retention says. A month would keep a third
-- more than 90 days, a day would make 90 partitions of them. The bucket is part of the key: all rows of a cell are in
-- one partition, and FINAL merges each by itself. The price is a part for each week that a flush has events of, which is
-- one or two unless many come late, and 13 weeks instead of 4 months to read where somebody asks for 90 days.
CREATE TABLE counts
(
    org_id     UInt64 CODEC(Delta, ZSTD),
    bucket     DateTime('UTC') CODEC(DoubleDelta, ZSTD),  -- start of 10 s of event time
    project_id UInt64 CODEC(Delta, ZSTD),                 -- 0 where projects are not counted
    key_id     UInt64 CODEC(Delta, ZSTD),                 -- the client's key; 0 without one, and where the project is 0
    category   UInt8 CODEC(ZSTD),
    outcome    UInt8 CODEC(ZSTD),                         -- by number, see schemas/outcomes.py, also one without a name
    reason     LowCardinality(String) CODEC(ZSTD),
    source_id  UInt64 CODEC(ZSTD),
    chunk      UInt64 CODEC(Delta, ZSTD),                 -- first offset of the chunk
    quantity   UInt64 CODEC(T64, ZSTD),
    events     UInt64 CODEC(T64, ZSTD),                   -- records, each adding 1: what audit adds up
    version    UInt64 CODEC(Delta, ZSTD),                 -- revision << 48 | next_offset
    INDEX by_chunk cityHash64(source_id, chunk) TYPE bloom_filter(0.05) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toMonday(bucket)
ORDER BY (org_id, bucket, project_id, key_id, category, outcome, reason, source_id, chunk)
SETTINGS ttl_only_drop_parts = 1;

-- The same by hour, of all keys of a project together: what projects and reasons are read from at an hour and more.
-- Written less often than the other two (a chunk's end, every half minute), since nearly all of its cells change with
-- each flush; see progress.
CREATE TABLE hourly
(
    org_id     UInt64 CODEC(Delta, ZSTD),
    bucket     DateTime('UTC') CODEC(DoubleDelta, ZSTD),  -- start of the hour
    project_id UInt64 CODEC(Delta, ZSTD),
    category   UInt8 CODEC(ZSTD),
    outcome    UInt8 CODEC(ZSTD),
    reason     LowCardinality(String) CODEC(ZSTD),
    source_id  UInt64 CODEC(ZSTD),
    chunk      UInt64 CODEC(Delta, ZSTD),
    quantity   UInt64 CODEC(T64, ZSTD),
    events     UInt64 CODEC(T64, ZSTD),
    version    UInt64 CODEC(Delta, ZSTD),
    INDEX by_chunk cityHash64(source_id, chunk) TYPE bloom_filter(0.05) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toMonday(bucket)
ORDER BY (org_id, bucket, project_id, category, outcome, reason, source_id, chunk)
SETTINGS ttl_only_drop_parts = 1;

-- What the documented endpoint shows, for 10 s and for hours; days are made of hours. Quantities of the categories
-- that it shows, by outcome.
--
-- ORDER BY: a request reads one organization, one width and a range of time, and nothing else. A small granularity: an
-- organization has few rows here, and those of the last flushes, not yet merged, are read part by part; of each only
-- a granule, not what other organizations have in it. LZ4, as what is read of a part is so little that ZSTD's
-- beginning shows.
CREATE TABLE totals
(
    org_id       UInt64 CODEC(Delta, LZ4),
    width        UInt16 CODEC(LZ4),                        -- seconds: 10 or 3600
    bucket       DateTime('UTC') CODEC(DoubleDelta, LZ4),  -- start
    source_id    UInt64 CODEC(LZ4),
    chunk        UInt64 CODEC(Delta, LZ4),
    accepted     UInt64 CODEC(T64, LZ4),
    filtered     UInt64 CODEC(T64, LZ4),
    rate_limited UInt64 CODEC(T64, LZ4),
    version      UInt64 CODEC(Delta, LZ4),
    INDEX by_chunk cityHash64(source_id, chunk) TYPE bloom_filter(0.05) GRANULARITY 8
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toMonday(bucket)
ORDER BY (org_id, width, bucket, source_id, chunk)
SETTINGS index_granularity = 256, ttl_only_drop_parts = 1;

-- One partition of one topic. The id is a hash of the three, made in consumer/counting/source.py.
CREATE TABLE sources
(
    source_id     UInt64,
    topic         String,
    topic_id      String,                  -- the topic's UUID, or the setting for a broker without one
    partition     UInt32,
    chunk_length  UInt64,                  -- offsets in a chunk when it was registered; changes are in chunk_lengths
    isolation     LowCardinality(String),  -- isolation.level the source was counted with
    first_offset  UInt64,                  -- where counting began: the log's start at that time
    registered_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(registered_at)
ORDER BY source_id;

-- Changes of a source's chunk length: from an offset on chunks are as long as this says. Each is proposed, and then taken
-- back or decided; the highest state of an entry wins, see consumer/ops/chunk_length.py for why. Never deleted: what is
-- stored beyond from_offset is by it.
CREATE TABLE chunk_lengths
(
    source_id   UInt64,
    from_offset UInt64,
    entry_id    String,                -- drawn by who proposes it
    length      UInt64,
    by          String,
    at          DateTime64(3, 'UTC'),  -- when it was proposed
    state       UInt8                  -- 0 proposed, 1 taken back, 2 decided
)
ENGINE = ReplacingMergeTree(state)
ORDER BY (source_id, from_offset, entry_id);

-- How far each source is counted; written after its counts, before the commit. The highest version wins.
CREATE TABLE progress
(
    source_id       UInt64,
    next_offset     UInt64,
    kafka_timestamp DateTime64(3, 'UTC'),  -- highest Kafka timestamp counted so far
    complete_until  DateTime64(3, 'UTC'),  -- every record acknowledged before has been counted; 1970: unknown
    partitions      UInt32,                -- partitions of the topic when this was written
    fingerprint     String,                -- counting fingerprint of what is counted up to here
    leader_epoch    Int32 DEFAULT -1,      -- of the last record below next_offset; -1 when it is not known
    chain           UInt64,                -- XXH3 over the records from chain_from up to next_offset, see counting/chain.py
    chain_from      UInt64,
    cut_at          UInt64,                -- the log was last cut back to here; 0 and 0 when it never was
    cut_to          UInt64,                -- chunks before this, from that of cut_at on, are counted again after the cut
    hourly_offset   UInt64,                -- how far `hourly` is written, and when everything acknowledged before is in it
    hourly_complete_until DateTime64(3, 'UTC'),
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

-- Which chunks of a source have cells, and of which days: a row is written before the first cell that it tells of. So
-- what may be stored of a source, and where, is known without a look at the tables of counts.
CREATE TABLE chunk_days
(
    source_id UInt64,
    chunk     UInt64,           -- first offset
    day       DateTime('UTC')   -- start of a day of buckets
)
ENGINE = ReplacingMergeTree
ORDER BY (source_id, chunk, day);

-- Closed chunks: what ties the counts of each to the log that they were made of.
CREATE TABLE chunks
(
    source_id    UInt64,
    chunk        UInt64,            -- first offset
    revision     UInt16,
    rewinds      UInt16,            -- of the source's progress when it was counted
    leader_epoch Int32 DEFAULT -1,  -- of its last record; -1 when it is not known
    chain        UInt64,            -- XXH3 over its records from chain_from on
    chain_from   UInt64,            -- its first offset, or the first that the log still had
    fingerprint  String,            -- counting fingerprint that it was counted by
    written_at   DateTime64(3, 'UTC'),
    version      UInt64             -- rewinds << 48 | revision
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
    source_id   UInt64,
    chunk       UInt64,
    revision    UInt16,
    rewinds     UInt16,  -- of the source's progress when it was begun; 0 for a replay
    fingerprint String,
    why         String,
    at          DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (source_id, chunk, revision);

-- Records that could not be decoded; re-reading the log writes the same row again.
--
-- They are kept for as long as counts, from when they were stored on, and go in whole parts too. The week of storing is
-- no function of the key. So rows of one letter may be in two partitions, where only FINAL makes them one, which no
-- statement on this table leaves out (nor may do_not_merge_across_partitions_select_final be set). Rows that win are stored
-- later, so they never go before those that they replace. The record's own time would not do: a withdrawn letter has
-- none, and would go first and let the letter show again.
CREATE TABLE dead_letters
(
    source_id       UInt64,
    offset          UInt64,
    topic           LowCardinality(String),
    partition       UInt32,
    kafka_timestamp DateTime64(3, 'UTC'),
    key             String,                  -- bytes as they came
    headers         Array(Tuple(String, String)),
    payload         String CODEC(ZSTD),      -- the first 64 KiB, bytes as they came
    payload_bytes   UInt64,                  -- length before the cut
    reason          LowCardinality(String),  -- stable code, see schemas/dead_letter_reasons.py
    error           String,
    withdrawn       Bool,                    -- a recount found that the record can be decoded after all
    version         UInt64,                  -- revision << 48 | offset
    -- Tells records apart that were at one offset, one after the other, of a log that was cut back.
    record_hash     UInt64 MATERIALIZED sipHash64(kafka_timestamp, key, payload_bytes, payload),
    stored_at       DateTime('UTC') MATERIALIZED now()
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toMonday(stored_at)
ORDER BY (source_id, offset)
SETTINGS ttl_only_drop_parts = 1;

-- What a consumer saw of a partition's log when it last looked, every few seconds, also while it does not count: for the
-- operators' page alone, nothing is decided by it. By name, as the page asks for what is there now. Each consumer tells
-- of the partitions that it counts; so all of them together are told of without anybody knowing their addresses, which
-- a look at their metrics would need.
CREATE TABLE watched
(
    topic              String,
    partition          UInt32,
    consumer           String,                -- the host that it runs on, or its static name
    log_start          UInt64,
    log_end            UInt64,                -- the true one
    readable_end       UInt64,                -- what is between is behind a transaction that is not ended
    retention_deadline DateTime64(3, 'UTC'),  -- 1970: never, or not known
    pause_reasons      Array(LowCardinality(String)),
    at                 DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (topic, partition);

-- What audits found: of each run of `orgstats audit` a row, of the samples that consumers take the last of each partition.
CREATE TABLE audits
(
    audit_id    String,                -- drawn by a run; topic/partition of a sample
    places      Array(String),         -- topic/partition
    recount     Bool,                  -- whether the log was counted again
    chunks      UInt64,                -- that were looked at
    compared    UInt64,                -- cell by cell, of these
    differences UInt64,
    first       String,                -- the first difference: its chunk, what is stored and what should be; of no organization's name or id
    by          String,
    at          DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY audit_id;

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

-- Organizations whose data was taken out of every table: whatever of them is in the log, now or later, counts for nobody
-- (see erased_key in consumer/counting/cells.py). A row is for ever. It is written again, as done, once nothing is left.
CREATE TABLE erasures
(
    org_id UInt64,
    by     String,
    at     DateTime64(3, 'UTC'),
    done   Bool
)
ENGINE = ReplacingMergeTree(done)
ORDER BY org_id;

-- Append-only history of the rules. A record is classified by the entry in force at its Kafka timestamp.
--
-- One entry is one row, by an id that its publisher draws: two entries published at once both stay, whatever their
-- versions. An entry is voided by the same row again with the time of that, which is the newer one, also where it
-- arrives first. Nothing else ever changes an entry.
CREATE TABLE rules
(
    entry_id       String,
    version        UInt32,               -- for people; two who publish at once may get the same
    effective_from DateTime64(3, 'UTC'),
    toml           String,
    published_by   String,
    published_at   DateTime64(3, 'UTC'),
    note           String,
    voided_at      DateTime64(3, 'UTC')  -- never in force, as if it had not been published; 1970: it is not voided
)
ENGINE = ReplacingMergeTree(voided_at)
ORDER BY entry_id;

-- Ordered by what never changes. A slug does change, so it cannot be part of the key: the row with the new one would
-- not replace the row with the old one. A table of slugs would be a second truth to keep. The index leaves out nearly
-- all granules that never held a slug: its look-up among 200,000 organizations reads a few of 8,192 rows.
CREATE TABLE organizations
(
    org_id     UInt64,
    slug       String,
    name       String,
    updated_at DateTime64(3, 'UTC'),
    INDEX by_slug slug TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY org_id;

CREATE TABLE projects
(
    org_id     UInt64,
    project_id UInt64,
    slug       String,
    name       String,
    updated_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (org_id, project_id);

-- Only the SHA-256 of a token is stored; the token itself is shown once, when it is made.
CREATE TABLE tokens
(
    token_sha256 FixedString(64),  -- hexadecimal
    token_id     String,           -- short public name, for ls, revoke and logs
    name         String,
    org_id       UInt64,           -- meaningless when all_orgs
    all_orgs     Bool,
    scopes       Array(String),
    expires_at   Nullable(DateTime64(3, 'UTC')),
    created_at   DateTime64(3, 'UTC'),
    revoked      Bool,
    updated_at   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY token_sha256;

-- One run of `orgstats replay apply`: what was asked, and the offsets that came to. The highest step is its state:
-- 0 running, 1 done, 2 undone. A running one goes on when the same is asked again.
CREATE TABLE replays
(
    replay_id   String,
    action      LowCardinality(String),                -- fill, repair or rewind
    request     String,                                -- the options as given, JSON
    fingerprint String,                                -- counting fingerprint of the recount
    ranges      Array(Tuple(UInt64, UInt64, UInt64)),  -- source_id, first offset, offset after the last
    by          String,
    step        UInt8,
    at          DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(step)
ORDER BY replay_id;

-- Chunks of a replay. Step 1: what it replaces is kept, its rows may be on their way; 2: they are stored.
CREATE TABLE replay_chunks
(
    replay_id String,
    source_id UInt64,
    chunk     UInt64,
    revision  UInt16,
    changes   UInt64,  -- cells and dead letters that were written
    step      UInt8,
    at        DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(step)
ORDER BY (replay_id, source_id, chunk);

-- Cells as they were before a repair, so that it can be undone; zeros for a cell that there was not. By week like the
-- cells themselves: they are written seldom, and go in whole parts.
CREATE TABLE replaced_counts
(
    replay_id  String,
    source_id  UInt64,
    chunk      UInt64,
    org_id     UInt64,
    bucket     DateTime('UTC'),
    project_id UInt64,
    key_id     UInt64,
    category   UInt8,
    outcome    UInt8,
    reason     LowCardinality(String),
    quantity   UInt64,
    events     UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (replay_id, source_id, chunk, org_id, bucket, project_id, key_id, category, outcome, reason)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE replaced_hourly
(
    replay_id  String,
    source_id  UInt64,
    chunk      UInt64,
    org_id     UInt64,
    bucket     DateTime('UTC'),
    project_id UInt64,
    category   UInt8,
    outcome    UInt8,
    reason     LowCardinality(String),
    quantity   UInt64,
    events     UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (replay_id, source_id, chunk, org_id, bucket, project_id, category, outcome, reason)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE replaced_totals
(
    replay_id    String,
    source_id    UInt64,
    chunk        UInt64,
    org_id       UInt64,
    width        UInt16,
    bucket       DateTime('UTC'),
    accepted     UInt64,
    filtered     UInt64,
    rate_limited UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(bucket)
ORDER BY (replay_id, source_id, chunk, org_id, width, bucket)
SETTINGS ttl_only_drop_parts = 1;

-- Dead letters as they were before a repair; their payload stays in `dead_letters`.
CREATE TABLE replaced_dead_letters
(
    replay_id   String,
    source_id   UInt64,
    chunk       UInt64,
    offset      UInt64,
    reason      LowCardinality(String),
    error       String,
    withdrawn   Bool,            -- there was none
    replaced_at DateTime('UTC')  -- when it was kept; the cells above age with their bucket
)
ENGINE = ReplacingMergeTree
PARTITION BY toMonday(replaced_at)
ORDER BY (replay_id, source_id, chunk, offset)
SETTINGS ttl_only_drop_parts = 1;

-- What an operator did with a dead letter, and with no other record that came to its offset later. The highest version
-- tells: it is one more than the version that was read, so that no host's clock decides. `redriving` is written before
-- a transaction is committed, with the ends that the target had before: beyond them the record is looked for if nobody
-- knows how that went. `sent` is a letter whose record is in the target; it is redriven once the target's progress has
-- passed `target_offset`.
CREATE TABLE dead_letter_actions
(
    source_id        UInt64,
    offset           UInt64,
    record_hash      UInt64,                     -- of the dead letter
    version          UInt32,
    action           LowCardinality(String),     -- redriving, aborted, sent, dropped
    target           LowCardinality(String),     -- topic
    target_ends      Array(UInt64) CODEC(ZSTD),  -- by partition
    target_source_id UInt64,                     -- partition that the record was put in, see sources
    target_offset    UInt64,
    by               LowCardinality(String),
    at               DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (source_id, offset, record_hash);
