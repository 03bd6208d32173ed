//! Changes in the form that the writer gets: the caller has done all expensive encoding.

use std::{collections::HashMap, sync::Arc};

use super::{fault::Fault, token_chunks};
use crate::{
    answer::AnswerFormat,
    id::{IdText, JobId, WorkerId},
    job::LiveJob,
    registry::{Change, HiveRecord, JobRecord, TokenChunk},
    time::WallTime,
};

/// One change, ready to be written.
pub(super) enum Op {
    /// The record contains neither request nor answer. `start` is the first attempt, if it began in the same record: then
    /// one statement writes both.
    JobQueued {
        record: Box<JobRecord>,
        request: Option<String>,
        chunks: Stretch,
        vectors: Option<Vec<u8>>,
        start: Option<JobStart>,
    },
    JobRunning {
        job: IdText,
        start: JobStart,
    },
    JobTokens {
        job: IdText,
        stretch: Stretch,
    },
    JobVectors {
        job: IdText,
        data: Vec<u8>,
    },
    HivePut {
        record: Box<HiveRecord>,
        capabilities: String,
        labels: String,
    },
    /// A change that needs no encoding: any but those above.
    Plain(Change),
}

/// The start of an attempt.
pub(super) struct JobStart {
    pub(super) worker: WorkerId,
    pub(super) attempt: u32,
    pub(super) at: WallTime,
    pub(super) numerics: Arc<str>,
    pub(super) format: Option<String>,
}

/// A part of an answer: its position, the number of its token chunks, and their bytes.
pub(super) struct Stretch {
    pub(super) at: u32,
    pub(super) count: u32,
    pub(super) data: Vec<u8>,
}

impl Stretch {
    fn new(at: u32, chunks: &[TokenChunk]) -> Self {
        Self {
            at,
            count: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
            data: token_chunks::encode(chunks),
        }
    }

    /// The number of stored token chunks including this part.
    pub(super) fn end(&self) -> i64 {
        i64::from(self.at) + i64::from(self.count)
    }
}

/// The changes of one record, in order. A start that follows its job becomes a part of the job's row.
pub(super) fn encode(changes: &[Change]) -> Result<Vec<Op>, Fault> {
    let mut ops: Vec<Op> = Vec::with_capacity(changes.len());
    // The jobs that nothing has happened to since they were accepted in this record, and where they are.
    let mut untouched = HashMap::new();
    for change in changes {
        let queued = job_of(change).and_then(|job| untouched.remove(&job));
        let op = match (Op::new(change)?, queued.and_then(|at: usize| ops.get_mut(at))) {
            (Op::JobRunning { start: begun, .. }, Some(Op::JobQueued { start, .. })) => {
                *start = Some(begun);
                continue;
            }
            (op, _) => op,
        };
        if let Change::JobQueued(record) = change
            && record.status == LiveJob::queued().into()
        {
            untouched.insert(record.id, ops.len());
        }
        ops.push(op);
    }
    Ok(ops)
}

/// The job that a change is about.
const fn job_of(change: &Change) -> Option<JobId> {
    match change {
        Change::JobQueued(record) => Some(record.id),
        Change::JobRunning { job, .. }
        | Change::JobRequeued { job, .. }
        | Change::JobTokens { job, .. }
        | Change::JobVectors { job, .. }
        | Change::JobEnded { job, .. }
        | Change::JobErased { job } => Some(*job),
        Change::HivePut(_)
        | Change::HiveGone(_)
        | Change::ModelPut(_)
        | Change::ModelGone { .. }
        | Change::WorkerPut(_)
        | Change::WorkerGone { .. }
        | Change::TenantPut(_)
        | Change::TenantGone(_)
        | Change::PolicyPut(_) => None,
    }
}

impl Op {
    pub(super) fn new(change: &Change) -> Result<Self, Fault> {
        Ok(match change {
            Change::JobQueued(record) => Self::JobQueued {
                request: record.request.as_deref().map(json).transpose()?,
                chunks: Stretch::new(0, &record.chunks),
                vectors: record
                    .vectors
                    .as_deref()
                    .map(|vectors| token_chunks::encode_vectors(vectors)),
                record: Box::new(without_text(record)),
                start: None,
            },
            Change::JobRunning { job, worker, attempt, at, numerics, format } => Self::JobRunning {
                job: job.text(),
                start: JobStart {
                    worker: *worker,
                    attempt: *attempt,
                    at: *at,
                    numerics: numerics.clone(),
                    format: format_json(*format)?,
                },
            },
            Change::JobTokens { job, at, chunks } => {
                Self::JobTokens { job: job.text(), stretch: Stretch::new(*at, chunks) }
            }
            Change::JobVectors { job, vectors } => {
                Self::JobVectors { job: job.text(), data: token_chunks::encode_vectors(vectors) }
            }
            Change::HivePut(record) => Self::HivePut {
                capabilities: json(&record.capabilities)?,
                labels: json(&record.labels)?,
                record: record.clone(),
            },
            other => Self::Plain(other.clone()),
        })
    }
}

/// A copy without the fields that are encoded separately.
fn without_text(record: &JobRecord) -> JobRecord {
    JobRecord {
        id: record.id,
        tenant: record.tenant.clone(),
        model: record.model.clone(),
        priority: record.priority,
        status: record.status.clone(),
        order: record.order,
        submitted_at: record.submitted_at,
        attempts: record.attempts,
        restarts: record.restarts,
        correlation_id: record.correlation_id.clone(),
        owner: record.owner,
        request: None,
        outline: record.outline.clone(),
        idempotency: record.idempotency.clone(),
        numerics: record.numerics.clone(),
        format: record.format,
        chunks: Vec::new(),
        vectors: None,
        output_kept: record.output_kept,
        taken_over: record.taken_over,
        tokens_generated: record.tokens_generated,
    }
}

/// The syntax of an answer as JSON; `None` for the default.
pub(super) fn format_json(format: AnswerFormat) -> Result<Option<String>, Fault> {
    (format != AnswerFormat::default()).then(|| json(&format)).transpose()
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::Io(error.into()))
}

/// A number in SQLite's range: a value above 2^63 - 1, which does not occur in practice, becomes that maximum.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn stored_time(at: WallTime) -> i64 {
    stored(at.as_millis())
}
