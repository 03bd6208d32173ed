//! The effect of each change on the tables. Runs inside a transaction that the writer has begun.
//!
//! The condition of each statement includes the check of the owner; only if the statement changed nothing is the reason
//! read. So the usual case costs one statement.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    fault::{Fault, Refusal},
    ops::{JobStart, Op, Stretch, format_json, json, stored, stored_time},
    outcome::Columns,
    rows, token_chunks,
};
use crate::{
    event::Outcome,
    hive_address::HiveAddress,
    id::{Epoch, HiveId, IdText},
    job::{JobState, JobStatus},
    registry::{
        Change, HiveRecord, JobRecord, ModelRecord, POLICIES_KEPT, PolicyRecord, TenantRecord,
        WorkerRecord, rules,
    },
    time::WallTime,
};

/// Writes one change, or returns the reason of the refusal. A change to a missing row is ignored.
pub(super) fn apply(db: &Connection, epoch: Epoch, op: &Op) -> Result<(), Refusal> {
    match op {
        Op::JobQueued { record, request, chunks, vectors, start } => {
            let start = start.as_ref();
            job_queued(db, epoch, (record, start), request.as_deref(), chunks, vectors.as_deref())
        }
        Op::JobRunning { job, start } => job_running(db, epoch, job, start),
        Op::JobTokens { job, stretch } => job_tokens(db, epoch, job, stretch),
        Op::JobVectors { job, data } => job_vectors(db, epoch, job, data),
        Op::HivePut { record, capabilities, labels } => {
            hive_put(db, epoch, record, capabilities, labels)
        }
        Op::Plain(change) => plain(db, epoch, change),
    }
}

fn plain(db: &Connection, epoch: Epoch, change: &Change) -> Result<(), Refusal> {
    match change {
        Change::JobRequeued { job, attempts } => {
            let job = job.text();
            let changed = db
                .prepare_cached(
                    "UPDATE jobs SET state = 'queued', worker_id = NULL, attempts = ?3
                     WHERE job_id = ?1 AND owner = ?2 AND completed_at IS NULL",
                )?
                .execute(params![job.as_str(), stored(epoch.0), attempts])?;
            job_touched(db, epoch, &job, changed)
        }
        Change::JobEnded { job, outcome, at, used_tokens, keep_request, keep_output } => {
            let job = job.text();
            job_ended(db, epoch, &job, outcome, (*at, *used_tokens), *keep_request, *keep_output)
        }
        Change::JobErased { job } => Ok(job_erased(db, &job.text())?),
        Change::HiveGone(hive) => {
            let changed = db
                .prepare_cached("DELETE FROM hives WHERE hive_id = ?1 AND owner = ?2")?
                .execute(params![hive.as_str(), stored(epoch.0)])?;
            hive_touched(db, epoch, hive, changed)
        }
        Change::ModelPut(record) => model_put(db, epoch, record),
        Change::ModelGone { hive, model } => {
            let changed = db
                .prepare_cached(
                    "DELETE FROM models WHERE hive_id = ?1 AND model_ref = ?3
                     AND EXISTS (SELECT 1 FROM hives WHERE hive_id = ?1 AND owner = ?2)",
                )?
                .execute(params![hive.as_str(), stored(epoch.0), model.as_str()])?;
            hive_touched(db, epoch, hive, changed)
        }
        Change::WorkerPut(record) => worker_put(db, epoch, record),
        Change::WorkerGone { hive, worker } => {
            let changed = db
                .prepare_cached(
                    "DELETE FROM workers WHERE hive_id = ?1 AND worker_id = ?3
                     AND EXISTS (SELECT 1 FROM hives WHERE hive_id = ?1 AND owner = ?2)",
                )?
                .execute(params![hive.as_str(), stored(epoch.0), worker.text().as_str()])?;
            hive_touched(db, epoch, hive, changed)
        }
        Change::TenantPut(record) => Ok(tenant_put(db, record)?),
        Change::TenantGone(tenant) => {
            db.prepare_cached("DELETE FROM tenants WHERE tenant_id = ?1")?
                .execute([tenant.as_str()])?;
            Ok(())
        }
        Change::PolicyPut(record) => Ok(policy_put(db, record)?),
        // Encoded by their callers: see Op::new.
        Change::JobQueued(_)
        | Change::JobRunning { .. }
        | Change::JobTokens { .. }
        | Change::JobVectors { .. }
        | Change::HivePut(_) => apply(db, epoch, &Op::new(change)?),
    }
}

fn job_running(
    db: &Connection,
    epoch: Epoch,
    job: &IdText,
    start: &JobStart,
) -> Result<(), Refusal> {
    let changed = db
        .prepare_cached(
            "UPDATE jobs SET state = 'running', worker_id = ?3, attempts = ?4,
                    started_at = coalesce(started_at, ?5),
                    numerics = CASE WHEN tokens_generated = 0 THEN ?6 ELSE numerics END,
                    answer_format = CASE WHEN tokens_generated = 0 THEN ?7 ELSE answer_format END
             WHERE job_id = ?1 AND owner = ?2 AND completed_at IS NULL",
        )?
        .execute(params![
            job.as_str(),
            stored(epoch.0),
            start.worker.text().as_str(),
            start.attempt,
            stored_time(start.at),
            start.numerics,
            start.format,
        ])?;
    job_touched(db, epoch, job, changed)
}

fn job_queued(
    db: &Connection,
    epoch: Epoch,
    (record, start): (&JobRecord, Option<&JobStart>),
    request: Option<&str>,
    stretch: &Stretch,
    vectors: Option<&[u8]>,
) -> Result<(), Refusal> {
    let job = record.id.text();
    let worker =
        start.map(|start| start.worker).or(record.status.worker()).map(|worker| worker.text());
    let state = if start.is_some() { JobState::Running } else { record.status.state() };
    let started_at = start.map(|start| start.at).or(record.status.started_at());
    let numerics = match start {
        Some(start) if stretch.end() == 0 => Some(&start.numerics),
        _ => record.numerics.as_ref(),
    };
    let format = match start {
        Some(start) if stretch.end() == 0 => start.format.clone(),
        _ => format_json(record.format)?,
    };
    let ended = match &record.status {
        JobStatus::Live(_) => None,
        JobStatus::Ended(ended) => Some(ended),
    };
    let outcome = ended.map(|ended| Columns::of(&ended.outcome)).transpose()?.unwrap_or_default();
    let outline = record.outline.as_ref();
    let tokens = match ended {
        None => stretch.end(),
        Some(_) => i64::from(outcome.answer.unwrap_or(record.tokens_generated)),
    };
    let changed = db
        .prepare_cached(
            "INSERT INTO jobs (job_id, tenant_id, model_ref, priority, state, worker_id, submitted_at, started_at,
                               completed_at, error, error_code, finish, attempts, prompt_tokens, tokens_generated,
                               owner, queue_order, correlation_id, idempotency_key, numerics, request,
                               task, max_tokens, deadline_ms, prefix, output_kept, taken_over, error_details,
                               restarts, cached_tokens, answer_format)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                     ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31)
             ON CONFLICT (job_id) DO NOTHING",
        )?
        .execute(params![
            job.as_str(),
            record.tenant.as_ref().map(|tenant| tenant.as_str()),
            record.model.as_str(),
            record.priority.as_str(),
            state.as_str(),
            worker.as_ref().map(IdText::as_str),
            stored_time(record.submitted_at),
            started_at.map(stored_time),
            ended.map(|ended| stored_time(ended.completed_at)),
            outcome.message,
            outcome.code,
            outcome.finish,
            start.map_or(record.attempts, |start| start.attempt),
            outcome.prompt_tokens,
            tokens,
            stored(epoch.0),
            stored(record.order),
            record.correlation_id.as_str(),
            record.idempotency.as_ref().map(ToString::to_string),
            numerics,
            request,
            outline.map(|outline| match (outline.embed, outline.rerank) {
                (true, _) => "embed",
                (false, true) => "rerank",
                (false, false) => "generate",
            }),
            outline.and_then(|outline| outline.max_tokens),
            outline.and_then(|outline| outline.deadline_ms).map(stored),
            outline.map(|outline| rows::blob(&outline.prefix)),
            record.output_kept,
            record.taken_over,
            outcome.details,
            record.restarts,
            outcome.cached_tokens,
            format,
        ])?;
    if changed == 0 {
        job_touched(db, epoch, &job, changed)?;
        return start.map_or(Ok(()), |start| job_running(db, epoch, &job, start));
    }
    if let Some(data) = vectors {
        put_stretch(db, &job, token_chunks::VECTORS, data)?;
    }
    Ok(put_chunks(db, &job, stretch)?)
}

fn job_vectors(db: &Connection, epoch: Epoch, job: &IdText, data: &[u8]) -> Result<(), Refusal> {
    let changed = db
        .prepare_cached(
            "INSERT INTO pieces (job_id, at, data)
             SELECT job_id, ?3, ?4 FROM jobs
             WHERE job_id = ?1 AND owner = ?2 AND completed_at IS NULL
             ON CONFLICT (job_id, at) DO UPDATE SET data = excluded.data",
        )?
        .execute(params![job.as_str(), stored(epoch.0), token_chunks::VECTORS, data])?;
    job_touched(db, epoch, job, changed)
}

fn job_tokens(
    db: &Connection,
    epoch: Epoch,
    job: &IdText,
    stretch: &Stretch,
) -> Result<(), Refusal> {
    let changed = db
        .prepare_cached(
            "UPDATE jobs SET tokens_generated = ?4, restarts = 0
             WHERE job_id = ?1 AND owner = ?2 AND completed_at IS NULL AND tokens_generated = ?3",
        )?
        .execute(params![job.as_str(), stored(epoch.0), stretch.at, stretch.end()])?;
    if changed == 0 {
        return job_touched(db, epoch, job, changed);
    }
    Ok(put_chunks(db, job, stretch)?)
}

fn put_chunks(db: &Connection, job: &IdText, stretch: &Stretch) -> Result<(), Fault> {
    if stretch.count > 0 {
        put_stretch(db, job, stretch.at.into(), &stretch.data)?;
    }
    Ok(())
}

fn put_stretch(db: &Connection, job: &IdText, at: i64, data: &[u8]) -> Result<(), Fault> {
    db.prepare_cached("INSERT INTO pieces (job_id, at, data) VALUES (?1, ?2, ?3)")?
        .execute(params![job.as_str(), at, data])?;
    Ok(())
}

fn job_ended(
    db: &Connection,
    epoch: Epoch,
    job: &IdText,
    outcome: &Outcome,
    (at, used_tokens): (WallTime, u64),
    keep_request: bool,
    keep_output: bool,
) -> Result<(), Refusal> {
    let state = match outcome {
        Outcome::Complete { .. } => "complete",
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled => "cancelled",
    };
    let columns = Columns::of(outcome)?;
    let changed = db
        .prepare_cached(
            "UPDATE jobs SET state = ?3, completed_at = ?4, error = ?5, error_code = ?6, finish = ?7,
                    prompt_tokens = ?8, tokens_generated = coalesce(?9, tokens_generated),
                    request = CASE WHEN ?10 THEN request END, output_kept = ?11, error_details = ?12,
                    cached_tokens = ?13
             WHERE job_id = ?1 AND owner = ?2 AND completed_at IS NULL",
        )?
        .execute(params![
            job.as_str(),
            stored(epoch.0),
            state,
            stored_time(at),
            columns.message,
            columns.code,
            columns.finish,
            columns.prompt_tokens,
            columns.answer,
            keep_request,
            keep_output,
            columns.details,
            columns.cached_tokens,
        ])?;
    if changed == 0 {
        return job_touched(db, epoch, job, changed);
    }
    if !keep_output {
        db.prepare_cached("DELETE FROM pieces WHERE job_id = ?1")?.execute([job.as_str()])?;
    }
    if used_tokens > 0 {
        db.prepare_cached(
            "INSERT INTO tenant_usage (tenant_id, day, tokens)
             SELECT tenant_id, ?2, ?3 FROM jobs WHERE job_id = ?1 AND tenant_id IS NOT NULL
             ON CONFLICT (tenant_id, day) DO UPDATE SET tokens = tokens + excluded.tokens",
        )?
        .execute(params![job.as_str(), stored(rules::day(at)), stored(used_tokens)])?;
    }
    Ok(())
}

/// Whoever owned the job: nothing about a job that has ended can change in another run.
fn job_erased(db: &Connection, job: &IdText) -> Result<(), rusqlite::Error> {
    let changed = db
        .prepare_cached(
            "UPDATE jobs SET request = NULL, output_kept = 0
             WHERE job_id = ?1 AND completed_at IS NOT NULL",
        )?
        .execute([job.as_str()])?;
    if changed > 0 {
        db.prepare_cached("DELETE FROM pieces WHERE job_id = ?1")?.execute([job.as_str()])?;
    }
    Ok(())
}

fn hive_put(
    db: &Connection,
    epoch: Epoch,
    record: &HiveRecord,
    capabilities: &str,
    labels: &str,
) -> Result<(), Refusal> {
    let (mode, host, port, user, key) = match &record.address {
        HiveAddress::Local => ("local", None, None, None, None),
        // No SSH login: the hive is reached directly over HTTP.
        HiveAddress::Http => ("network", None, None, None, None),
        HiveAddress::Network { ssh_host, ssh_port, ssh_user, ssh_key_path } => {
            ("network", Some(ssh_host), Some(ssh_port), Some(ssh_user), ssh_key_path.as_ref())
        }
    };
    let changed = db
        .prepare_cached(
            "INSERT INTO hives (hive_id, owner, hostname, port, mode, ssh_host, ssh_port, ssh_user, ssh_key_path,
                                capabilities, last_seen, status, labels)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (hive_id) DO UPDATE SET
                 hostname = excluded.hostname, port = excluded.port, mode = excluded.mode,
                 ssh_host = excluded.ssh_host, ssh_port = excluded.ssh_port, ssh_user = excluded.ssh_user,
                 ssh_key_path = excluded.ssh_key_path, capabilities = excluded.capabilities,
                 last_seen = excluded.last_seen, status = excluded.status,
                 labels = excluded.labels
             WHERE owner = excluded.owner",
        )?
        .execute(params![
            record.id.as_str(),
            stored(epoch.0),
            record.hostname,
            record.port,
            mode,
            host,
            port,
            user,
            key,
            capabilities,
            stored_time(record.last_seen),
            record.status.as_str(),
            labels,
        ])?;
    hive_touched(db, epoch, &record.id, changed)
}

fn model_put(db: &Connection, epoch: Epoch, record: &ModelRecord) -> Result<(), Refusal> {
    let changed = db
        .prepare_cached(
            "INSERT INTO models (hive_id, model_ref, bytes, checksum, last_used)
             SELECT hive_id, ?3, ?4, ?5, ?6 FROM hives WHERE hive_id = ?1 AND owner = ?2
             ON CONFLICT (hive_id, model_ref) DO UPDATE SET
                 bytes = excluded.bytes, checksum = excluded.checksum, last_used = excluded.last_used",
        )?
        .execute(params![
            record.hive.as_str(),
            stored(epoch.0),
            record.model.as_str(),
            stored(record.bytes),
            record.checksum,
            stored_time(record.last_used),
        ])?;
    hive_touched(db, epoch, &record.hive, changed)
}

fn worker_put(db: &Connection, epoch: Epoch, record: &WorkerRecord) -> Result<(), Refusal> {
    let changed = db
        .prepare_cached(
            "INSERT INTO workers (hive_id, worker_id, pinned, replica)
             SELECT hive_id, ?3, ?4, ?5 FROM hives WHERE hive_id = ?1 AND owner = ?2
             ON CONFLICT (hive_id, worker_id) DO UPDATE SET
                 pinned = excluded.pinned, replica = excluded.replica",
        )?
        .execute(params![
            record.hive.as_str(),
            stored(epoch.0),
            record.worker.text().as_str(),
            record.pinned,
            record.replica,
        ])?;
    hive_touched(db, epoch, &record.hive, changed)
}

fn tenant_put(db: &Connection, record: &TenantRecord) -> Result<(), Fault> {
    db.prepare_cached(
        "INSERT INTO tenants (tenant_id, limits, keys) VALUES (?1, ?2, ?3)
         ON CONFLICT (tenant_id) DO UPDATE SET limits = excluded.limits, keys = excluded.keys",
    )?
    .execute(params![record.id.as_str(), json(&record.limits)?, json(&record.keys)?])?;
    Ok(())
}

fn policy_put(db: &Connection, record: &PolicyRecord) -> Result<(), Fault> {
    db.prepare_cached(
        "INSERT INTO policies (version, at, hash, origin, language, source)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (version) DO NOTHING",
    )?
    .execute(params![
        stored(record.version),
        stored_time(record.at),
        record.hash,
        record.origin.as_str(),
        record.source.language.as_str(),
        &*record.source.text,
    ])?;
    db.prepare_cached(
        "DELETE FROM policies WHERE version <= (SELECT max(version) FROM policies) - ?1",
    )?
    .execute([stored(POLICIES_KEPT)])?;
    Ok(())
}

/// Checks the owner of a job after a statement changed no row.
fn job_touched(db: &Connection, epoch: Epoch, job: &IdText, changed: usize) -> Result<(), Refusal> {
    if changed > 0 {
        return Ok(());
    }
    let owner = db
        .prepare_cached("SELECT owner FROM jobs WHERE job_id = ?1")?
        .query_row([job.as_str()], |row| row.get(0))
        .optional()?;
    check_owner("job", job.as_str(), owner, epoch)
}

/// Checks the owner of a hive after a statement changed no row.
fn hive_touched(
    db: &Connection,
    epoch: Epoch,
    hive: &HiveId,
    changed: usize,
) -> Result<(), Refusal> {
    if changed > 0 {
        return Ok(());
    }
    let owner = db
        .prepare_cached("SELECT owner FROM hives WHERE hive_id = ?1")?
        .query_row([hive.as_str()], |row| row.get(0))
        .optional()?;
    check_owner("hive", hive.as_str(), owner, epoch)
}

fn check_owner(what: &str, id: &str, owner: Option<i64>, epoch: Epoch) -> Result<(), Refusal> {
    match owner {
        Some(owner) if owner != stored(epoch.0) => {
            let row = format_args!("{what} {id}");
            Err(Refusal::Fenced(rules::not_the_owner(row, owner, epoch)))
        }
        _ => Ok(()),
    }
}
