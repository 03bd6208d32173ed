//! The tables, as a list of migrations: existing entries never change, new ones are added at the end.

/// The application id in the header of the database: `rbee` in ASCII.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"rbee");

/// Step *n* of the list migrates version *n* of the schema (`user_version`) to version *n* + 1.
pub(super) const MIGRATIONS: &[&str] = &[
    FIRST,
    POLICIES,
    TENANTS,
    WORKERS,
    OUTLINES,
    ANSWERS,
    RESTARTS,
    IDENTITY,
    CACHED_TOKENS,
    WITHOUT_CHECKS,
    ANSWER_FORMATS,
];

/// The tables of the first version.
///
/// In every index, `completed_at IS NULL` distinguishes a live job from an ended one. `tokens_generated` of a live job
/// is the number of its recorded token chunks, so it is also the position of the next part of its answer.
const FIRST: &str = "
    CREATE TABLE queens (
        epoch       INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, also after the row is gone
        queen_id    TEXT    NOT NULL,
        lease_ms    INTEGER NOT NULL,
        lease_until INTEGER NOT NULL,
        released    INTEGER NOT NULL DEFAULT 0,
        liveness    TEXT                               -- the lock file its process holds, if it could make one
    );

    CREATE TABLE jobs (
        job_id           TEXT    NOT NULL PRIMARY KEY,
        tenant_id        TEXT,
        model_ref        TEXT    NOT NULL,
        priority         TEXT    NOT NULL CHECK (priority IN ('interactive', 'batch')),
        state            TEXT    NOT NULL
                         CHECK (state IN ('queued', 'running', 'complete', 'failed', 'cancelled')),
        worker_id        TEXT,
        submitted_at     INTEGER NOT NULL,
        started_at       INTEGER,
        completed_at     INTEGER,
        error            TEXT,
        error_code       TEXT,
        finish           TEXT,
        attempts         INTEGER NOT NULL,
        prompt_tokens    INTEGER,
        tokens_generated INTEGER NOT NULL,
        owner            INTEGER NOT NULL,
        queue_order      INTEGER NOT NULL,
        correlation_id   TEXT    NOT NULL,
        idempotency_key  TEXT,
        numerics         TEXT,
        request          TEXT
    );
    CREATE INDEX jobs_by_order  ON jobs (queue_order);
    CREATE INDEX jobs_by_tenant ON jobs (tenant_id, queue_order) WHERE tenant_id IS NOT NULL;
    CREATE INDEX jobs_live      ON jobs (owner)        WHERE completed_at IS NULL;
    CREATE INDEX jobs_ended     ON jobs (completed_at) WHERE completed_at IS NOT NULL;

    CREATE TABLE pieces (
        job_id TEXT    NOT NULL,
        at     INTEGER NOT NULL, -- how many pieces come before
        data   BLOB    NOT NULL, -- see pieces.rs
        PRIMARY KEY (job_id, at)
    ) WITHOUT ROWID;

    CREATE TABLE hives (
        hive_id      TEXT    NOT NULL PRIMARY KEY,
        hostname     TEXT    NOT NULL,
        port         INTEGER NOT NULL,
        mode         TEXT    NOT NULL CHECK (mode IN ('local', 'network')),
        ssh_host     TEXT,
        ssh_port     INTEGER,
        ssh_user     TEXT,
        ssh_key_path TEXT,
        capabilities TEXT    NOT NULL,
        last_seen    INTEGER NOT NULL,
        status       TEXT    NOT NULL CHECK (status IN ('online', 'offline', 'error')),
        owner        INTEGER NOT NULL
    );

    CREATE TABLE models (
        hive_id   TEXT    NOT NULL REFERENCES hives (hive_id) ON DELETE CASCADE,
        model_ref TEXT    NOT NULL,
        bytes     INTEGER NOT NULL,
        checksum  TEXT,
        last_used INTEGER NOT NULL,
        PRIMARY KEY (hive_id, model_ref)
    ) WITHOUT ROWID;

    CREATE TABLE tenants (
        tenant_id       TEXT NOT NULL PRIMARY KEY,
        daily_tokens    INTEGER,
        concurrent_jobs INTEGER
    ) WITHOUT ROWID;

    CREATE TABLE tenant_usage (
        tenant_id TEXT    NOT NULL,
        day       INTEGER NOT NULL, -- UTC, counted from 1970-01-01
        tokens    INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, day)
    ) WITHOUT ROWID;
";

/// The part of a request that stays when its text is erased; `task` is null if an older version recorded the job.
const OUTLINES: &str = "
    ALTER TABLE jobs ADD COLUMN task        TEXT CHECK (task IN ('generate', 'embed'));
    ALTER TABLE jobs ADD COLUMN max_tokens  INTEGER;
    ALTER TABLE jobs ADD COLUMN deadline_ms INTEGER;
    ALTER TABLE jobs ADD COLUMN prefix      BLOB; -- keys of 8 bytes, little-endian
";

/// How often in a row a job was taken over while it ran, without more of its answer recorded between the takeovers.
const RESTARTS: &str = "
    ALTER TABLE jobs ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
";

/// The syntax of the answer, as JSON; null if it has no parts.
const ANSWER_FORMATS: &str = "
    ALTER TABLE jobs ADD COLUMN answer_format TEXT;
";

/// Tokens of the prompt that were not computed; null if the engine does not report them.
const CACHED_TOKENS: &str = "
    ALTER TABLE jobs ADD COLUMN cached_tokens INTEGER;
";

/// The jobs without `CHECK (… IN (…))`: SQLite fills a temporary table for the list of values in every statement that
/// writes the column, which took half of the time of a job. The values are checked when a row is read.
const WITHOUT_CHECKS: &str = "
    CREATE TABLE jobs_anew (
        job_id           TEXT    NOT NULL PRIMARY KEY,
        tenant_id        TEXT,
        model_ref        TEXT    NOT NULL,
        priority         TEXT    NOT NULL, -- interactive or batch
        state            TEXT    NOT NULL, -- queued, running, complete, failed or cancelled
        worker_id        TEXT,
        submitted_at     INTEGER NOT NULL,
        started_at       INTEGER,
        completed_at     INTEGER,
        error            TEXT,
        error_code       TEXT,
        finish           TEXT,
        attempts         INTEGER NOT NULL,
        prompt_tokens    INTEGER,
        tokens_generated INTEGER NOT NULL,
        owner            INTEGER NOT NULL,
        queue_order      INTEGER NOT NULL,
        correlation_id   TEXT    NOT NULL,
        idempotency_key  TEXT,
        numerics         TEXT,
        request          TEXT,
        task             TEXT,             -- generate or embed
        max_tokens       INTEGER,
        deadline_ms      INTEGER,
        prefix           BLOB,
        output_kept      INTEGER NOT NULL DEFAULT 0,
        taken_over       INTEGER NOT NULL DEFAULT 0,
        error_details    TEXT,
        restarts         INTEGER NOT NULL DEFAULT 0,
        cached_tokens    INTEGER
    );
    INSERT INTO jobs_anew
        SELECT job_id, tenant_id, model_ref, priority, state, worker_id, submitted_at, started_at, completed_at, error,
               error_code, finish, attempts, prompt_tokens, tokens_generated, owner, queue_order, correlation_id,
               idempotency_key, numerics, request, task, max_tokens, deadline_ms, prefix, output_kept, taken_over,
               error_details, restarts, cached_tokens
        FROM jobs;
    DROP TABLE jobs;
    ALTER TABLE jobs_anew RENAME TO jobs;
    CREATE INDEX jobs_by_order  ON jobs (queue_order);
    CREATE INDEX jobs_by_tenant ON jobs (tenant_id, queue_order) WHERE tenant_id IS NOT NULL;
    CREATE INDEX jobs_live      ON jobs (owner)        WHERE completed_at IS NULL;
    CREATE INDEX jobs_ended     ON jobs (completed_at) WHERE completed_at IS NOT NULL;
";

/// The identity of the database, and its stamp: see loss_mark.rs.
const IDENTITY: &str = "
    CREATE TABLE identity (
        database TEXT    NOT NULL,
        stamp    INTEGER NOT NULL,
        at_ms    INTEGER NOT NULL
    );
    INSERT INTO identity VALUES (lower(hex(randomblob(16))), 0, 0);
";

/// Whether the whole answer of an ended job is stored, and the other values needed to return it unchanged. The vectors
/// of an answer are the row of `chunks` at -1.
const ANSWERS: &str = "
    ALTER TABLE jobs ADD COLUMN output_kept   INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN taken_over    INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN error_details TEXT; -- JSON, see outcome.rs
";

/// All limits of tenants, and their keys, as JSON.
const TENANTS: &str = "
    ALTER TABLE tenants ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE tenants ADD COLUMN keys   TEXT NOT NULL DEFAULT '[]';
    UPDATE tenants SET limits = json_object('daily_tokens', daily_tokens, 'concurrent_jobs', concurrent_jobs);
    ALTER TABLE tenants DROP COLUMN daily_tokens;
    ALTER TABLE tenants DROP COLUMN concurrent_jobs;
";

/// Versions of the policy, and the labels that owners give to hives.
const POLICIES: &str = "
    CREATE TABLE policies (
        version  INTEGER NOT NULL PRIMARY KEY,
        at       INTEGER NOT NULL,
        hash     TEXT    NOT NULL,
        origin   TEXT    NOT NULL,
        language TEXT    NOT NULL,
        source   TEXT    NOT NULL
    );

    ALTER TABLE hives ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
";

/// Flags of single workers.
const WORKERS: &str = "
    CREATE TABLE workers (
        hive_id   TEXT    NOT NULL REFERENCES hives (hive_id) ON DELETE CASCADE,
        worker_id TEXT    NOT NULL,
        pinned    INTEGER NOT NULL,
        replica   INTEGER NOT NULL,
        PRIMARY KEY (hive_id, worker_id)
    ) WITHOUT ROWID;
";
