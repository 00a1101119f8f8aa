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
    token_sha256 FixedString(64),       -- hexadecimal
    token_id     String,                -- short public name, for ls, revoke and logs
    name         String,
    org_id       UInt64,                -- meaningless when all_orgs
    all_orgs     Bool,
    scopes       Array(String),
    expires_at   Nullable(DateTime64(3, 'UTC')),
    created_at   DateTime64(3, 'UTC'),
    revoked      Bool,
    updated_at   DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY token_sha256;
