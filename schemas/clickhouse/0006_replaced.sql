-- When a dead letter was kept for undo; rows of the other `replaced_` tables age with their bucket.
ALTER TABLE replaced_dead_letters ADD COLUMN replaced_at DateTime('UTC') DEFAULT now('UTC');
