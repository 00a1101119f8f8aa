-- From which offset on the consumer has written sums by hour with the counts. One from before there were any does not
-- name the column, so that of what it counted nothing is.
ALTER TABLE progress ADD COLUMN summed_from UInt64 DEFAULT next_offset;

-- Below which offset they were made afterwards, by `orgstats migrate`.
CREATE TABLE summed
(
    source_id UInt64,
    below     UInt64
)
ENGINE = ReplacingMergeTree(below)
ORDER BY source_id;
