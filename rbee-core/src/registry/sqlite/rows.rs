//! Conversion of rows to records.

use std::{str::FromStr, sync::Arc};

use rusqlite::{
    Connection, Row,
    types::{FromSql, ValueRef},
};
use serde::de::DeserializeOwned;

use super::{fault::Fault, ops::stored, outcome::Stored, token_chunks};
use crate::{
    hive_address::HiveAddress,
    id::{Epoch, HiveId},
    job::{EndedJob, Job, JobState, JobStatus, LiveJob},
    policy_source::{PolicyLanguage, PolicySource},
    priority::Priority,
    registry::{
        HiveRecord, HiveStatus, JobOutline, JobRecord, ModelRecord, PolicyFilter, PolicyOrigin,
        PolicyRecord, TenantRecord, WorkerRecord,
    },
    time::WallTime,
};

/// The columns that [`job`] reads, all but the request, which comes last.
pub(super) const JOB_COLUMNS: &str = "job_id, tenant_id, model_ref, priority, state, worker_id, submitted_at, \
    started_at, completed_at, error, error_code, finish, attempts, prompt_tokens, tokens_generated, owner, \
    queue_order, correlation_id, idempotency_key, numerics, restarts, task, max_tokens, deadline_ms, prefix, \
    output_kept, taken_over, error_details, cached_tokens, answer_format";

/// Reads the columns of a row in order.
struct Fields<'a> {
    row: &'a Row<'a>,
    table: &'static str,
    next: usize,
}

impl<'a> Fields<'a> {
    fn new(row: &'a Row<'a>, table: &'static str) -> Self {
        Self { row, table, next: 0 }
    }

    fn get<T: FromSql>(&mut self) -> Result<T, Fault> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// Parses a text column as an identifier.
    fn parse<T: FromStr>(&mut self) -> Result<T, Fault> {
        self.named(|text| text.parse().ok())
    }

    fn parse_opt<T: FromStr>(&mut self) -> Result<Option<T>, Fault> {
        match self.row.get_ref(self.next)? {
            ValueRef::Null => {
                self.next += 1;
                Ok(None)
            }
            _ => self.parse().map(Some),
        }
    }

    fn named<T>(&mut self, find: impl FnOnce(&str) -> Option<T>) -> Result<T, Fault> {
        let text = self.row.get_ref(self.next)?.as_str();
        match text.ok().and_then(find) {
            Some(value) => {
                self.next += 1;
                Ok(value)
            }
            None => Err(self.damaged(self.next)),
        }
    }

    fn number<T: TryFrom<i64>>(&mut self) -> Result<T, Fault> {
        let value: i64 = self.get()?;
        T::try_from(value).map_err(|_| self.damaged(self.next - 1))
    }

    fn number_opt<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, Fault> {
        let value: Option<i64> = self.get()?;
        value.map(|value| T::try_from(value).map_err(|_| self.damaged(self.next - 1))).transpose()
    }

    fn json_opt<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        let value: Option<String> = self.get()?;
        let read = |text: String| serde_json::from_str(&text).ok();
        value.map(|text| read(text).ok_or_else(|| self.damaged(self.next - 1))).transpose()
    }

    fn time(&mut self) -> Result<WallTime, Fault> {
        self.number().map(WallTime::from_millis)
    }

    fn time_opt(&mut self) -> Result<Option<WallTime>, Fault> {
        Ok(self.number_opt()?.map(WallTime::from_millis))
    }

    fn damaged(&self, index: usize) -> Fault {
        let column = self.row.as_ref().column_name(index).unwrap_or("?");
        let value = match self.row.get_ref(index) {
            Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).chars().take(120).collect(),
            Ok(ValueRef::Integer(number)) => number.to_string(),
            Ok(other) => format!("a value of type {}", other.data_type()),
            Err(error) => error.to_string(),
        };
        Fault::Damaged { table: self.table, column: column.to_owned(), value }
    }
}

/// A job from its [`JOB_COLUMNS`], without its text.
pub(super) fn job(row: &Row<'_>) -> Result<JobRecord, Fault> {
    let mut fields = Fields::new(row, "jobs");
    let id = fields.parse()?;
    let tenant = fields.parse_opt()?;
    let model = fields.parse()?;
    let priority = fields.named(|name| {
        let mut all = Priority::ALL.into_iter();
        all.find(|priority| priority.as_str() == name)
    })?;
    let state = fields.named(JobState::from_name)?;
    let worker = fields.parse_opt()?;
    let submitted_at = fields.time()?;
    let started_at = fields.time_opt()?;
    let completed_at = fields.time_opt()?;
    let (message, code, finish) = (fields.get()?, fields.get()?, fields.get()?);
    let attempts = fields.number()?;
    let (prompt_tokens, tokens_generated) = (fields.number_opt()?, fields.number()?);
    let (owner, order) = (Epoch(fields.number()?), fields.number()?);
    let (correlation_id, idempotency) = (fields.parse()?, fields.parse_opt()?.map(Arc::new));
    let numerics = fields.get::<Option<String>>()?.map(Arc::from);
    let restarts = fields.number()?;
    let outline = outline(&mut fields)?;
    let (output_kept, taken_over) = (fields.get()?, fields.get()?);
    let (answer, details) = (tokens_generated, fields.get()?);
    let cached_tokens = fields.number_opt()?;
    let format = fields.json_opt()?.unwrap_or_default();
    let stored = Stored { finish, prompt_tokens, cached_tokens, answer, code, message, details };
    let outcome = stored.outcome(state);
    let status = match outcome {
        None => JobStatus::Live(LiveJob::from_parts(worker, started_at)),
        Some(outcome) => JobStatus::Ended(EndedJob {
            outcome,
            worker,
            started_at,
            completed_at: completed_at.unwrap_or_default(),
        }),
    };
    Ok(JobRecord {
        id,
        tenant,
        model,
        priority,
        status,
        submitted_at,
        attempts,
        tokens_generated,
        owner,
        order,
        correlation_id,
        idempotency,
        numerics,
        format,
        restarts,
        outline,
        request: None,
        chunks: Vec::new(),
        vectors: None,
        output_kept,
        taken_over,
    })
}

fn outline(fields: &mut Fields<'_>) -> Result<Option<JobOutline>, Fault> {
    let task: Option<String> = fields.get()?;
    let (max_tokens, deadline_ms) = (fields.number_opt()?, fields.number_opt()?);
    let prefix: Option<Vec<u8>> = fields.get()?;
    Ok(task.map(|task| JobOutline {
        embed: task == "embed",
        rerank: task == "rerank",
        max_tokens,
        deadline_ms,
        prefix: keys(&prefix.unwrap_or_default()),
    }))
}

/// Numbers of 8 bytes each, as [`blob`] makes them.
fn keys(bytes: &[u8]) -> Arc<[u64]> {
    bytes.as_chunks().0.iter().map(|key| u64::from_le_bytes(*key)).collect()
}

/// Keys of prefixes as they are stored.
pub(super) fn blob(keys: &[u64]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.to_le_bytes()).collect()
}

/// The request in this column. A request that can no longer be read counts as one that was not kept.
pub(super) fn request(row: &Row<'_>, column: usize) -> Result<Option<Arc<Job>>, Fault> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| {
        serde_json::from_str(&text)
            .inspect_err(|error| {
                let job: Option<String> = row.get(0).ok();
                tracing::warn!(?job, %error, "the stored request cannot be read");
            })
            .ok()
            .map(Arc::new)
    }))
}

/// Reads the whole recorded answer of a job into its record.
pub(super) fn read_answer(db: &Connection, record: &mut JobRecord) -> Result<(), Fault> {
    let mut stretches =
        db.prepare_cached("SELECT at, data FROM pieces WHERE job_id = ?1 ORDER BY at")?;
    let mut stretches = stretches.query([record.id.text()])?;
    while let Some(row) = stretches.next()? {
        let data = row.get_ref(1)?.as_blob().unwrap_or(&[0xff]);
        let is_sound = if row.get::<_, i64>(0)? == token_chunks::VECTORS {
            record.vectors = token_chunks::decode_vectors(data).map(Arc::new);
            record.vectors.is_some()
        } else {
            token_chunks::decode(data, &mut record.chunks)
        };
        if !is_sound {
            return Err(Fault::Damaged {
                table: "pieces",
                column: "data".into(),
                value: format!("the answer of job {}", record.id),
            });
        }
    }
    Ok(())
}

/// Live jobs without a current owner, in the order of the queue, as if `epoch` owned them.
pub(super) fn ownerless_jobs(db: &Connection, epoch: Epoch) -> Result<Vec<JobRecord>, Fault> {
    let mut select = db.prepare_cached(&format!(
        "SELECT {JOB_COLUMNS}, request FROM jobs
         WHERE completed_at IS NULL AND owner NOT IN (SELECT epoch FROM queens)
         ORDER BY queue_order, job_id"
    ))?;
    let request_column = select.column_count() - 1;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut record = job(row)?;
        (record.owner, record.taken_over) = (epoch, true);
        record.request = request(row, request_column)?;
        if record.tokens_generated > 0 {
            read_answer(db, &mut record)?;
        }
        found.push(record);
    }
    Ok(found)
}

/// Hives without a current owner.
pub(super) fn ownerless_hives(db: &Connection) -> Result<Vec<HiveRecord>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT hive_id, hostname, port, mode, ssh_host, ssh_port, ssh_user, ssh_key_path, capabilities, last_seen,
                status, labels
         FROM hives WHERE owner NOT IN (SELECT epoch FROM queens) ORDER BY hive_id",
    )?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(hive(row)?);
    }
    Ok(found)
}

fn hive(row: &Row<'_>) -> Result<HiveRecord, Fault> {
    let mut fields = Fields::new(row, "hives");
    let id = fields.parse()?;
    let hostname = fields.get()?;
    let port = fields.number()?;
    let is_local = fields.named(|mode| match mode {
        "local" => Some(true),
        "network" => Some(false),
        _ => None,
    })?;
    let ssh_host: Option<String> = fields.get()?;
    let ssh_port: Option<u16> = fields.number_opt()?;
    let ssh_user: Option<String> = fields.get()?;
    let ssh_key_path = fields.get()?;
    let address = match ssh_host {
        _ if is_local => HiveAddress::Local,
        None => HiveAddress::Http,
        Some(ssh_host) => HiveAddress::Network {
            ssh_host,
            ssh_port: ssh_port.ok_or_else(|| fields.damaged(5))?,
            ssh_user: ssh_user.ok_or_else(|| fields.damaged(6))?,
            ssh_key_path,
        },
    };
    Ok(HiveRecord {
        id,
        hostname,
        port,
        address,
        capabilities: fields.named(|text| serde_json::from_str(text).ok())?,
        last_seen: fields.time()?,
        status: fields.named(|name| {
            [HiveStatus::Online, HiveStatus::Offline, HiveStatus::Error]
                .into_iter()
                .find(|status| status.as_str() == name)
        })?,
        labels: fields.named(|text| serde_json::from_str(text).ok())?,
    })
}

/// The models on the disk of a hive.
pub(super) fn models_of(db: &Connection, hive: &HiveId) -> Result<Vec<ModelRecord>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT model_ref, bytes, checksum, last_used FROM models WHERE hive_id = ?1 ORDER BY model_ref",
    )?;
    let mut rows = select.query([hive.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut fields = Fields::new(row, "models");
        found.push(ModelRecord {
            hive: hive.clone(),
            model: fields.parse()?,
            bytes: fields.number()?,
            checksum: fields.get()?,
            last_used: fields.time()?,
        });
    }
    Ok(found)
}

/// Flags of the workers of a hive.
pub(super) fn workers_of(db: &Connection, hive: &HiveId) -> Result<Vec<WorkerRecord>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT worker_id, pinned, replica FROM workers WHERE hive_id = ?1 ORDER BY worker_id",
    )?;
    let mut rows = select.query([hive.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut fields = Fields::new(row, "workers");
        found.push(WorkerRecord {
            hive: hive.clone(),
            worker: fields.parse()?,
            pinned: fields.get()?,
            replica: fields.get()?,
        });
    }
    Ok(found)
}

/// Versions of the policy, the newest last.
pub(super) fn policies(db: &Connection, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT version, at, hash, origin, language, source FROM policies
         WHERE version = ?1 OR ?1 IS NULL ORDER BY version DESC LIMIT ?2",
    )?;
    let mut rows = select.query((filter.version.map(stored), stored(filter.limit)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(policy_of(row)?);
    }
    found.reverse();
    Ok(found)
}

fn policy_of(row: &Row<'_>) -> Result<PolicyRecord, Fault> {
    let mut fields = Fields::new(row, "policies");
    Ok(PolicyRecord {
        version: fields.number()?,
        at: fields.time()?,
        hash: fields.get()?,
        origin: fields
            .named(|name| PolicyOrigin::ALL.into_iter().find(|origin| origin.as_str() == name))?,
        source: PolicySource {
            language: fields.named(|name| {
                PolicyLanguage::ALL.into_iter().find(|language| language.as_str() == name)
            })?,
            text: fields.get::<String>()?.into(),
        },
    })
}

/// All tenants, with their usage of this day.
pub(super) fn tenants(db: &Connection, day: u64) -> Result<Vec<TenantRecord>, Fault> {
    let mut select = db.prepare_cached(
        "SELECT tenants.tenant_id, limits, keys, coalesce(tokens, 0)
         FROM tenants LEFT JOIN tenant_usage
              ON tenant_usage.tenant_id = tenants.tenant_id AND day = ?1
         ORDER BY tenants.tenant_id",
    )?;
    let mut rows = select.query([stored(day)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut fields = Fields::new(row, "tenants");
        found.push(TenantRecord {
            id: fields.parse()?,
            limits: fields.named(|text| serde_json::from_str(text).ok())?,
            keys: fields.named(|text| serde_json::from_str(text).ok())?,
            used_tokens: fields.number()?,
        });
    }
    Ok(found)
}
