-- One run of `orgstats replay apply`: what was asked, and the offsets that came to. The highest step is its state:
-- 0 running, 1 done, 2 undone. A running one goes on when the same is asked again.
CREATE TABLE replays
(
    replay_id String,
    action    LowCardinality(String),                    -- fill, repair or rewind
    asked     String,                                    -- the options as given, JSON
    fingerprint     String,                                    -- counting fingerprint of the recount
    ranges    Array(Tuple(UInt64, UInt64, UInt64)),      -- source_id, first offset, offset after the last
    by        String,
    step      UInt8,
    at        DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(step)
ORDER BY replay_id;

-- Chunks of a replay. Step 1: what it replaces is kept, its rows may be on their way; 2: they are stored.
CREATE TABLE replay_chunks
(
    replay_id  String,
    source_id  UInt64,
    chunk    UInt64,
    revision UInt16,
    changes    UInt64,                                   -- cells and dead letters that were written
    step       UInt8,
    at         DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(step)
ORDER BY (replay_id, source_id, chunk);

-- Cells as they were before a repair, so that it can be undone; zeros for a cell that there was not.
CREATE TABLE replaced_counts
(
    replay_id String,
    source_id UInt64,
    chunk   UInt64,
    org_id    UInt64,
    bucket    DateTime('UTC'),
    category  UInt8,
    outcome   UInt8,
    reason    LowCardinality(String),
    quantity  UInt64,
    events    UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (replay_id, source_id, chunk, org_id, bucket, category, outcome, reason);

CREATE TABLE replaced_project_counts
(
    replay_id  String,
    source_id  UInt64,
    chunk    UInt64,
    org_id     UInt64,
    project_id UInt64,
    bucket     DateTime('UTC'),
    category   UInt8,
    outcome    UInt8,
    quantity   UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (replay_id, source_id, chunk, org_id, project_id, bucket, category, outcome);

-- Dead letters as they were before a repair; their payload stays in `dead_letters`.
CREATE TABLE replaced_dead_letters
(
    replay_id String,
    source_id UInt64,
    chunk   UInt64,
    offset    UInt64,
    reason    LowCardinality(String),
    error     String,
    withdrawn Bool                                       -- there was none
)
ENGINE = ReplacingMergeTree
ORDER BY (replay_id, source_id, chunk, offset);

-- What an operator did with a dead letter, and with no other record that came to its offset later. The highest version tells: it is one more than the version that was read,
-- so that no host's clock decides. `redriving` is written before a transaction is committed, with the ends that the
-- target had before: beyond them the record is looked for if nobody knows how that went. `sent` is a letter whose
-- record is in the target; it is redriven once the target's progress has passed `target_offset`.
CREATE TABLE dead_letter_actions
(
    source_id        UInt64,
    offset           UInt64,
    record_hash      UInt64,                             -- of the dead letter
    version          UInt32,
    action           LowCardinality(String),             -- redriving, aborted, sent, dropped
    target           LowCardinality(String),             -- topic
    target_ends      Array(UInt64) CODEC(ZSTD),          -- by partition
    target_source_id UInt64,                             -- partition that the record was put in, see sources
    target_offset    UInt64,
    by               LowCardinality(String),
    at               DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (source_id, offset, record_hash);
