CREATE TABLE organizations
(
    org_id     UInt64,
    slug       String,
    name       String,
    updated_at DateTime64(3, 'UTC')
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
