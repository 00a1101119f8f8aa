-- The sums by hour of what the endpoint shows, so that days and months are read from few rows. One row holds the
-- whole sum over the cells of one organization and hour in one chunk, up to `version`: the rule of `counts`, by
-- the same consumer. 128 bits, because each of the cells may hold 2^64 - 1.
--
-- A small granularity: an organization has few rows here, and those of the last flushes, not yet merged, are read
-- part by part; of each only a granule, not what other organizations have in it. LZ4, as what is read of a part is
-- so little that ZSTD's beginning shows; all of this table is some bytes for a thousand events.
CREATE TABLE hour_counts
(
    org_id       UInt64 CODEC(Delta, LZ4),
    bucket       DateTime('UTC') CODEC(DoubleDelta, LZ4),  -- start of the hour
    source_id    UInt64 CODEC(LZ4),
    chunk      UInt64 CODEC(Delta, LZ4),
    accepted     UInt128 CODEC(LZ4),                       -- quantities of the categories that the endpoint shows
    filtered     UInt128 CODEC(LZ4),
    rate_limited UInt128 CODEC(LZ4),
    version      UInt64 CODEC(Delta, LZ4)
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(bucket)
ORDER BY (org_id, bucket, source_id, chunk)
SETTINGS index_granularity = 256;
